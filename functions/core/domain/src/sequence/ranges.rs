//! A set of numbers as inclusive ranges, with the time since which each gap is open.

use serde::{Deserialize, Serialize};

/// Maximum number of ranges. Beyond it the lowest gap is dropped: its numbers count as seen.
const MAX_RANGES: usize = 64;

/// A range of seen numbers and the receipt time, in seconds since the epoch, since which the gap
/// below it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(i64, i64, i64)", into = "(i64, i64, i64)")]
struct SeenRange {
    start: i64,
    end: i64,
    gap_since: i64,
}

impl From<(i64, i64, i64)> for SeenRange {
    fn from((start, end, gap_since): (i64, i64, i64)) -> Self {
        Self { start, end, gap_since }
    }
}

impl From<SeenRange> for (i64, i64, i64) {
    fn from(range: SeenRange) -> Self {
        (range.start, range.end, range.gap_since)
    }
}

/// A range of missing numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) since: i64,
}

/// Ranges in ascending order; never empty, and never adjacent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<SeenRange>", into = "Vec<SeenRange>")]
pub(super) struct SeenRanges(Vec<SeenRange>);

impl TryFrom<Vec<SeenRange>> for SeenRanges {
    type Error = &'static str;

    fn try_from(ranges: Vec<SeenRange>) -> Result<Self, Self::Error> {
        let ascending = ranges.windows(2).all(|w| w[0].end < w[1].start);
        if ascending && ranges.iter().all(|r| r.start <= r.end) && !ranges.is_empty() {
            Ok(Self(ranges))
        } else {
            Err("ranges must be ascending and not empty")
        }
    }
}

impl From<SeenRanges> for Vec<SeenRange> {
    fn from(ranges: SeenRanges) -> Self {
        ranges.0
    }
}

impl SeenRanges {
    pub(super) fn of(number: i64, at: i64) -> Self {
        Self(vec![SeenRange { start: number, end: number, gap_since: at }])
    }

    pub(super) fn highest(&self) -> i64 {
        self.0.last().map_or(0, |range| range.end)
    }

    pub(super) fn contains(&self, number: i64) -> bool {
        let index = self.0.partition_point(|range| range.end < number);
        self.0.get(index).is_some_and(|range| range.start <= number)
    }

    /// Adds a number that was received at second `at`. Returns whether it is new.
    pub(super) fn insert(&mut self, number: i64, at: i64) -> bool {
        // The first range that ends at or after the predecessor of the number.
        let index = self.0.partition_point(|range| range.end < number - 1);
        match self.0.get_mut(index) {
            Some(range) if range.start <= number && number <= range.end => return false,
            Some(range) if range.end == number - 1 => {
                range.end = number;
                if self.0.get(index + 1).is_some_and(|next| next.start == number + 1) {
                    self.0[index].end = self.0.remove(index + 1).end;
                }
            }
            Some(range) if range.start == number + 1 => range.start = number,
            Some(next) => {
                // The number splits the gap below `next`; both parts keep its age. Below the lowest
                // range there was no gap before.
                let gap_since = if index == 0 {
                    std::mem::replace(&mut next.gap_since, at)
                } else {
                    next.gap_since
                };
                self.0.insert(index, SeenRange { start: number, end: number, gap_since });
            }
            None => self.0.push(SeenRange { start: number, end: number, gap_since: at }),
        }
        true
    }

    /// Drops the lowest gap if there are too many ranges. Returns whether a gap was dropped.
    pub(super) fn drop_lowest_gap_over_limit(&mut self) -> bool {
        let too_many = self.0.len() > MAX_RANGES;
        if too_many {
            let lowest = self.0.remove(0);
            self.0[0].start = lowest.start;
        }
        too_many
    }

    pub(super) fn gaps(&self) -> impl Iterator<Item = Gap> {
        let between = |w: &[SeenRange]| Gap {
            start: w[0].end + 1,
            end: w[1].start - 1,
            since: w[1].gap_since,
        };
        self.0.windows(2).map(between)
    }
}
