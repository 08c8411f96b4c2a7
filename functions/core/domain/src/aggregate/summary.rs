//! What is known of some points of one metric, enough for every aggregate.

use crate::time::Timestamp;

/// A sum with its rounding error (Neumaier's variant of Kahan's summation): the result is the same,
/// but for the last digit, in whatever groups and order the values are added.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CompensatedSum {
    /// The sum as doubles give it.
    pub high: f64,
    /// What that lost.
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

    /// The sum. One beyond the range of a double is the end of that range.
    pub fn value(self) -> f64 {
        if self.high.is_infinite() { finite(self.high) } else { finite(self.high + self.low) }
    }
}

/// A value at an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimedValue {
    /// When.
    pub time: Timestamp,
    /// How much.
    pub value: f64,
}

/// What some points of one metric come to, added in the order of their times.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// How many; at least 1.
    pub count: u64,
    /// Of the values.
    pub sum: CompensatedSum,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
    /// The earliest point.
    pub first: TimedValue,
    /// The latest point.
    pub last: TimedValue,
    /// The integral over time from the first to the last point, in the metric's unit times seconds,
    /// without gaps that are too long.
    pub area: CompensatedSum,
}

impl Summary {
    /// Of one point.
    pub fn of(time: Timestamp, value: f64) -> Self {
        let reading = TimedValue { time, value };
        Self {
            count: 1,
            sum: CompensatedSum { high: value, low: 0.0 },
            min: value,
            max: value,
            first: reading,
            last: reading,
            area: CompensatedSum::default(),
        }
    }

    /// Joins a summary of later points. What lies between the two is bridged, if it is no longer than
    /// `max_gap_s` seconds.
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

/// Whether two points that follow each other are near enough to be joined by a line.
pub(super) fn is_bridged(from: &TimedValue, to: &TimedValue, max_gap_s: u32) -> bool {
    from.time.plus_seconds(i64::from(max_gap_s)) >= to.time
}

/// The area under the line between two points, in the unit of the values times seconds.
pub(super) fn trapezoid(from: &TimedValue, to: &TimedValue) -> f64 {
    finite((from.value / 2.0 + to.value / 2.0) * seconds_between(from.time, to.time))
}

/// The value at `at`, between two points, on the line between them.
pub(super) fn interpolate(from: &TimedValue, to: &TimedValue, at: Timestamp) -> TimedValue {
    let whole = seconds_between(from.time, to.time);
    let part = if whole > 0.0 { seconds_between(from.time, at) / whole } else { 0.0 };
    TimedValue { time: at, value: from.value * (1.0 - part) + to.value * part }
}

#[allow(clippy::cast_precision_loss, reason = "gaps are hours at most: 2^53 ns are 104 days")]
fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    (to.as_nanos() - from.as_nanos()) as f64 / 1e9
}

/// The value, or the end of the range of doubles that it is beyond.
pub(super) fn finite(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(f64::MIN, f64::MAX) }
}
