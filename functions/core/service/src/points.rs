//! Reading a device's points back from the parts of its messages.
//!
//! Parts are cut at fixed intervals, and all claims to a point lie in one of them, so a reader holds one
//! interval at a time and never more of it than it may still answer: constant memory for any range.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use meter_domain::metric::{MetricName, Point, PointKey};
use meter_domain::parts::{PART_SECONDS, Part, PartPosition};
use meter_domain::time::Timestamp;
use meter_store::{MessageStore, Order, PartQuery, PointPage, PointQuery, StoreError};

/// How many parts one request reads, about: an interval is always read to its end, since the parts in it
/// are ordered by message and not by point.
const PART_BUDGET: usize = 5_000;

/// What a day costs of it, beside its parts: a device whose clock jumps has parts on thousands of days.
const DAY_COST: usize = 20;

/// Parts a read; at about 1 KB each well under the 1 MB of a DynamoDB page.
const READ_PARTS: usize = 500;

const DAY_SECONDS: i64 = 24 * 3600;

/// How a page was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Effort {
    /// Parts that were read for it, about.
    pub(crate) parts: usize,
    /// When the first of them will be forgotten, in seconds since the epoch.
    pub(crate) until: Option<i64>,
}

/// Reads a page of points.
pub async fn read<S: MessageStore>(store: &S, query: &PointQuery) -> Result<PointPage, StoreError> {
    read_with(store, query, false, &mut Effort::default()).await
}

/// Reads a page of points, consistently or not, and adds what it took.
pub(crate) async fn read_with<S: MessageStore>(
    store: &S,
    query: &PointQuery,
    consistent: bool,
    effort: &mut Effort,
) -> Result<PointPage, StoreError> {
    let begin = query.after.as_ref().map_or(query.start, |after| after.time.max(query.start));
    let from = begin.floor(PART_SECONDS);
    // The last interval may begin before `stop` and hold heads stamped after it.
    let to = interval_end(query.stop);
    let mut page = PointPage { points: Vec::new(), next: None };
    let mut interval = Interval::new(from);
    let mut read = 0;

    for day in store.days(&query.device_id).await? {
        let midnight = Timestamp::start_of(day);
        if midnight >= to || midnight.plus_seconds(DAY_SECONDS) <= from {
            continue;
        }
        if read >= PART_BUDGET {
            let before = midnight.plus_seconds(-i64::from(PART_SECONDS));
            return Ok(interval
                .flush_into(&mut page, query)
                .unwrap_or_else(|| PointPage { next: Some(end_of_interval(before)), ..page }));
        }
        read += DAY_COST;
        let mut after = None;
        loop {
            let request = PartQuery {
                device_id: query.device_id.clone(),
                day,
                from,
                to,
                order: Order::Ascending,
                after: after.take(),
                limit: READ_PARTS,
                consistent,
            };
            let (parts, more) = store.read(&request).await?;
            read += parts.len();
            effort.parts += parts.len();
            let forgotten = parts.iter().filter_map(|part| part.ttl);
            effort.until = effort.until.into_iter().chain(forgotten).min();
            for part in &parts {
                let start = part.ts.floor(PART_SECONDS);
                if start != interval.start {
                    if let Some(full) = interval.flush_into(&mut page, query) {
                        return Ok(full);
                    }
                    if read >= PART_BUDGET {
                        page.next = Some(end_of_interval(interval.start));
                        return Ok(page);
                    }
                    interval = Interval::new(start);
                }
                interval.take(part, query, query.limit - page.points.len());
            }
            match parts.last() {
                Some(last) if more => after = Some(position(last)),
                _ => break,
            }
        }
    }
    Ok(interval.flush_into(&mut page, query).unwrap_or(page))
}

fn position(part: &Part) -> PartPosition {
    PartPosition { ts: part.ts, mid: part.mid, tail: part.head.is_none() }
}

fn interval_end(t: Timestamp) -> Timestamp {
    let floor = t.floor(PART_SECONDS);
    if floor == t { t } else { floor.plus_seconds(i64::from(PART_SECONDS)) }
}

/// The greatest key that an interval can hold.
fn end_of_interval(start: Timestamp) -> PointKey {
    let last = start.plus_seconds(i64::from(PART_SECONDS)).as_nanos() - 1;
    PointKey {
        time: Timestamp::from_nanos(last).unwrap_or(start),
        metric: MetricName::greatest(),
        ordinal: u16::MAX,
    }
}

/// The least points of an interval, as many as the page may still take and one more.
struct Interval {
    start: Timestamp,
    points: BTreeMap<PointKey, Point>,
}

impl Interval {
    fn new(start: Timestamp) -> Self {
        Self { start, points: BTreeMap::new() }
    }

    fn take(&mut self, part: &Part, query: &PointQuery, room: usize) {
        let wanted = |point: &Point| {
            (query.start..query.stop).contains(&point.key.time)
                && query.metric.as_ref().is_none_or(|metric| *metric == point.key.metric)
                && query.after.as_ref().is_none_or(|after| point.key > *after)
        };
        for point in part.samples.iter().map(|sample| Point::of(part, sample)).filter(wanted) {
            match self.points.entry(point.key.clone()) {
                Entry::Vacant(vacant) => {
                    vacant.insert(point);
                }
                Entry::Occupied(mut held) => {
                    if point.claim > held.get().claim {
                        held.insert(point);
                    }
                }
            }
            // What falls out is greater than all that stays, so it could not have come back.
            if self.points.len() > room + 1 {
                self.points.pop_last();
            }
        }
    }

    /// Moves the points to the page; the finished page when they do not all fit.
    fn flush_into(&mut self, page: &mut PointPage, query: &PointQuery) -> Option<PointPage> {
        for (_, point) in std::mem::take(&mut self.points) {
            if page.points.len() == query.limit {
                page.next =
                    page.points.last().map(|last| last.key.clone()).or_else(|| query.after.clone());
                return Some(std::mem::replace(page, PointPage { points: Vec::new(), next: None }));
            }
            page.points.push(point);
        }
        None
    }
}

#[cfg(test)]
mod tests;
