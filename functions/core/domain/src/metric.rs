//! Metrics: names, units, plausible ranges, points.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{DeviceId, MessageId};
use crate::time::Timestamp;

/// A metric's name: 1 to 64 of `A-Z a-z 0-9 _ . -` (docs/protocol.md).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MetricName(String);

/// Why a text is no [`MetricName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 of A-Z a-z 0-9 _ . -")]
pub struct InvalidMetricName;

impl MetricName {
    /// Checks the alphabet and the length.
    pub fn parse(text: &str) -> Result<Self, InvalidMetricName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidMetricName)
        }
    }

    /// The name as devices and clients write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last name in the order of names.
    pub fn greatest() -> Self {
        Self("z".repeat(64))
    }

    /// What the platform knows of this name: its unit and its plausible range, both ends included.
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

/// A measurement type known by name (docs/protocol.md).
#[derive(Debug, PartialEq)]
pub struct KnownMetric {
    /// The name in messages.
    pub name: &'static str,
    /// Its UCUM unit; empty for a ratio.
    pub unit: &'static str,
    /// The least plausible value, in `unit`.
    pub min: f64,
    /// The greatest plausible value, in `unit`.
    pub max: f64,
}

const fn known_metric(name: &'static str, unit: &'static str, min: f64, max: f64) -> KnownMetric {
    KnownMetric { name, unit, min, max }
}

/// A value outside its range is stored all the same and marked; see [`Quality`].
pub const KNOWN_METRICS: [KnownMetric; 13] = [
    known_metric("voltage_dc", "V", 0.0, 4_000.0),
    // Negative: regeneration.
    known_metric("current_dc", "A", -5_000.0, 5_000.0),
    known_metric("voltage_ac", "V", 0.0, 30_000.0),
    known_metric("current_ac", "A", 0.0, 2_000.0),
    known_metric("frequency", "Hz", 0.0, 60.0),
    known_metric("pf", "", -1.0, 1.0),
    known_metric("thd_v", "%", 0.0, 100.0),
    known_metric("thd_i", "%", 0.0, 100.0),
    known_metric("temperature", "Cel", -60.0, 125.0),
    known_metric("battery", "V", 0.0, 60.0),
    // Derived; the ranges are what those of voltages and currents give.
    known_metric("active_power", "W", -6e7, 6e7),
    known_metric("apparent_power", "VA", 0.0, 6e7),
    known_metric("reactive_power", "var", 0.0, 6e7),
];

/// What the platform thinks of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quality {
    /// Outside the plausible range of a metric known by name.
    OutOfRange,
}

impl Quality {
    /// Nothing to say of a plausible value or of a metric that is not known by name.
    pub fn of(metric: &MetricName, value: f64) -> Option<Self> {
        let known = metric.known()?;
        (!(known.min..=known.max).contains(&value)).then_some(Self::OutOfRange)
    }
}

/// Which point a sample is: one device's metric has one value at one of these.
///
/// The order of the fields is the order of answers: by time, then by metric, then as in the message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PointKey {
    /// When it was sampled.
    pub time: Timestamp,
    /// What was sampled.
    pub metric: MetricName,
    /// The how-manieth sample of this metric and time in its message, from 0.
    pub sample_index: u16,
}

/// Who claims a point: of two messages with the same point the greater precedence wins, whichever came
/// first (docs/adr/0007).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Precedence {
    /// The envelope's time.
    pub ts: Timestamp,
    /// The message.
    pub message_id: MessageId,
}

/// A sample as it is read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Which point.
    pub key: PointKey,
    /// Always finite.
    pub value: f64,
    /// As the device sent it, else the known one's.
    pub unit: Option<String>,
    /// Whose point it is.
    pub precedence: Precedence,
}

impl Point {
    /// See [`Quality::of`].
    pub fn quality(&self) -> Option<Quality> {
        Quality::of(&self.key.metric, self.value)
    }
}

/// One sample of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric that was sampled.
    pub metric: MetricName,
    /// The device's time of the sample.
    pub time: Timestamp,
    /// Zero-based index of the sample among those of its metric and time in its message.
    pub sample_index: u16,
    /// The value; finite.
    pub value: f64,
    /// The unit of the value, as sent.
    pub unit: Option<String>,
}

/// A point to store.
#[derive(Debug, Clone, PartialEq)]
pub struct DevicePoint {
    /// Whose.
    pub device_id: DeviceId,
    /// What.
    pub point: Point,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_outside_the_plausible_range_is_marked_and_an_unknown_metric_never_is() {
        let name = |n| MetricName::parse(n).unwrap();
        assert_eq!(Quality::of(&name("pf"), 1.0), None);
        assert_eq!(Quality::of(&name("pf"), 1.01), Some(Quality::OutOfRange));
        assert_eq!(Quality::of(&name("current_dc"), -5_000.5), Some(Quality::OutOfRange));
        assert_eq!(Quality::of(&name("humidity"), 1e300), None);
    }

    #[test]
    fn a_metric_name_has_an_alphabet_and_a_length() {
        assert!(MetricName::parse(&"a.b-C_9".repeat(9)).is_ok());
        for bad in ["", "a b", "é", "a/b", "a\"b", &"x".repeat(65)] {
            assert_eq!(MetricName::parse(bad), Err(InvalidMetricName), "{bad}");
        }
    }
}
