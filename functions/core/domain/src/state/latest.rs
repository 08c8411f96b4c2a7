//! The newest point of each metric of a device.
//!
//! Invariants: the point of a metric is the recorded one with the greatest device time, sample
//! index and precedence, in any order of recording. The number of metrics that are not known
//! metrics is at most the limit that was passed with each point. A metric is never removed.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::metric::{MetricName, Point};

/// The newest point of each metric by device time; the keys are the metrics of the device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LatestPoints(BTreeMap<MetricName, Point>);

impl Deref for LatestPoints {
    type Target = BTreeMap<MetricName, Point>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl LatestPoints {
    /// Records a point. Returns false if its metric is new and exceeds the limit.
    pub(super) fn record(&mut self, point: Point, max_metrics: usize) -> bool {
        let is_free = |metric: &MetricName| metric.known().is_none();
        match self.0.get_mut(&point.key.metric) {
            Some(latest) if age(latest, &point).is_lt() => *latest = point,
            Some(_) => {}
            None => {
                if is_free(&point.key.metric)
                    && self.keys().filter(|metric| is_free(metric)).count() >= max_metrics
                {
                    return false;
                }
                self.0.insert(point.key.metric.clone(), point);
            }
        }
        true
    }
}

/// Compares points of one metric by device time, sample index and precedence.
fn age(a: &Point, b: &Point) -> Ordering {
    let rank = |p: &Point| (p.key.time, p.key.sample_index, p.precedence);
    rank(a).cmp(&rank(b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::MessageId;
    use crate::metric::{PointKey, Precedence};
    use crate::time::Timestamp;

    fn point((metric, time, sample_index, envelope): (u8, i64, u16, i64)) -> Point {
        let names = ["pf", "frequency", "a", "b", "c"];
        let second = |s| Timestamp::EPOCH.plus_seconds(s);
        let message_id = MessageId::of("t", &envelope.to_be_bytes());
        Point {
            key: PointKey {
                time: second(time),
                metric: MetricName::parse(names[usize::from(metric)]).unwrap(),
                sample_index,
            },
            value: 1.0,
            unit: None,
            precedence: Precedence { ts: second(envelope), message_id },
        }
    }

    proptest! {
        #[test]
        fn latest_point_is_the_greatest_within_the_metric_limit(
            points in prop::collection::vec((0_u8..5, 0_i64..9, 0_u16..3, 0_i64..9), 0..60),
            max_metrics in 0_usize..4,
        ) {
            let mut latest = LatestPoints::default();
            let mut stored = Vec::new();
            for point in points.into_iter().map(point) {
                if latest.record(point.clone(), max_metrics) {
                    stored.push(point);
                }
            }
            let free = latest.keys().filter(|metric| metric.known().is_none()).count();
            prop_assert!(free <= max_metrics);
            let mut expected: BTreeMap<MetricName, Point> = BTreeMap::new();
            stored.sort_by(age);
            expected.extend(stored.into_iter().map(|point| (point.key.metric.clone(), point)));
            prop_assert_eq!(&*latest, &expected);
        }
    }
}
