//! Hours whose rollups are out of date (docs/adr/0016).
//!
//! Ingest marks the hours of the samples that it stores, in its write of the state, after the
//! samples. The rollup reads the state before the points, and removes an hour only if it was not
//! marked since.
//!
//! Invariants: an hour that is not pending has exact rollups. Ranges are in order, disjoint, and at
//! most [`MAX_PENDING_RANGES`].

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::time::{HOUR_S, Timestamp};

/// Seconds after the end of an hour at which it is rolled up, so that delayed messages have
/// arrived.
const ROLLUP_DELAY_S: i64 = 300;

/// Seconds for which late samples of an hour are collected. The one hour of a device whose clock
/// has stopped is rolled up at this interval.
const LATE_ROLLUP_DELAY_S: i64 = 900;

/// Maximum number of ranges. Beyond it, the closest ranges are merged, which only causes additional
/// reads.
const MAX_PENDING_RANGES: usize = 48;

/// Hours since the epoch.
pub type Hour = i64;

/// The hour that contains an instant.
pub fn hour_of(t: Timestamp) -> Hour {
    t.as_nanos().div_euclid(i128::from(HOUR_S) * 1_000_000_000).try_into().unwrap_or(Hour::MAX)
}

/// The start of an hour.
pub fn start_of_hour(hour: Hour) -> Timestamp {
    Timestamp::EPOCH.plus_seconds(hour.saturating_mul(HOUR_S))
}

/// Pending hours of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PendingRollups(Rollups);

/// Which rollups of a device are exact.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Rollups {
    /// There are no rollups: every hour is pending, without a deadline.
    #[default]
    None,
    /// Rollups exist for every hour that is not pending.
    Except {
        /// The maximum gap with which the rollups were made, see
        /// [`super::DevicePolicy::rollup_gap_s`].
        max_gap_s: u32,
        pending: PendingRanges,
    },
}

/// Ranges of pending hours, in order and disjoint, and at most [`MAX_PENDING_RANGES`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct PendingRanges(Vec<PendingHours>);

/// A range of pending hours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(Hour, Hour, u64, Timestamp)", from = "(Hour, Hour, u64, Timestamp)")]
pub struct PendingHours {
    /// The hours; the end is exclusive.
    pub hours: Range<Hour>,
    /// Version of the state that marked the hours last.
    pub version: u64,
    /// Time at which the hours are due.
    pub roll_up_at: Timestamp,
}

impl From<PendingHours> for (Hour, Hour, u64, Timestamp) {
    fn from(span: PendingHours) -> Self {
        (span.hours.start, span.hours.end, span.version, span.roll_up_at)
    }
}

impl From<(Hour, Hour, u64, Timestamp)> for PendingHours {
    fn from((start, end, version, roll_up_at): (Hour, Hour, u64, Timestamp)) -> Self {
        Self { hours: start..end, version, roll_up_at }
    }
}

impl PendingRollups {
    /// The value for a device without points.
    pub fn none_pending(gap_s: u32) -> Self {
        Self(Rollups::Except { max_gap_s: gap_s, pending: PendingRanges::default() })
    }

    /// Marks the hours of samples at `times`, received at `at`, in the write of state `version`.
    /// Rollups bridge gaps of `gap_s` seconds; if they were made with another gap, every hour is
    /// marked. The deadline of an hour is delayed by `spread_s` seconds.
    pub fn mark(
        &mut self,
        times: impl IntoIterator<Item = Timestamp>,
        at: Timestamp,
        version: u64,
        (gap_s, spread_s): (u32, i64),
    ) {
        let mut pending = match std::mem::take(&mut self.0) {
            Rollups::Except { max_gap_s, pending } if max_gap_s == gap_s => pending,
            _ => PendingRanges::all(at, version),
        };
        let mut last = None;
        for hour in times.into_iter().map(hour_of) {
            if last.replace(hour) != Some(hour) {
                pending.mark(hour, at, version, spread_s);
            }
        }
        self.0 = Rollups::Except { max_gap_s: gap_s, pending };
    }

    /// Removes hours that were rolled up from points as of the state version `as_of` or later.
    pub(super) fn mark_rolled_up(&mut self, hours: &Range<Hour>, as_of: u64) {
        if let Rollups::Except { pending, .. } = &mut self.0 {
            pending.remove(hours, as_of);
        }
    }

