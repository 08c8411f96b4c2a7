//! What a point is in Timestream.
//!
//! One multi-measure record holds what one message says of a device at one instant:
//!
//! | | |
//! |---|---|
//! | `time` | the instant, in nanoseconds |
//! | `measure_name` | `iot_telemetry` |
//! | dimensions | `device_id`; `series`, which tells records of one instant apart |
//! | measures of metrics known by name | a column each: `voltage_dc`, `pf`, … |
//! | measures of any other metric, one a record | `metric`, `value`, `unit` |
//! | `sample_index` | the how-manieth sample of its metric and instant |
//! | `precedence` | who says so; of two records with one point the greater precedence counts |
//!
//! A table takes 1,024 different measures for ever, so devices must not make up columns: what is not known by
//! name, or comes in another unit, has its name as a value. `series` names the columns of a record (a hash of
//! them), because no page of AWS says what becomes of a measure that an update of its record has not:
//! records with the same key then always hold the same measures, and the version, made of the precedence,
//! decides between them; between records with other measures the readers decide.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_timestreamwrite::error::BuildError;
use aws_sdk_timestreamwrite::types::{Dimension, MeasureValue, MeasureValueType, Record, TimeUnit};
use meter_domain::id::{DeviceId, MessageId};
use meter_domain::metric::DevicePoint;
use meter_domain::metric::{KNOWN_METRICS, MetricName, Point, Precedence};
use meter_domain::time::Timestamp;
use sha2::{Digest, Sha256};

/// The measure name of every record.
pub(super) const MEASURE_NAME: &str = "iot_telemetry";

/// Columns that are no metrics, with their types.
const METRIC: &str = "metric";
const VALUE: &str = "value";
const UNIT: &str = "unit";
const SAMPLE_INDEX: &str = "sample_index";
const PRECEDENCE: &str = "precedence";

/// A device that there cannot be, whose one record has every column: a query may then name any.
const SCHEMA_DEVICE: &str = "#schema";

/// A record, and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WriteRow {
    device_id: String,
    series: String,
    nanos: i64,
    precedence: Precedence,
    measures: Vec<(String, Measure)>,
    /// The messages that are stored when it is, or when what stands in its place is.
    pub(super) message_ids: BTreeSet<MessageId>,
}

#[derive(Debug, Clone, PartialEq)]
enum Measure {
    Double(f64),
    Bigint(i64),
    Varchar(String),
}

/// Points as records, each key once, and how many points lie at times that Timestream has none for (before
/// 1970, after 2262).
pub(super) fn rows(points: &[DevicePoint]) -> (Vec<WriteRow>, usize) {
    let mut outside = 0;
    // What one message says of one instant, by sample_index.
    let mut said: BTreeMap<(&DeviceId, MessageId, i64, u16), Vec<&Point>> = BTreeMap::new();
    for DevicePoint { device_id, point } in points {
        let nanos = i64::try_from(point.key.time.as_nanos()).ok().filter(|nanos| *nanos >= 0);
        match nanos {
            Some(nanos) => {
                let key = (device_id, point.precedence.message_id, nanos, point.key.sample_index);
                said.entry(key).or_default().push(point);
            }
            None => outside += 1,
        }
    }
    let mut rows: BTreeMap<(String, String, i64), WriteRow> = BTreeMap::new();
    for ((device_id, message_id, nanos, sample_index), points) in said {
        let (columns, others): (Vec<_>, Vec<_>) = points.into_iter().partition(has_column);
        let known = (!columns.is_empty()).then(|| known_metrics_record(&columns));
        let others = others.into_iter().map(custom_metric_record);
        for (series, precedence, mut measures) in known.into_iter().chain(others) {
            measures.push((SAMPLE_INDEX.to_owned(), Measure::Bigint(i64::from(sample_index))));
            measures.push((PRECEDENCE.to_owned(), Measure::Varchar(precedence_text(&precedence))));
            let series =
                if sample_index == 0 { series } else { format!("{series}:{sample_index}") };
            let device_id = device_id.as_str().to_owned();
            let key = (device_id.clone(), series.clone(), nanos);
            let message_ids = BTreeSet::from([message_id]);
            let row = WriteRow { device_id, series, nanos, precedence, measures, message_ids };
            match rows.get_mut(&key) {
                // The lesser one is stored as good as the greater one is.
                Some(held) if held.precedence >= row.precedence => {
                    held.message_ids.extend(row.message_ids)
                }
                Some(held) => {
                    let message_ids = std::mem::replace(held, row).message_ids;
                    held.message_ids.extend(message_ids);
                }
                None => drop(rows.insert(key, row)),
            }
        }
    }
    (rows.into_values().collect(), outside)
}

