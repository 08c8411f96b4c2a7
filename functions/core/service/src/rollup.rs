//! Computes the rollups of a device from its points.
//!
//! Ingestion marks an hour as pending when it stores samples of it
//! ([`PendingRollups`](meter_domain::state::PendingRollups)); the watchdog rolls the hour up when
//! it is due. It reads the state, then the points, writes the rollups, and clears the hour unless
//! new samples were stored since. It can be interrupted at any point, and two watchdogs can run
//! concurrently.

use std::collections::BTreeMap;
use std::ops::Range;

use futures::{StreamExt, TryStreamExt, stream};
use meter_domain::aggregate::Summary;
use meter_domain::id::DeviceId;
use meter_domain::metric::{MetricName, Point};
use meter_domain::state::{DevicePolicy, DeviceState, Hour, hour_of, start_of_hour};
use meter_domain::time::{DAY_S, Timestamp};
use meter_store::{
    HourRollup, MessageStore, PointQuery, RollupBucket, RollupStore, StoreError, Stores,
};

use crate::optimistic_update;
use crate::point_reader::{self, ReadStats};

/// Hours of a device that one run rolls up, at most.
const MAX_HOURS_PER_RUN: usize = 24;

/// The length of a span in hours from which the days with points are looked up first.
const DAY_LOOKUP_THRESHOLD_H: Hour = 48;

/// Points of one read.
const POINTS_PER_READ: usize = 10_000;

/// Rollups of one hour that are written concurrently.
const WRITE_CONCURRENCY: usize = 8;

/// The result of one run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RollupReport {
    /// Hours with points that were rolled up.
    pub hours: usize,
    /// Whether more hours are due.
    pub more: bool,
}

/// Rolls up the hours of a device that are due at `now`. The rollups of an hour expire `ttl_days`
/// days after it; none: never.
///
/// # Errors
///
/// A store failed. The hours that were not cleared stay pending.
pub async fn roll_up<S: Stores>(
    stores: &S,
    id: &DeviceId,
    ttl_days: Option<u32>,
    now: Timestamp,
    policy: &DevicePolicy,
) -> Result<RollupReport, StoreError> {
    let Some(gap_s) = policy.rollup_gap_s else { return Ok(RollupReport::default()) };
    let state = optimistic_update::read_state(stores.states(), id).await?;
    let run = RollupRun { stores, state: &state, ttl_days, now, gap_s };
    let mut report = RollupReport::default();
    let due: Vec<Range<Hour>> =
        state.pending_rollups.due(now).map(|span| span.hours.clone()).collect();
    for span in due {
        let done = run.roll_up_span(span, &mut report).await?;
        let mark = |current: &mut DeviceState| {
            current.mark_rolled_up(&done, state.version, now, policy);
        };
        let current = optimistic_update::update_state(stores.states(), id, mark).await?;
        if current.purged_at != state.purged_at {
            discard_rollups(stores, id, now, policy).await?;
            break;
        }
        if report.more {
            break;
        }
    }
    Ok(report)
}

/// The arguments of one run.
struct RollupRun<'a, S> {
    stores: &'a S,
    /// The state as it was read before the points.
    state: &'a DeviceState,
    ttl_days: Option<u32>,
    now: Timestamp,
    gap_s: u32,
}

impl<S: Stores> RollupRun<'_, S> {
    /// Rolls up the hours of a span until the limit of the run is reached. Returns the hours that
    /// are rolled up or have no points.
    async fn roll_up_span(
        &self,
        span: Range<Hour>,
        report: &mut RollupReport,
    ) -> Result<Range<Hour>, StoreError> {
        let mut done = span.start;
        for hour in hours_with_points(self.stores.messages(), &self.state.device_id, &span).await? {
            if report.hours == MAX_HOURS_PER_RUN {
                report.more = true;
                return Ok(span.start..done);
            }
            report.hours += usize::from(self.roll_up_hour(hour).await?);
            done = hour + 1;
        }
        Ok(span)
    }

    /// Writes the rollups of an hour. Returns whether it has points.
    async fn roll_up_hour(&self, hour: Hour) -> Result<bool, StoreError> {
        let id = &self.state.device_id;
        let points = read_hour(self.stores.messages(), id, hour, self.gap_s).await?;
        let rollups = points.metrics.into_iter().filter_map(|(metric, minutes)| {
            let hour = RollupBucket { start: start_of_hour(hour), ..merge(&minutes, self.gap_s)? };
            let ttl = self.ttl_days.map(|days| hour.start.as_seconds() + i64::from(days) * DAY_S);
            Some(HourRollup {
                device_id: id.clone(),
                metric,
                hour,
                minutes,
                generation: self.state.version,
                points_expire_at: points.read_stats.earliest_ttl,
                ttl,
            })
        });
        let rollups: Vec<_> = rollups.collect();
        let writes =
            rollups.iter().map(|rollup| self.stores.messages().put_rollup(rollup, self.now));
        let writes: Vec<_> = writes.collect();
        stream::iter(writes).buffer_unordered(WRITE_CONCURRENCY).try_collect::<()>().await?;
        Ok(!rollups.is_empty())
    }
}