    /// Whether the rollups were made with this gap.
    pub fn uses_max_gap(&self, gap_s: u32) -> bool {
        matches!(self.0, Rollups::Except { max_gap_s, .. } if max_gap_s == gap_s)
    }

    /// Time at which the first hour is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.ranges().iter().map(|range| range.roll_up_at).min()
    }

    /// The ranges that are due at `now`.
    pub fn due(&self, now: Timestamp) -> impl Iterator<Item = &PendingHours> {
        self.ranges().iter().filter(move |range| range.roll_up_at <= now)
    }

    /// The first pending hours at or after `hour`, as one range; `None`: there are none.
    pub fn next_pending_from(&self, hour: Hour) -> Option<Range<Hour>> {
        match &self.0 {
            Rollups::None => Some(hour..Hour::MAX),
            Rollups::Except { pending, .. } => pending.next_from(hour),
        }
    }

    fn ranges(&self) -> &[PendingHours] {
        match &self.0 {
            Rollups::None => &[],
            Rollups::Except { pending, .. } => &pending.0,
        }
    }
}

impl PendingRanges {
    /// Every hour.
    fn all(at: Timestamp, version: u64) -> Self {
        let hours = hour_of(Timestamp::min())..hour_of(Timestamp::max()) + 1;
        Self(vec![PendingHours { hours, version, roll_up_at: at.plus_seconds(ROLLUP_DELAY_S) }])
    }

    fn mark(&mut self, hour: Hour, at: Timestamp, version: u64, spread_s: i64) {
        let end = start_of_hour(hour.saturating_add(1));
        let roll_up_at = if end > at {
            // An hour in the future is due as if it ended an hour from now.
            end.min(at.plus_seconds(HOUR_S)).plus_seconds(ROLLUP_DELAY_S + spread_s)
        } else {
            at.plus_seconds(LATE_ROLLUP_DELAY_S)
        };
        let index = self.0.partition_point(|range| range.hours.end <= hour);
        let pending = PendingHours { hours: hour..hour + 1, version, roll_up_at };
        let Some(held) = self.0.get_mut(index).filter(|range| range.hours.contains(&hour)) else {
            self.0.insert(index, pending);
            return self.merge_nearest();
        };
        if held.hours.end - held.hours.start == 1 {
            held.version = version;
            return;
        }
        // Only this hour of the range has changed.
        let before = PendingHours { hours: held.hours.start..hour, ..held.clone() };
        let after = PendingHours { hours: hour + 1..held.hours.end, ..held.clone() };
        let parts = [before, pending, after].into_iter().filter(|range| !range.hours.is_empty());
        self.0.splice(index..=index, parts);
        self.merge_nearest();
    }

    fn merge_nearest(&mut self) {
        while self.0.len() > MAX_PENDING_RANGES {
            let gap = |i: &usize| self.0[i + 1].hours.start - self.0[*i].hours.end;
            let Some(at) = (0..self.0.len() - 1).min_by_key(gap) else { return };
            let right = self.0.remove(at + 1);
            let left = &mut self.0[at];
            left.hours.end = right.hours.end;
            left.version = left.version.max(right.version);
            left.roll_up_at = left.roll_up_at.min(right.roll_up_at);
        }
    }

    fn remove(&mut self, hours: &Range<Hour>, as_of: u64) {
        let ranges = std::mem::take(&mut self.0);
        self.0 = ranges
            .into_iter()
            .flat_map(|range| {
                if range.version > as_of {
                    return vec![range];
                }
                let before = range.hours.start..range.hours.end.min(hours.start);
                let after = range.hours.start.max(hours.end)..range.hours.end;
                let rest = [before, after].into_iter().filter(|rest| !rest.is_empty());
                rest.map(|hours| PendingHours { hours, ..range.clone() }).collect()
            })
            .collect();
    }

