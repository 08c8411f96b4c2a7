//! A set of numbers as inclusive ranges, bounded in size.

use serde::{Deserialize, Serialize};

/// Ranges that are kept. Beyond it the lowest gap is forgotten: its numbers count as seen.
const MAX_RANGES: usize = 64;

/// Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(i64, i64)>", into = "Vec<(i64, i64)>")]
pub(super) struct Ranges(Vec<(i64, i64)>);

impl TryFrom<Vec<(i64, i64)>> for Ranges {
    type Error = &'static str;

    fn try_from(ranges: Vec<(i64, i64)>) -> Result<Self, Self::Error> {
        let ordered =
            ranges.windows(2).all(|w| w[0].1 < w[1].0) && ranges.iter().all(|r| r.0 <= r.1);
        if ordered && !ranges.is_empty() {
            Ok(Self(ranges))
        } else {
            Err("ranges are not ascending")
        }
    }
}

impl From<Ranges> for Vec<(i64, i64)> {
    fn from(ranges: Ranges) -> Self {
        ranges.0
    }
}

impl Ranges {
    pub(super) fn of(number: i64) -> Self {
        Self(vec![(number, number)])
    }

    pub(super) fn highest(&self) -> i64 {
        self.0.last().map_or(0, |range| range.1)
    }

    pub(super) fn contains(&self, number: i64) -> bool {
        let index = self.0.partition_point(|range| range.1 < number);
        self.0.get(index).is_some_and(|range| range.0 <= number)
    }

    /// Adds a number; whether it was new.
    pub(super) fn insert(&mut self, number: i64) -> bool {
        // The first range that does not end before the number or touches it from below.
        let index = self.0.partition_point(|range| range.1 < number - 1);
        match self.0.get_mut(index) {
            Some(range) if range.0 <= number && number <= range.1 => return false,
            Some(range) if range.1 == number - 1 => {
                range.1 = number;
                let end = self.0[index].1;
                if self.0.get(index + 1).is_some_and(|next| next.0 == end + 1) {
                    self.0[index].1 = self.0.remove(index + 1).1;
                }
            }
            Some(range) if range.0 == number + 1 => range.0 = number,
            _ => self.0.insert(index, (number, number)),
        }
        if self.0.len() > MAX_RANGES {
            let lowest = self.0.remove(0);
            self.0[0].0 = lowest.0;
        }
        true
    }

    pub(super) fn gaps(&self) -> impl Iterator<Item = (i64, i64)> {
        self.0.windows(2).map(|w| (w[0].1 + 1, w[1].0 - 1))
    }
}
