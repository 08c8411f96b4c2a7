//! Summary of points of one metric, sufficient for every aggregate.

use crate::metric::TimedValue;
use crate::time::Timestamp;

/// A sum with its rounding error (Neumaier's variant of Kahan summation). The result is the same,
/// except for the last digit, for every grouping and order of the values.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CompensatedSum {
    /// The sum in `f64` arithmetic.
    pub high: f64,
    /// The accumulated rounding error.
    pub low: f64,
}

impl CompensatedSum {
    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        let sum = self.high + value;
        self.low += if self.high.abs() >= value.abs() {
            (self.high - sum) + value
        } else {
            (value - sum) + self.high
        };
        self.high = sum;
    }

    /// Adds another sum.
    pub fn add_sum(&mut self, other: Self) {
        self.add(other.high);
        self.low += other.low;
    }

    /// The sum, limited to the range of `f64`.
    pub fn value(self) -> f64 {
        if self.high.is_infinite() { finite(self.high) } else { finite(self.high + self.low) }
    }
}

/// Summary of points of one metric in the order of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Number of points; at least 1.
    pub count: u64,
    /// Sum of the values.
    pub sum: CompensatedSum,
    /// Least value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
    /// The earliest point.
    pub first: TimedValue,
    /// The latest point.
    pub last: TimedValue,
    /// Integral over time from the first to the last point, in the unit of the metric times
    /// seconds, without the gaps that are not bridged.
    pub area: CompensatedSum,
}

impl Summary {
    /// Summary of one point.
    pub fn of(time: Timestamp, value: f64) -> Self {
        let point = TimedValue { time, value };
        Self {
            count: 1,
            sum: CompensatedSum { high: value, low: 0.0 },
            min: value,
            max: value,
            first: point,
            last: point,
            area: CompensatedSum::default(),
        }
    }

    /// Joins a summary of later points. The gap between the two is bridged if it is at most
    /// `max_gap_s` seconds long.
    pub fn join(&mut self, later: &Self, max_gap_s: u32) {
        self.count += later.count;
        self.sum.add_sum(later.sum);
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
        if is_bridged(&self.last, &later.first, max_gap_s) {
            self.area.add(trapezoid(&self.last, &later.first));
        }
        self.area.add_sum(later.area);
        self.last = later.last;
    }
}

/// Whether the gap between two consecutive points is bridged.
pub(super) fn is_bridged(from: &TimedValue, to: &TimedValue, max_gap_s: u32) -> bool {
    from.time.plus_seconds(i64::from(max_gap_s)) >= to.time
}

/// Area below the line between two points, in the unit of the values times seconds.
pub(super) fn trapezoid(from: &TimedValue, to: &TimedValue) -> f64 {
    finite((from.value / 2.0 + to.value / 2.0) * seconds_between(from.time, to.time))
}

/// The value at `at` on the line between two points.
pub(super) fn interpolate(from: &TimedValue, to: &TimedValue, at: Timestamp) -> TimedValue {
    let whole = seconds_between(from.time, to.time);
    let part = if whole > 0.0 { seconds_between(from.time, at) / whole } else { 0.0 };
    TimedValue { time: at, value: from.value * (1.0 - part) + to.value * part }
}

#[allow(clippy::cast_precision_loss, reason = "gaps are hours at most: 2^53 ns are 104 days")]
fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    (to.as_nanos() - from.as_nanos()) as f64 / 1e9
}

/// Limits a value to the finite range of `f64`.
pub(super) fn finite(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(f64::MIN, f64::MAX) }
}