/// Removes all rollups of a device after a purge that was requested during the run: the purge may
/// have removed the rollups before the run wrote its own.
///
/// Every hour is marked as pending twice: before the removal, so that concurrent queries read
/// points, and after it, so that rollups that were written and removed in between are computed
/// again.
async fn discard_rollups<S: Stores>(
    stores: &S,
    id: &DeviceId,
    now: Timestamp,
    policy: &DevicePolicy,
) -> Result<(), StoreError> {
    let mark = |state: &mut DeviceState| state.invalidate_rollups(now, policy);
    optimistic_update::update_state(stores.states(), id, mark).await?;
    while stores.messages().delete_rollups_for_device(id).await? {}
    optimistic_update::update_state(stores.states(), id, mark).await.map(drop)
}

/// Returns the hours of a span that may have points, in ascending order.
async fn hours_with_points<M: MessageStore>(
    messages: &M,
    id: &DeviceId,
    span: &Range<Hour>,
) -> Result<Vec<Hour>, StoreError> {
    if span.end - span.start <= DAY_LOOKUP_THRESHOLD_H {
        return Ok(span.clone().collect());
    }
    let days = messages.days(id).await?.into_iter().map(Timestamp::start_of_day).map(hour_of);
    let hours = days.flat_map(|first| first..first + 24);
    Ok(hours.filter(|hour| span.contains(hour)).collect())
}

/// The points of an hour by metric, merged into minutes.
struct HourPoints {
    metrics: BTreeMap<MetricName, Vec<RollupBucket>>,
    read_stats: ReadStats,
}

async fn read_hour<M: MessageStore>(
    messages: &M,
    id: &DeviceId,
    hour: Hour,
    gap_s: u32,
) -> Result<HourPoints, StoreError> {
    let mut query = PointQuery {
        device_id: id.clone(),
        start: start_of_hour(hour),
        stop: start_of_hour(hour + 1),
        metric: None,
        after: None,
        limit: POINTS_PER_READ,
    };
    let mut read = HourPoints { metrics: BTreeMap::new(), read_stats: ReadStats::default() };
    loop {
        let page =
            point_reader::read_with_stats(messages, &query, true, &mut read.read_stats).await?;
        for point in page.points {
            let minutes = read.metrics.entry(point.key.metric.clone()).or_default();
            add_point(minutes, point, gap_s);
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(read),
        }
    }
}

/// Adds a point to the minutes of its metric. Points are added in ascending order of time.
fn add_point(minutes: &mut Vec<RollupBucket>, point: Point, gap_s: u32) {
    let start = point.key.time.floor(60);
    let summary = Summary::of(point.key.time, point.value);
    match minutes.last_mut().filter(|bucket| bucket.start == start) {
        Some(bucket) => {
            bucket.summary.join(&summary, gap_s);
            bucket.unit = point.unit;
        }
        None => minutes.push(RollupBucket { start, summary, unit: point.unit }),
    }
}

/// Merges consecutive buckets; none if there are none.
fn merge(buckets: &[RollupBucket], gap_s: u32) -> Option<RollupBucket> {
    let (first, rest) = buckets.split_first()?;
    let mut all = first.clone();
    for bucket in rest {
        all.summary.join(&bucket.summary, gap_s);
        all.unit.clone_from(&bucket.unit);
    }
    Some(all)
}
