//! Metrics: names, units, plausible ranges, points.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{DeviceId, Mid};
use crate::time::Timestamp;

/// A metric's name: 1 to 64 of `A-Z a-z 0-9 _ . -` (docs/protocol.md).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MetricName(String);

/// Why a text is no [`MetricName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 of A-Z a-z 0-9 _ . -")]
pub struct BadMetricName;

impl MetricName {
    /// Checks the alphabet and the length.
    pub fn parse(text: &str) -> Result<Self, BadMetricName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadMetricName)
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
    pub fn known(&self) -> Option<&'static Known> {
        KNOWN.iter().find(|known| known.name == self.0)
    }
}

impl TryFrom<String> for MetricName {
    type Error = BadMetricName;

    fn try_from(text: String) -> Result<Self, BadMetricName> {
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
pub struct Known {
    /// The name in messages.
    pub name: &'static str,
    /// Its UCUM unit; empty for a ratio.
    pub unit: &'static str,
    /// The least plausible value, in `unit`.
    pub low: f64,
    /// The greatest plausible value, in `unit`.
    pub high: f64,
}

const fn known(name: &'static str, unit: &'static str, low: f64, high: f64) -> Known {
    Known { name, unit, low, high }
}

/// A value outside its range is stored all the same and marked; see [`Quality`].
pub const KNOWN: [Known; 13] = [
    known("voltage_dc", "V", 0.0, 4_000.0),
    // Negative: regeneration.
    known("current_dc", "A", -5_000.0, 5_000.0),
    known("voltage_ac", "V", 0.0, 30_000.0),
    known("current_ac", "A", 0.0, 2_000.0),
    known("frequency", "Hz", 0.0, 60.0),
    known("pf", "", -1.0, 1.0),
    known("thd_v", "%", 0.0, 100.0),
    known("thd_i", "%", 0.0, 100.0),
    known("temperature", "Cel", -60.0, 125.0),
    known("battery", "V", 0.0, 60.0),
    // Derived; the ranges are what those of voltages and currents give.
    known("active_power", "W", -6e7, 6e7),
    known("apparent_power", "VA", 0.0, 6e7),
    known("reactive_power", "var", 0.0, 6e7),
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
        (!(known.low..=known.high).contains(&value)).then_some(Self::OutOfRange)
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
    pub ordinal: u16,
}

/// Who claims a point: of two messages with the same point the greater claim wins, whichever came
/// first (docs/adr/0007).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Claim {
    /// The envelope's time.
    pub ts: Timestamp,
    /// The message.
    pub mid: Mid,
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
    pub claim: Claim,
}

impl Point {
    /// See [`Quality::of`].
    pub fn quality(&self) -> Option<Quality> {
        Quality::of(&self.key.metric, self.value)
    }
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
            assert_eq!(MetricName::parse(bad), Err(BadMetricName), "{bad}");
        }
    }
}
