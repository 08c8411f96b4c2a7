//! Aggregation of the points of a metric over time windows (docs/metrics.md). Pure.
//!
//! Points are combined into a [`Summary`], and summaries can be joined. A window can therefore be
//! computed from points, from rollups of minutes and hours, or from both, with the same result.
//! Sums are compensated, so the result does not depend on the grouping.

mod assemble;
mod summary;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::assemble::{Assembler, WindowSpec};
pub use self::summary::{CompensatedSum, Summary};
use crate::metric::MetricName;
use crate::time::{DAY_S, Timestamp, parse_duration_s};

/// The function that is computed over the points of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// Arithmetic mean of the values, independent of their distances in time.
    #[default]
    Mean,
    /// Least value.
    Min,
    /// Greatest value.
    Max,
    /// Sum of the values.
    Sum,
    /// Number of points.
    Count,
    /// Value of the earliest point.
    First,
    /// Value of the latest point.
    Last,
    /// Integral over time in hours: of a power in W, the energy in Wh. Values between two points
    /// are interpolated linearly (trapezoidal rule), also across window borders. Gaps longer than
    /// `INTEGRAL_MAX_GAP_S` are not bridged.
    Integral,
}

impl Aggregate {
    /// Every aggregate.
    pub const ALL: [Self; 8] = [
        Self::Mean,
        Self::Min,
        Self::Max,
        Self::Sum,
        Self::Count,
        Self::First,
        Self::Last,
        Self::Integral,
    ];

    /// Name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Min => "min",
            Self::Max => "max",
            Self::Sum => "sum",
            Self::Count => "count",
            Self::First => "first",
            Self::Last => "last",
            Self::Integral => "integral",
        }
    }

    /// Parses the name in the API.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|aggregate| aggregate.as_str() == text)
    }

    /// Unit (UCUM) of the result for points in `unit`: none for a count, and times an hour for an
    /// integral.
    pub fn unit(self, unit: Option<&str>) -> Option<String> {
        match self {
            Self::Count => None,
            Self::Integral => {
                Some(unit.filter(|u| !u.is_empty()).map_or("h".to_owned(), |u| format!("{u}.h")))
            }
            _ => unit.map(str::to_owned),
        }
    }
}

/// Width of a window in whole seconds, 1 s to 366 days. Windows are aligned to the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize(u32);

/// Maximum width of a window in seconds.
const MAX_SECONDS: i64 = 366 * DAY_S;

/// The text or number is not a valid [`WindowSize`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a duration like 30s, 5m, 1h or 1d, from 1s to 366d")]
pub struct InvalidWindowSize;

impl WindowSize {
    /// Converts seconds.
    ///
    /// # Errors
    ///
    /// The number is not between 1 s and 366 days.
    pub fn from_seconds(seconds: u32) -> Result<Self, InvalidWindowSize> {
        if (1..=MAX_SECONDS).contains(&i64::from(seconds)) {
            Ok(Self(seconds))
        } else {
            Err(InvalidWindowSize)
        }
    }

    /// Parses `30s`, `5m`, `1h`, `1d` or `1w`.
    ///
    /// # Errors
    ///
    /// The text has another form, or the duration is out of range.
    pub fn parse(text: &str) -> Result<Self, InvalidWindowSize> {
        let seconds = parse_duration_s(text).and_then(|seconds| u32::try_from(seconds).ok());
        Self::from_seconds(seconds.ok_or(InvalidWindowSize)?)
    }

    /// The width in seconds.
    pub fn as_seconds(self) -> u32 {
        self.0
    }

    /// Start of the window that contains an instant.
    pub fn window_start(self, t: Timestamp) -> Timestamp {
        t.floor(self.0)
    }

    /// End of the window that starts at `start`.
    pub fn window_end(self, start: Timestamp) -> Timestamp {
        start.plus_seconds(i64::from(self.0))
    }
}

impl fmt::Display for WindowSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}

/// Identity of a window of a metric. The order of the fields is the order of query results.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WindowKey {
    /// Start of the window.
    pub start: Timestamp,
    /// Name of the metric.
    pub metric: MetricName,
}

/// The result for a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Identity of the window.
    pub key: WindowKey,
    /// The value; finite. A sum beyond the range of `f64` is limited to that range, also within a
    /// mean.
    pub value: f64,
    /// Unit for the unit of the latest point; see [`Aggregate::unit`].
    pub unit: Option<String>,
}

#[cfg(test)]
mod tests;