/// Whether a point is a value in the column of its metric.
fn has_column(point: &&Point) -> bool {
    let known = point.key.metric.known();
    known.is_some_and(|known| point.unit.as_deref().is_none_or(|unit| unit == known.unit))
}

type RecordContent = (String, Precedence, Vec<(String, Measure)>);

fn known_metrics_record(points: &[&Point]) -> RecordContent {
    let mut measures: Vec<_> = points
        .iter()
        .map(|point| (point.key.metric.to_string(), Measure::Double(point.value)))
        .collect();
    measures.sort_by(|a, b| a.0.cmp(&b.0));
    let names: Vec<_> = measures.iter().map(|(name, _)| name.as_str()).collect();
    let digest = Sha256::digest(names.join(","));
    let precedence = points
        .first()
        .map_or(Precedence { ts: Timestamp::EPOCH, message_id: MessageId::of("", b"") }, |p| {
            p.precedence
        });
    (hex::encode(&digest[..6]), precedence, measures)
}

fn custom_metric_record(point: &Point) -> RecordContent {
    let mut measures = vec![
        (METRIC.to_owned(), Measure::Varchar(point.key.metric.to_string())),
        (VALUE.to_owned(), Measure::Double(point.value)),
    ];
    // An empty text is no value of Timestream.
    let unit = point.unit.clone().filter(|unit| !unit.is_empty());
    let has_unit = unit.is_some();
    measures.extend(unit.map(|unit| (UNIT.to_owned(), Measure::Varchar(unit))));
    // With and without a unit are other columns.
    let kind = if has_unit { "u" } else { "n" };
    (format!("{kind}:{}", point.key.metric), point.precedence, measures)
}

/// A precedence as a text that sorts as claims do.
fn precedence_text(precedence: &Precedence) -> String {
    format!("{}#{}", precedence.ts.key(), precedence.message_id)
}

/// The reverse of [`precedence_text`].
pub(super) fn parse_precedence(text: &str) -> Option<Precedence> {
    let (ts, message_id) = text.split_once('#')?;
    Some(Precedence { ts: Timestamp::parse(ts).ok()?, message_id: MessageId::parse(message_id)? })
}

/// A version that grows as claims do: microseconds of the envelope's time, then the first twelve bits of the
/// identity. Claims that differ in neither are one in some thousand of those of one microsecond, and the
/// first of them to be stored stands.
fn version(precedence: &Precedence) -> i64 {
    const MAX_MICROS: i128 = (1 << 51) - 1;
    let micros = (precedence.ts.as_nanos() / 1_000).clamp(0, MAX_MICROS);
    let [first, second, ..] = *precedence.message_id.as_bytes();
    let bits = (i128::from(first) << 4) | (i128::from(second) >> 4);
    i64::try_from((micros << 12) | bits).unwrap_or(i64::MAX).max(1)
}

impl WriteRow {
    /// The record that has every column, at an instant that the table takes.
    pub(super) fn schema(now: Timestamp) -> Self {
        let metrics =
            KNOWN_METRICS.iter().map(|known| (known.name.to_owned(), Measure::Double(0.0)));
        let others = [
            (METRIC.to_owned(), Measure::Varchar("none".to_owned())),
            (VALUE.to_owned(), Measure::Double(0.0)),
            (UNIT.to_owned(), Measure::Varchar("none".to_owned())),
            (SAMPLE_INDEX.to_owned(), Measure::Bigint(0)),
            (PRECEDENCE.to_owned(), Measure::Varchar("none".to_owned())),
        ];
        Self {
            device_id: SCHEMA_DEVICE.to_owned(),
            series: SCHEMA_DEVICE.to_owned(),
            nanos: i64::try_from(now.as_nanos()).unwrap_or(0),
            precedence: Precedence { ts: now, message_id: MessageId::of("", b"") },
            measures: metrics.chain(others).collect(),
            message_ids: BTreeSet::new(),
        }
    }

    pub(super) fn version(&self) -> i64 {
        version(&self.precedence)
    }