    /// The first hours at or after `hour`, adjacent ranges joined.
    fn next_from(&self, hour: Hour) -> Option<Range<Hour>> {
        let index = self.0.partition_point(|range| range.hours.end <= hour);
        let (first, others) = self.0[index..].split_first()?;
        let mut end = first.hours.end;
        for range in others {
            if range.hours.start != end {
                break;
            }
            end = range.hours.end;
        }
        Some(first.hours.start.max(hour)..end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn second(s: i64) -> Timestamp {
        Timestamp::EPOCH.plus_seconds(s)
    }

    fn pending(pending_rollups: &PendingRollups, hours: Range<Hour>) -> BTreeSet<Hour> {
        hours
            .filter(|hour| {
                pending_rollups.next_pending_from(*hour).is_some_and(|next| next.start == *hour)
            })
            .collect()
    }

    #[test]
    fn hour_is_due_five_minutes_after_its_end() {
        let mut pending_rollups = PendingRollups::none_pending(300);
        for s in (7_200..10_800).step_by(10) {
            pending_rollups.mark([second(s)], second(s), 1, (300, 0));
        }
        assert_eq!(pending_rollups.next_due(), Some(second(10_800 + 300)));
        assert_eq!(pending(&pending_rollups, 0..9), BTreeSet::from([2]));
        assert_eq!(pending_rollups.due(second(11_099)).count(), 0);
        assert_eq!(pending_rollups.due(second(11_100)).count(), 1);
    }

    #[test]
    fn hour_marked_after_the_read_stays_pending() {
        let mut pending_rollups = PendingRollups::none_pending(300);
        pending_rollups.mark([second(0)], second(0), 5, (300, 0));
        pending_rollups.mark([second(10)], second(4_000), 7, (300, 0));
        pending_rollups.mark_rolled_up(&(0..1), 6);
        assert_eq!(pending(&pending_rollups, 0..9), BTreeSet::from([0]));
        pending_rollups.mark_rolled_up(&(0..1), 7);
        assert_eq!(
            (pending(&pending_rollups, 0..9), pending_rollups.next_due()),
            (BTreeSet::new(), None)
        );
    }

    #[test]
    fn all_hours_are_pending_without_rollups_or_with_another_gap() {
        let mut pending_rollups = PendingRollups::default();
        assert_eq!(pending_rollups.next_pending_from(-5), Some(-5..Hour::MAX));
        pending_rollups.mark([second(0)], second(100), 3, (300, 0));
        assert!(
            pending_rollups
                .next_pending_from(-400_000)
                .is_some_and(|hours| hours.contains(&400_000))
        );
        // Rolled-up hours of the past stay up to date when samples arrive now.
        pending_rollups.mark_rolled_up(&(-1_000..0), 3);
        pending_rollups.mark([second(10)], second(110), 4, (300, 0));
        assert_eq!(pending(&pending_rollups, -3..3), BTreeSet::from([0, 1, 2]));
        // Another gap marks every hour again.
        pending_rollups.mark([second(10)], second(110), 5, (60, 0));
        assert_eq!(pending(&pending_rollups, -3..3).len(), 6);
    }

    proptest! {
        #[test]
        fn marked_hours_stay_pending_until_rolled_up(
            steps in prop::collection::vec((0i64..400, prop::bool::weighted(0.7)), 1..400),
        ) {
            let mut pending_rollups = PendingRollups::none_pending(300);
            let mut model: std::collections::BTreeMap<Hour, u64> = std::collections::BTreeMap::new();
            for (number, (hour, is_mark)) in steps.into_iter().enumerate() {
                let version = number as u64 + 1;
                if is_mark {
                    pending_rollups.mark([start_of_hour(hour)], second(0), version, (300, 0));
                    model.insert(hour, version);
                } else {
                    let as_of = version.saturating_sub(10);
                    pending_rollups.mark_rolled_up(&(hour..hour + 50), as_of);
                    model.retain(|h, v| !(hour..hour + 50).contains(h) || *v > as_of);
                }
                let found = pending(&pending_rollups, -1..500);
                prop_assert!(model.keys().all(|hour| found.contains(hour)), "every marked hour is pending");
                prop_assert!(pending_rollups.ranges().len() <= MAX_PENDING_RANGES);
                prop_assert!(pending_rollups.ranges().windows(2).all(|two| two[0].hours.end <= two[1].hours.start));
            }
            pending_rollups.mark_rolled_up(&(-1..500), u64::MAX);
            prop_assert_eq!(pending(&pending_rollups, -1..500).len(), 0);
        }

        #[test]
        fn few_hours_are_tracked_exactly(hours in prop::collection::btree_set(0i64..1_000, 0..40)) {
            let mut pending_rollups = PendingRollups::none_pending(300);
            for hour in &hours {
                pending_rollups.mark([start_of_hour(*hour)], second(0), 1, (300, 0));
            }
            prop_assert_eq!(pending(&pending_rollups, 0..1_000), hours);
        }
    }
}
