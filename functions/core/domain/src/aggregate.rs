//! Aggregation of the points of a metric in windows of time (docs/api.md). Pure.
//!
//! Points are summed up in [`Summary`]s that can be joined, so that a window can be made of points, of
//! the rollups of its minutes and hours, or of both, to the same end. Sums carry their rounding error
//! along, so it does not matter in which groups they were made.

mod assemble;
mod summary;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::assemble::{Assembler, WindowSpec};
pub use self::summary::{CompensatedSum, Summary, TimedValue};
use crate::metric::MetricName;
use crate::time::Timestamp;

/// What is made of the points of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// The arithmetic mean of the values, however they lie in time.
    #[default]
    Mean,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// The sum of the values.
    Sum,
    /// How many points there are.
    Count,
    /// The value of the earliest point.
    First,
    /// The value of the latest point.
    Last,
    /// The integral over time in hours: of a power in W, the energy in Wh. Between two points the value
    /// is taken to run straight (trapezoid rule), also across the borders of windows; a gap that is longer than
    /// `INTEGRAL_MAX_GAP_S` is not bridged.
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

    /// The API's word.
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

    /// Reads the API's word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|aggregate| aggregate.as_str() == text)
    }

    /// The unit (UCUM) of the result for points in `unit`: a count has none, an integral that of the
    /// points times an hour.
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

/// The width of windows: whole seconds, 1 s to 366 days. Windows lie at multiples of it since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize(u32);

/// Why a text is no [`WindowSize`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a duration like 30s, 5m, 1h or 1d, from 1s to 366d")]
pub struct InvalidWindowSize;

impl WindowSize {
    const MAX_S: u32 = 366 * 24 * 3_600;

    /// So many seconds, in the range.
    pub fn from_seconds(seconds: u32) -> Result<Self, InvalidWindowSize> {
        if (1..=Self::MAX_S).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(InvalidWindowSize)
        }
    }

    /// Reads `30s`, `5m`, `1h`, `1d` or `1w`.
    pub fn parse(text: &str) -> Result<Self, InvalidWindowSize> {
        let split = text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at));
        let (digits, unit) = text.split_at(split.ok_or(InvalidWindowSize)?);
        let factor: u32 = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 24 * 3_600,
            "w" => 7 * 24 * 3_600,
            _ => return Err(InvalidWindowSize),
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidWindowSize);
        }
        let number: u32 = digits.parse().map_err(|_| InvalidWindowSize)?;
        Self::from_seconds(number.checked_mul(factor).ok_or(InvalidWindowSize)?)
    }

    /// In seconds.
    pub fn as_seconds(self) -> u32 {
        self.0
    }

    /// The window that an instant lies in, by its start.
    pub fn window_start(self, t: Timestamp) -> Timestamp {
        t.floor(self.0)
    }

    /// The end of the window that starts at `start`.
    pub fn window_end(self, start: Timestamp) -> Timestamp {
        start.plus_seconds(i64::from(self.0))
    }
}

impl fmt::Display for WindowSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}

/// Which window of which metric. The order of the fields is the order of answers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WindowKey {
    /// Where the window starts.
    pub start: Timestamp,
    /// Of what.
    pub metric: MetricName,
}

/// A window's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Which.
    pub key: WindowKey,
    /// Always finite: a sum beyond the range of a double is the end of that range, also in a mean.
    pub value: f64,
    /// See [`Aggregate::unit`], of the latest point.
    pub unit: Option<String>,
}

#[cfg(test)]
mod tests;
