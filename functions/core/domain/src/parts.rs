//! Cutting a message into the parts that are stored of it. A function of the message and of where its
//! bytes are, and of nothing else, so that storing it twice is storing it once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::archive::Location;
use crate::id::{DeviceId, Mid};
use crate::message::{Body, Category, Measurement, Message};
use crate::metric::{Claim, DevicePoint, MetricName, Point, PointKey};
use crate::time::Timestamp;

/// Seconds of device time that one part of a message covers at most. Parts are cut at multiples of it
/// since the epoch, so that a range of points is found by reading from the multiple before its start
/// to the one after its stop, whatever the messages look like. It divides a day.
pub const PART_SECONDS: u32 = 300;

/// A part of a message: an item of the table `messages`. A message is one head, whose time is the
/// envelope's, and a tail for each other [`PART_SECONDS`] interval that it has samples in.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Whose.
    pub device_id: DeviceId,
    /// Of which message.
    pub mid: Mid,
    /// Head: the envelope's time. Tail: the start of its interval.
    pub ts: Timestamp,
    /// For the head: what the message is and where its bytes are.
    pub head: Option<Head>,
    /// The envelope's time, which decides between two messages that claim a point.
    pub claim_ts: Timestamp,
    /// The samples whose times lie in the interval of `ts`. Their order means nothing: metric, time and
    /// ordinal say which point each is.
    pub samples: Vec<Sample>,
    /// When the store may forget it, in seconds since the epoch.
    pub ttl: Option<i64>,
}

/// What a message is, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// What it is about.
    pub category: Category,
    /// When the broker had it.
    pub received_at: Timestamp,
    /// Its payload's length in bytes.
    pub size: u64,
    /// Where it is in the archive.
    pub location: Location,
}

/// A measurement as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What.
    pub metric: MetricName,
    /// When.
    pub time: Timestamp,
    /// See [`crate::metric::PointKey::ordinal`].
    pub ordinal: u16,
    /// How much; finite.
    pub value: f64,
    /// In what.
    pub unit: Option<String>,
}

/// Where a part stands among those of its device: by time, then by message, head before tail.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartPosition {
    /// See [`Part::ts`].
    pub ts: Timestamp,
    /// See [`Part::mid`].
    pub mid: Mid,
    /// Whether it is a tail.
    pub tail: bool,
}

impl Part {
    /// Where it stands.
    pub fn position(&self) -> PartPosition {
        PartPosition { ts: self.ts, mid: self.mid, tail: self.head.is_none() }
    }
}

impl Point {
    /// The point that a sample of a part is.
    pub fn of(part: &Part, sample: &Sample) -> Self {
        Self {
            key: PointKey {
                time: sample.time,
                metric: sample.metric.clone(),
                ordinal: sample.ordinal,
            },
            value: sample.value,
            unit: sample.unit.clone(),
            claim: Claim { ts: part.claim_ts, mid: part.mid },
        }
    }
}

/// The parts of a message: its head first, then a tail for each other interval with samples in it, also
/// where `keep` leaves none of them, so that a decision made again replaces the first one entirely.
pub fn cut(
    message: &Message,
    location: Location,
    ttl: Option<i64>,
    keep: impl Fn(&Measurement) -> bool,
) -> Vec<Part> {
    let head_interval = message.ts.floor(PART_SECONDS);
    let mut intervals: BTreeMap<Timestamp, Vec<Sample>> = BTreeMap::new();
    if let Body::Telemetry(measurements) = &message.body {
        for m in measurements {
            let samples = intervals.entry(m.ts.floor(PART_SECONDS)).or_default();
            if keep(m) {
                samples.push(Sample {
                    metric: m.metric.clone(),
                    time: m.ts,
                    ordinal: m.ordinal,
                    value: m.value,
                    unit: m.unit.clone(),
                });
            }
        }
    }
    let in_head = intervals.remove(&head_interval).unwrap_or_default();
    let mut parts = vec![Part { samples: in_head, ..head(message, location, ttl) }];
    parts.extend(intervals.into_iter().map(|(ts, samples)| Part {
        device_id: message.device_id.clone(),
        mid: message.mid,
        ts,
        head: None,
        claim_ts: message.ts,
        samples,
        ttl,
    }));
    parts
}

/// Where the parts of a message stand.
pub fn positions(message: &Message) -> Vec<PartPosition> {
    let nowhere = Location { object: String::new(), member: None };
    cut(message, nowhere, None, |_| false).iter().map(Part::position).collect()
}

/// The points of a message that `keep` lets pass.
pub fn points(message: &Message, keep: impl Fn(&Measurement) -> bool) -> Vec<DevicePoint> {
    let Body::Telemetry(measurements) = &message.body else { return Vec::new() };
    let point = |m: &Measurement| DevicePoint {
        device_id: message.device_id.clone(),
        point: Point {
            key: PointKey { time: m.ts, metric: m.metric.clone(), ordinal: m.ordinal },
            value: m.value,
            unit: m.unit.clone(),
            claim: Claim { ts: message.ts, mid: message.mid },
        },
    };
    measurements.iter().filter(|m| keep(m)).map(point).collect()
}

/// The head of a message alone, without samples: all that is stored of it here when the measurements are in
/// a store of their own.
pub fn head(message: &Message, location: Location, ttl: Option<i64>) -> Part {
    let head = Head {
        category: message.category,
        received_at: message.received.received_at,
        size: message.received.payload.len() as u64,
        location,
    };
    Part {
        device_id: message.device_id.clone(),
        mid: message.mid,
        ts: message.ts,
        head: Some(head),
        claim_ts: message.ts,
        samples: Vec::new(),
        ttl,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::message::{Received, parse};

    #[test]
    fn a_message_is_cut_where_the_clock_says_and_no_sample_is_lost() {
        let payload = json!({"v": 2, "device_id": "m", "seq": 1, "msg_type": "telemetry", "ts": "2026-01-01T00:05:01Z",
            "measurements": [
                {"type": "pf", "val": 1, "ts": "2026-01-01T00:04:59.999Z"},
                {"type": "pf", "val": 2, "ts": "2026-01-01T00:05:00Z"},
                {"type": "pf", "val": 3},
                {"type": "pf", "val": 4, "ts": "1970-01-01T00:00:00Z"}]});
        let message = parse(&Received {
            topic: "iot/m/telemetry".to_owned(),
            payload: payload.to_string().into(),
            received_at: Timestamp::parse("2026-01-01T00:05:02Z").unwrap(),
        })
        .unwrap();
        let location = Location { object: "o".to_owned(), member: None };
        let parts = cut(&message, location, None, |_| true);
        let seen: Vec<_> = parts
            .iter()
            .map(|p| {
                (p.ts.to_string(), p.head.is_some(), p.samples.iter().map(|s| s.value).collect())
            })
            .collect::<Vec<(_, _, Vec<f64>)>>();
        assert_eq!(
            seen,
            [
                ("2026-01-01T00:05:01Z".to_owned(), true, vec![2.0, 3.0]),
                ("1970-01-01T00:00:00Z".to_owned(), false, vec![4.0]),
                ("2026-01-01T00:00:00Z".to_owned(), false, vec![1.0]),
            ]
        );
        for part in &parts {
            assert!(
                part.samples
                    .iter()
                    .all(|s| s.time.floor(PART_SECONDS) == part.ts.floor(PART_SECONDS))
            );
        }
    }
}
