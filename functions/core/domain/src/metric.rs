//! Metrics: names, known metrics, samples and points.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{DeviceId, MessageId};
use crate::time::Timestamp;

/// Name of a metric: 1 to 64 of `A-Z a-z 0-9 _ . -` (docs/protocol.md).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MetricName(String);

/// The text is not a valid [`MetricName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 of A-Z a-z 0-9 _ . -")]
pub struct InvalidMetricName;

impl MetricName {
    /// Parses a name.
    ///
    /// # Errors
    ///
    /// The length or a character is not allowed.
    pub fn parse(text: &str) -> Result<Self, InvalidMetricName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidMetricName)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The greatest name in sort order.
    pub fn greatest() -> Self {
        Self("z".repeat(64))
    }

    /// Unit and plausible range, if the metric is a known metric.
    pub fn known(&self) -> Option<&'static KnownMetric> {
        KNOWN_METRICS.iter().find(|known| known.name == self.0)
    }
}

impl TryFrom<String> for MetricName {
    type Error = InvalidMetricName;

    fn try_from(text: String) -> Result<Self, InvalidMetricName> {
        Self::parse(&text)
    }
}

impl From<MetricName> for String {
    fn from(name: MetricName) -> Self {
        name.0
    }
}

impl fmt::Display for MetricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A metric with a predefined unit and range (docs/protocol.md, "Known metrics").
#[derive(Debug, PartialEq)]
pub struct KnownMetric {
    /// Name of the metric.
    pub name: &'static str,
    /// UCUM unit; empty for a ratio.
    pub unit: &'static str,
    /// Least plausible value, in `unit`.
    pub min: f64,
    /// Greatest plausible value, in `unit`.
    pub max: f64,
}

const fn known_metric(name: &'static str, unit: &'static str, min: f64, max: f64) -> KnownMetric {
    KnownMetric { name, unit, min, max }
}

/// All known metrics. A value outside of the range is stored and marked; see [`Quality`].
pub const KNOWN_METRICS: [KnownMetric; 13] = [
    known_metric("voltage_dc", "V", 0.0, 4_000.0),
    // Negative during regeneration.
    known_metric("current_dc", "A", -5_000.0, 5_000.0),
    known_metric("voltage_ac", "V", 0.0, 30_000.0),
    known_metric("current_ac", "A", 0.0, 2_000.0),
    known_metric("frequency", "Hz", 0.0, 60.0),
    known_metric("pf", "", -1.0, 1.0),
    known_metric("thd_v", "%", 0.0, 100.0),
    known_metric("thd_i", "%", 0.0, 100.0),
    known_metric("temperature", "Cel", -60.0, 125.0),
    known_metric("battery", "V", 0.0, 60.0),
    // Derived values; the ranges follow from those of voltage and current.
    known_metric("active_power", "W", -6e7, 6e7),
    known_metric("apparent_power", "VA", 0.0, 6e7),
    known_metric("reactive_power", "var", 0.0, 6e7),
];

/// A mark on an implausible value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// Outside of the plausible range of a known metric.
    OutOfRange,
}

impl Quality {
    /// The mark of a value; `None` if the value is plausible or the metric is not a known one.
    pub fn of(metric: &MetricName, value: f64) -> Option<Self> {
        let known = metric.known()?;
        (!(known.min..=known.max).contains(&value)).then_some(Self::OutOfRange)
    }
}

/// Identity of a point of a device.
///
/// The order of the fields is the order of query results: by time, metric, then position in the
/// message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PointKey {
    /// Device time of the sample.
    pub time: Timestamp,
    /// Name of the metric.
    pub metric: MetricName,
    /// Zero-based index of the sample among those of its metric and time in its message.
    pub sample_index: u16,
}

/// Decides between two messages with the same point: the greater precedence wins, in any order of
/// arrival (docs/adr/0007).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Precedence {
    /// Envelope time of the message.
    pub ts: Timestamp,
    /// Id of the message.
    pub message_id: MessageId,
}

/// A stored value of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Identity of the point.
    pub key: PointKey,
    /// The value; finite.
    pub value: f64,
    /// Unit as sent by the device.
    pub unit: Option<String>,
    /// Precedence of the message that contains the point.
    pub precedence: Precedence,
}

impl Point {
    /// The point that a sample of a message represents.
    pub fn new(sample: &Sample, precedence: Precedence) -> Self {
        let Sample { metric, time, sample_index, value, unit } = sample.clone();
        Self { key: PointKey { time, metric, sample_index }, value, unit, precedence }
    }

    /// See [`Quality::of`].
    pub fn quality(&self) -> Option<Quality> {
        Quality::of(&self.key.metric, self.value)
    }
}

/// A value as it stands in a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub metric: MetricName,
    /// Device time of the sample.
    pub time: Timestamp,
    /// See [`PointKey::sample_index`].
    pub sample_index: u16,
    /// The value; finite.
    pub value: f64,
    /// Unit as sent by the device.
    pub unit: Option<String>,
}

/// A value at an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimedValue {
    /// The instant.
    pub time: Timestamp,
    /// The value.
    pub value: f64,
}

/// A point with its device.
#[derive(Debug, Clone, PartialEq)]
pub struct DevicePoint {
    /// The device.
    pub device_id: DeviceId,
    /// The point.
    pub point: Point,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_implausible_values_of_known_metrics_are_marked() {
        let name = |n| MetricName::parse(n).unwrap();
        assert_eq!(Quality::of(&name("pf"), 1.0), None);
        assert_eq!(Quality::of(&name("pf"), 1.01), Some(Quality::OutOfRange));
        assert_eq!(Quality::of(&name("current_dc"), -5_000.5), Some(Quality::OutOfRange));
        assert_eq!(Quality::of(&name("humidity"), 1e300), None);
    }

    #[test]
    fn metric_name_with_invalid_characters_or_length_is_rejected() {
        assert!(MetricName::parse(&"a.b-C_9".repeat(9)).is_ok());
        for bad in ["", "a b", "é", "a/b", "a\"b", &"x".repeat(65)] {
            assert_eq!(MetricName::parse(bad), Err(InvalidMetricName), "{bad}");
        }
    }
}
