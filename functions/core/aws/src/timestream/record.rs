//! Points as Timestream records.
//!
//! A multi-measure record has the points of one message, device, instant and sample index:
//!
//! | | |
//! |---|---|
//! | `time` | the instant, in nanoseconds |
//! | `measure_name` | `iot_telemetry` |
//! | dimensions | `device_id`; `series`, which distinguishes records of one instant |
//! | measures of known metrics | a column each: `voltage_dc`, `pf`, … |
//! | measures of any other metric, in a record of its own | `metric`, `value`, `unit` |
//! | `sample_index` | the zero-based index among the samples of its metric and instant |
//! | `precedence` | of two records with the same point, the one with the greater precedence wins |
//!
//! A table has at most 1,024 different measures over its lifetime, so the names of custom metrics
//! are values: metrics that are not known, or that have another unit. `series` is a hash of the
//! columns of a record. AWS does not document what an update does to a measure that it omits; with
//! `series` in the key, records with the same key always have the same measures. Between them, the
//! record version decides, which follows from the precedence; between records with other measures,
//! the reader decides.

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

/// Columns that are no metrics.
const METRIC: &str = "metric";
const VALUE: &str = "value";
const UNIT: &str = "unit";
const SAMPLE_INDEX: &str = "sample_index";
const PRECEDENCE: &str = "precedence";

/// An invalid device id. Its only record has every column, so that queries can name all columns.
const SCHEMA_DEVICE: &str = "#schema";

/// A record and the messages that it contains.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WriteRow {
    device_id: String,
    series: String,
    nanos: i64,
    precedence: Precedence,
    measures: Vec<(String, Measure)>,
    /// The messages that are stored with this record or superseded by it.
    pub(super) message_ids: BTreeSet<MessageId>,
}

#[derive(Debug, Clone, PartialEq)]
enum Measure {
    Double(f64),
    Bigint(i64),
    Varchar(String),
}

/// Converts points to records with distinct keys, and counts the points at times that Timestream
/// cannot represent (before 1970 and after 2262).
pub(super) fn rows(points: &[DevicePoint]) -> (Vec<WriteRow>, usize) {
    let mut outside = 0;
    // The points of one message and instant by sample index.
    let mut groups: BTreeMap<(&DeviceId, MessageId, i64, u16), Vec<&Point>> = BTreeMap::new();
    for DevicePoint { device_id, point } in points {
        let nanos = i64::try_from(point.key.time.as_nanos()).ok().filter(|nanos| *nanos >= 0);
        match nanos {
            Some(nanos) => {
                let key = (device_id, point.precedence.message_id, nanos, point.key.sample_index);
                groups.entry(key).or_default().push(point);
            }
            None => outside += 1,
        }
    }
    let mut rows: BTreeMap<(String, String, i64), WriteRow> = BTreeMap::new();
    for ((device_id, message_id, nanos, sample_index), points) in groups {
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
                // The superseded message counts as stored as soon as the other record is.
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

/// Returns whether a point is stored in the column of its metric.
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
    // Timestream rejects empty texts.
    let unit = point.unit.clone().filter(|unit| !unit.is_empty());
    let has_unit = unit.is_some();
    measures.extend(unit.map(|unit| (UNIT.to_owned(), Measure::Varchar(unit))));
    // Records with and without a unit have different columns.
    let kind = if has_unit { "u" } else { "n" };
    (format!("{kind}:{}", point.key.metric), point.precedence, measures)
}

/// Encodes a precedence as text with the same order.
fn precedence_text(precedence: &Precedence) -> String {
    format!("{}#{}", precedence.ts.key(), precedence.message_id)
}

/// Parses a text of [`precedence_text`].
pub(super) fn parse_precedence(text: &str) -> Option<Precedence> {
    let (ts, message_id) = text.split_once('#')?;
    Some(Precedence { ts: Timestamp::parse(ts).ok()?, message_id: MessageId::parse(message_id)? })
}

/// Returns a record version with the order of precedences: the microseconds of the envelope time
/// and the first twelve bits of the message id.
///
/// Of two messages in the same microsecond, one pair in 4,096 has the same version; the record that
/// was stored first then wins.
fn version(precedence: &Precedence) -> i64 {
    const MAX_MICROS: i128 = (1 << 51) - 1;
    let micros = (precedence.ts.as_nanos() / 1_000).clamp(0, MAX_MICROS);
    let [first, second, ..] = *precedence.message_id.as_bytes();
    let bits = (i128::from(first) << 4) | (i128::from(second) >> 4);
    i64::try_from((micros << 12) | bits).unwrap_or(i64::MAX).max(1)
}

impl WriteRow {
    /// Creates the record with every column; `now` must be within the retention period.
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

    /// Builds the SDK record without the common attributes.
    ///
    /// # Errors
    /// If a required field is missing.
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
                // The shortest text that parses to the same double.
                Measure::Double(value) => (MeasureValueType::Double, format!("{value:?}")),
                Measure::Bigint(value) => (MeasureValueType::Bigint, value.to_string()),
                Measure::Varchar(value) => (MeasureValueType::Varchar, value.clone()),
            };
            let value = MeasureValue::builder().name(name).value(value).r#type(kind).build()?;
            record = record.measure_values(value);
        }
        Ok(record.build())
    }

    /// Returns the attributes that all records have in common.
    pub(super) fn common() -> Record {
        Record::builder()
            .measure_name(MEASURE_NAME)
            .measure_value_type(MeasureValueType::Multi)
            .time_unit(TimeUnit::Nanoseconds)
            .build()
    }
}

/// Returns the metrics that have a column.
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
    fn known_metrics_share_a_record_and_custom_metrics_have_one_each() {
        let (rows, outside) = rows(&[
            point("voltage_dc", 1, 0, 1.0, Some("V"), "a"),
            point("current_dc", 1, 0, 2.0, None, "a"),
            point("humidity", 1, 0, 3.0, Some("%"), "a"),
            point("temperature", 1, 0, 4.0, Some("K"), "a"),
            point("voltage_dc", 1, 1, 5.0, None, "a"),
            point("voltage_dc", -1, 0, 6.0, None, "a"),
        ]);
        assert_eq!((rows.len(), outside), (4, 1));
        let measures: Vec<_> = rows.iter().map(|row| row.measures.len()).collect();
        assert_eq!(measures.iter().sum::<usize>(), 4 + 3 + 5 + 5);
        let series: BTreeSet<_> = rows.iter().map(|row| row.series.as_str()).collect();
        assert_eq!(series.len(), 4, "{series:?}");
    }

    #[test]
    fn message_with_greater_precedence_is_sent_for_both_messages() {
        let mut later = point("pf", 1, 0, 0.5, None, "b");
        later.point.precedence.ts = later.point.precedence.ts.next();
        let (rows, _) = rows(&[point("pf", 1, 0, 1.0, None, "a"), later.clone()]);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].precedence, rows[0].message_ids.len()), (later.point.precedence, 2));
    }

    #[test]
    fn records_with_the_same_key_have_the_same_measures() {
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
    fn versions_have_the_order_of_precedences() {
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