    /// As the SDK has it, without what all records have in common.
    pub(super) fn record(&self) -> Result<Record, BuildError> {
        let dimension =
            |name: &str, value: &str| Dimension::builder().name(name).value(value).build();
        let mut record = Record::builder()
            .dimensions(dimension("device_id", &self.device_id)?)
            .dimensions(dimension("series", &self.series)?)
            .time(self.nanos.to_string())
            .version(self.version());
        for (name, measure) in &self.measures {
            let (kind, value) = match measure {
                // The shortest text that reads back as the same double.
                Measure::Double(value) => (MeasureValueType::Double, format!("{value:?}")),
                Measure::Bigint(value) => (MeasureValueType::Bigint, value.to_string()),
                Measure::Varchar(value) => (MeasureValueType::Varchar, value.clone()),
            };
            let value = MeasureValue::builder().name(name).value(value).r#type(kind).build()?;
            record = record.measure_values(value);
        }
        Ok(record.build())
    }

    /// What all records have in common.
    pub(super) fn common() -> Record {
        Record::builder()
            .measure_name(MEASURE_NAME)
            .measure_value_type(MeasureValueType::Multi)
            .time_unit(TimeUnit::Nanoseconds)
            .build()
    }
}

/// Names of the columns of metrics known by name.
pub(super) fn columns() -> impl Iterator<Item = MetricName> {
    KNOWN_METRICS.iter().filter_map(|known| MetricName::parse(known.name).ok())
}

#[cfg(test)]
mod tests {
    use meter_domain::metric::PointKey;

    use super::*;

    fn point(
        metric: &str,
        s: i64,
        sample_index: u16,
        value: f64,
        unit: Option<&str>,
        message_id: &str,
    ) -> DevicePoint {
        let time = Timestamp::EPOCH.plus_seconds(s);
        let key = PointKey { time, metric: MetricName::parse(metric).unwrap(), sample_index };
        let precedence = Precedence { ts: time, message_id: MessageId::of(message_id, b"") };
        let point = Point { key, value, unit: unit.map(str::to_owned), precedence };
        DevicePoint { device_id: DeviceId::parse("m").unwrap(), point }
    }

    #[test]
    fn what_a_message_says_of_an_instant_is_one_record_and_free_metrics_one_each() {
        let (rows, outside) = rows(&[
            point("voltage_dc", 1, 0, 1.0, Some("V"), "a"),
            point("current_dc", 1, 0, 2.0, None, "a"),
            point("humidity", 1, 0, 3.0, Some("%"), "a"),
            point("temperature", 1, 0, 4.0, Some("K"), "a"),
            point("voltage_dc", 1, 1, 5.0, None, "a"),
            point("voltage_dc", -1, 0, 6.0, None, "a"),
        ]);
        assert_eq!((rows.len(), outside), (4, 1));
        let of: Vec<_> = rows.iter().map(|row| row.measures.len()).collect();
        assert_eq!(of.iter().sum::<usize>(), 4 + 3 + 5 + 5);
        let series: BTreeSet<_> = rows.iter().map(|row| row.series.as_str()).collect();
        assert_eq!(series.len(), 4, "{series:?}");
    }

    #[test]
    fn of_two_messages_with_one_key_the_greater_claim_is_sent_for_both() {
        let mut later = point("pf", 1, 0, 0.5, None, "b");
        later.point.precedence.ts = later.point.precedence.ts.next();
        let (rows, _) = rows(&[point("pf", 1, 0, 1.0, None, "a"), later.clone()]);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].precedence, rows[0].message_ids.len()), (later.point.precedence, 2));
    }

    #[test]
    fn records_with_the_same_key_always_hold_the_same_measures() {
        let series = |points: &[DevicePoint]| rows(points).0[0].series.clone();
        let (v, i) =
            (point("voltage_dc", 1, 0, 1.0, None, "a"), point("current_dc", 1, 0, 1.0, None, "a"));
        assert_eq!(series(&[v.clone(), i.clone()]), series(&[i.clone(), v.clone()]));
        assert_ne!(series(&[v.clone(), i.clone()]), series(&[v]));
        assert_ne!(
            series(&[point("x", 1, 0, 1.0, None, "a")]),
            series(&[point("x", 1, 0, 1.0, Some("V"), "a")])
        );
    }

    #[test]
    fn versions_grow_as_claims_do_and_claims_read_back() {
        let at = |s: i64, message_id: &str| Precedence {
            ts: Timestamp::EPOCH.plus_seconds(s),
            message_id: MessageId::of(message_id, b""),
        };
        assert!(version(&at(1_800_000_000, "a")) < version(&at(1_800_000_001, "b")));
        let (a, b) = (at(5, "a"), at(5, "b"));
        assert_eq!(version(&a) < version(&b), a < b);
        assert_eq!(parse_precedence(&precedence_text(&a)), Some(a));
        assert!(version(&at(-5, "a")) >= 1);
    }
}
