//! Rolling up: minutes and hours of a device as a pure function of its points.
//!
//! Ingest only notes which hours have new samples (see [`meter_domain::state::Unrolled`]); the watchdog rolls them
//! up when they are due. It reads the state, then the points, writes the rollups, and takes the hours out
//! of the state unless they were noted again: so it may die anywhere, and run twice at once.

use std::collections::BTreeMap;
use std::ops::Range;

use futures::{StreamExt, TryStreamExt, stream};
use meter_domain::aggregate::Summary;
use meter_domain::id::DeviceId;
use meter_domain::metric::{MetricName, Point};
use meter_domain::state::{DevicePolicy, DeviceState, Hour, hour_of, start_of_hour};
use meter_domain::time::{DAY_S, Timestamp};
use meter_store::{
    HourRollup, MessageStore, PointQuery, RollupBucket, RollupStore, StateStore, StoreError,
};

use crate::optimistic_update;
use crate::point_reader::{self, ReadStats};

/// Hours of a device that one run rolls up, at most; the next run goes on.
const MAX_HOURS_PER_RUN: usize = 24;

/// Beyond so many hours in a row it is asked which days have points at all.
const DAY_LOOKUP_THRESHOLD_H: Hour = 48;

/// Points a read.
const POINTS_PER_READ: usize = 10_000;

/// Rollups that are written at once, of one hour.
const WRITE_CONCURRENCY: usize = 8;

/// What a run came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RollupReport {
    /// Hours that have points and were rolled up.
    pub hours: usize,
    /// Whether more are due.
    pub more: bool,
}

/// Rolls up what is due of a device at `now`. Rollups may be forgotten `ttl_days` days after their hour;
/// none: never.
pub async fn roll_up<S, M, R>(
    states: &S,
    messages: &M,
    rollups: &R,
    id: &DeviceId,
    ttl_days: Option<u32>,
    now: Timestamp,
    policy: &DevicePolicy,
) -> Result<RollupReport, StoreError>
where
    S: StateStore,
    M: MessageStore,
    R: RollupStore,
{
    let Some(gap_s) = policy.rollup_gap_s else { return Ok(RollupReport::default()) };
    let state = optimistic_update::read_state(states, id).await?;
    let mut rolled = RollupReport::default();
    let due: Vec<Range<Hour>> =
        state.pending_rollups.due(now).map(|span| span.hours.clone()).collect();
    for span in due {
        let mut done = span.start;
        for hour in hours_with_points(messages, id, &span).await? {
            if rolled.hours == MAX_HOURS_PER_RUN {
                rolled.more = true;
                break;
            }
            let read = read_hour(messages, id, hour, gap_s).await?;
            let writes = read.metrics.into_iter().filter_map(|(metric, minutes)| {
                let hour = RollupBucket { start: start_of_hour(hour), ..merge(&minutes, gap_s)? };
                let ttl = ttl_days.map(|days| hour.start.as_seconds() + i64::from(days) * DAY_S);
                Some(HourRollup {
                    device_id: id.clone(),
                    metric,
                    hour,
                    minutes,
                    generation: state.version,
                    points_expire_at: read.read_stats.earliest_ttl,
                    ttl,
                })
            });
            let writes: Vec<_> = writes.collect();
            rolled.hours += usize::from(!writes.is_empty());
            let writes = writes.iter().map(|rollup| rollups.put_rollup(rollup, now));
            let writes: Vec<_> = writes.collect();
            stream::iter(writes).buffer_unordered(WRITE_CONCURRENCY).try_collect::<()>().await?;
            done = hour + 1;
        }
        if !rolled.more {
            done = span.end;
        }
        let hours = span.start..done;
        let note = |held: &mut DeviceState| held.mark_rolled_up(&hours, state.version, now, policy);
        let held = optimistic_update::update_state(states, id, note).await?;
        if held.purged_at != state.purged_at {
            discard_rollups(states, rollups, id, now, policy).await?;
            return Ok(rolled);
        }
        if rolled.more {
            break;
        }
    }
    Ok(rolled)
}

/// A purge was asked for after the points were read: it may have looked for rollups before these were there. All of
/// them go. Every hour is noted, before so that whoever asks meanwhile reads points, and after so that what was rolled
/// up meanwhile and removed here is made again.
async fn discard_rollups<S: StateStore, R: RollupStore>(
    states: &S,
    rollups: &R,
    id: &DeviceId,
    now: Timestamp,
    policy: &DevicePolicy,
) -> Result<(), StoreError> {
    let note = |held: &mut DeviceState| held.invalidate_rollups(now, policy);
    optimistic_update::update_state(states, id, note).await?;
    while rollups.delete_rollups_for_device(id).await? {}
    optimistic_update::update_state(states, id, note).await.map(drop)
}

/// The hours of a span that may have points, in order.
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

/// An hour's points, by metric and minute.
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

/// Adds a point to the minutes of its metric. Points come in the order of time.
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

/// What buckets that follow each other come to.
fn merge(buckets: &[RollupBucket], gap_s: u32) -> Option<RollupBucket> {
    let (first, rest) = buckets.split_first()?;
    let mut all = first.clone();
    for bucket in rest {
        all.summary.join(&bucket.summary, gap_s);
        all.unit.clone_from(&bucket.unit);
    }
    Some(all)
}
