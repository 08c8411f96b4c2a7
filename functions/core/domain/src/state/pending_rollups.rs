//! Hours whose rollups do not say what the points say.
//!
//! Ingest notes the hours of the samples that it stores, in the write of the state that it makes anyway,
//! after the samples themselves. Whoever rolls an hour up reads the state first, then the points, and takes
//! the hour out only if nothing noted it since: so an hour that is not noted here is exact.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

const HOUR_S: i64 = 3_600;

/// How long after its end an hour is rolled up, in seconds: what was on its way is there by then.
const ROLLUP_DELAY_S: i64 = 300;

/// How long late samples wait for others of their hour, in seconds. A device whose clock stands still
/// has its one hour rolled up again as often.
const LATE_ROLLUP_DELAY_S: i64 = 900;

/// Hours are noted apart up to here; a device with a wild clock has the nearest of them joined, which
/// costs reads and harms nothing.
const MAX_PENDING_RANGES: usize = 48;

/// Hours since the epoch.
pub type Hour = i64;

/// The hour that an instant lies in.
pub fn hour_of(t: Timestamp) -> Hour {
    t.as_nanos().div_euclid(i128::from(HOUR_S) * 1_000_000_000).try_into().unwrap_or(Hour::MAX)
}

/// When an hour starts.
pub fn start_of_hour(hour: Hour) -> Timestamp {
    Timestamp::EPOCH.plus_seconds(hour.saturating_mul(HOUR_S))
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingRollups {
    /// What the rollups were made with; see [`super::Rules::rollup_gap_s`]. None: there are none yet, and
    /// every hour is as if it were noted.
    gap_s: Option<u32>,
    /// In order, apart.
    spans: Vec<PendingHours>,
}

/// Hours in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(Hour, Hour, u64, Timestamp)", from = "(Hour, Hour, u64, Timestamp)")]
pub struct PendingHours {
    /// From the first up to but without the second.
    pub hours: Range<Hour>,
    /// The version of the state that noted them last.
    pub version: u64,
    /// When they are to be rolled up.
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
    /// Of a device that has no points yet.
    pub fn none_pending(gap_s: u32) -> Self {
        Self { gap_s: Some(gap_s), spans: Vec::new() }
    }

    /// Notes samples at `times`, received at `at`, in the write that makes the state's `version`. Rollups
    /// bridge gaps of `gap_s` seconds, and an hour waits `spread_s` seconds longer than it must.
    pub fn mark(
        &mut self,
        times: impl IntoIterator<Item = Timestamp>,
        at: Timestamp,
        version: u64,
        (gap_s, spread_s): (u32, i64),
    ) {
        self.set_max_gap(gap_s, at, version);
        let mut last = None;
        for hour in times.into_iter().map(hour_of) {
            if last.replace(hour) != Some(hour) {
                self.mark_hour(hour, at, version, spread_s);
            }
        }
    }

    /// Rollups that were made with another gap, or never, are all to be made.
    pub(super) fn set_max_gap(&mut self, gap_s: u32, at: Timestamp, version: u64) {
        if self.gap_s.replace(gap_s) == Some(gap_s) {
            return;
        }
        let hours = hour_of(Timestamp::min())..hour_of(Timestamp::max()) + 1;
        let roll_up_at = at.plus_seconds(ROLLUP_DELAY_S);
        self.spans = vec![PendingHours { hours, version, roll_up_at }];
    }

    fn mark_hour(&mut self, hour: Hour, at: Timestamp, version: u64, spread_s: i64) {
        let end = start_of_hour(hour.saturating_add(1));
        let roll_up_at = if end > at {
            // An hour that lies ahead is rolled up when it would have passed from now on.
            end.min(at.plus_seconds(HOUR_S)).plus_seconds(ROLLUP_DELAY_S + spread_s)
        } else {
            at.plus_seconds(LATE_ROLLUP_DELAY_S)
        };
        let index = self.spans.partition_point(|span| span.hours.end <= hour);
        let noted = PendingHours { hours: hour..hour + 1, version, roll_up_at };
        let Some(held) = self.spans.get_mut(index).filter(|span| span.hours.contains(&hour)) else {
            self.spans.insert(index, noted);
            return self.merge_nearest();
        };
        if held.hours.end - held.hours.start == 1 {
            held.version = version;
            return;
        }
        // Out of many it is only this hour that is news.
        let before = PendingHours { hours: held.hours.start..hour, ..held.clone() };
        let after = PendingHours { hours: hour + 1..held.hours.end, ..held.clone() };
        let parts = [before, noted, after].into_iter().filter(|span| !span.hours.is_empty());
        self.spans.splice(index..=index, parts);
        self.merge_nearest();
    }

    fn merge_nearest(&mut self) {
        while self.spans.len() > MAX_PENDING_RANGES {
            let gap = |i: &usize| self.spans[i + 1].hours.start - self.spans[*i].hours.end;
            let Some(at) = (0..self.spans.len() - 1).min_by_key(gap) else { return };
            let right = self.spans.remove(at + 1);
            let left = &mut self.spans[at];
            left.hours.end = right.hours.end;
            left.version = left.version.max(right.version);
            left.roll_up_at = left.roll_up_at.min(right.roll_up_at);
        }
    }

    /// These hours were rolled up from the points as they were at the state's version `as_of` or later.
    pub(super) fn mark_rolled_up(&mut self, hours: &Range<Hour>, as_of: u64) {
        let spans = std::mem::take(&mut self.spans);
        self.spans = spans
            .into_iter()
            .flat_map(|span| {
                if span.version > as_of {
                    return vec![span];
                }
                let before = span.hours.start..span.hours.end.min(hours.start);
                let after = span.hours.start.max(hours.end)..span.hours.end;
                let rest = [before, after].into_iter().filter(|rest| !rest.is_empty());
                rest.map(|hours| PendingHours { hours, ..span.clone() }).collect()
            })
            .collect();
    }

    /// Whether rollups are made with this gap.
    pub fn uses_max_gap(&self, gap_s: u32) -> bool {
        self.gap_s == Some(gap_s)
    }

    /// When something is to be rolled up next.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.spans.iter().map(|span| span.roll_up_at).min()
    }

    /// What is to be rolled up at `now`.
    pub fn due(&self, now: Timestamp) -> impl Iterator<Item = &PendingHours> {
        self.spans.iter().filter(move |span| span.roll_up_at <= now)
    }

    /// The noted hours that come first at or after `hour`, cut to what is; none: there are no more.
    pub fn next_pending_from(&self, hour: Hour) -> Option<Range<Hour>> {
        if self.gap_s.is_none() {
            return Some(hour..Hour::MAX);
        }
        let index = self.spans.partition_point(|span| span.hours.end <= hour);
        let mut spans = self.spans[index..].iter().map(|span| span.hours.clone());
        let first = spans.next()?;
        let end =
            spans.try_fold(
                first.end,
                |end, next| {
                    if next.start == end { Ok(next.end) } else { Err(end) }
                },
            );
        let end = match end {
            Ok(end) | Err(end) => end,
        };
        Some(first.start.max(hour)..end)
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

    fn noted(pending_rollups: &PendingRollups, hours: Range<Hour>) -> BTreeSet<Hour> {
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
        assert_eq!(noted(&pending_rollups, 0..9), BTreeSet::from([2]));
        assert_eq!(pending_rollups.due(second(11_099)).count(), 0);
        assert_eq!(pending_rollups.due(second(11_100)).count(), 1);
    }

    #[test]
    fn hour_marked_after_the_read_stays_pending() {
        let mut pending_rollups = PendingRollups::none_pending(300);
        pending_rollups.mark([second(0)], second(0), 5, (300, 0));
        pending_rollups.mark([second(10)], second(4_000), 7, (300, 0));
        pending_rollups.mark_rolled_up(&(0..1), 6);
        assert_eq!(noted(&pending_rollups, 0..9), BTreeSet::from([0]));
        pending_rollups.mark_rolled_up(&(0..1), 7);
        assert_eq!(
            (noted(&pending_rollups, 0..9), pending_rollups.next_due()),
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
        // What is rolled up of the past is not undone by what arrives now.
        pending_rollups.mark_rolled_up(&(-1_000..0), 3);
        pending_rollups.mark([second(10)], second(110), 4, (300, 0));
        assert_eq!(noted(&pending_rollups, -3..3), BTreeSet::from([0, 1, 2]));
        // Another gap, and it begins again.
        pending_rollups.mark([second(10)], second(110), 5, (60, 0));
        assert_eq!(noted(&pending_rollups, -3..3).len(), 6);
    }

    proptest! {
        #[test]
        fn marked_hours_stay_pending_until_rolled_up(
            steps in prop::collection::vec((0i64..400, prop::bool::weighted(0.7)), 1..400),
        ) {
            let mut pending_rollups = PendingRollups::none_pending(300);
            let mut model: std::collections::BTreeMap<Hour, u64> = std::collections::BTreeMap::new();
            for (number, (hour, is_note)) in steps.into_iter().enumerate() {
                let version = number as u64 + 1;
                if is_note {
                    pending_rollups.mark([start_of_hour(hour)], second(0), version, (300, 0));
                    model.insert(hour, version);
                } else {
                    let as_of = version.saturating_sub(10);
                    pending_rollups.mark_rolled_up(&(hour..hour + 50), as_of);
                    model.retain(|h, v| !(hour..hour + 50).contains(h) || *v > as_of);
                }
                let found = noted(&pending_rollups, -1..500);
                prop_assert!(model.keys().all(|hour| found.contains(hour)), "nothing is forgotten");
                prop_assert!(pending_rollups.spans.len() <= MAX_PENDING_RANGES);
                prop_assert!(pending_rollups.spans.windows(2).all(|two| two[0].hours.end <= two[1].hours.start));
            }
            pending_rollups.mark_rolled_up(&(-1..500), u64::MAX);
            prop_assert_eq!(noted(&pending_rollups, -1..500).len(), 0);
        }

        #[test]
        fn few_hours_are_tracked_exactly(hours in prop::collection::btree_set(0i64..1_000, 0..40)) {
            let mut pending_rollups = PendingRollups::none_pending(300);
            for hour in &hours {
                pending_rollups.mark([start_of_hour(*hour)], second(0), 1, (300, 0));
            }
            prop_assert_eq!(noted(&pending_rollups, 0..1_000), hours);
        }
    }
}
