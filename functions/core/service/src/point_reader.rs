//! Reads the points of a device from the segments of its messages.
//!
//! Messages are split into segments at fixed intervals, and all messages that contain a point have
//! it in the same interval. A reader therefore holds one interval at a time, and of it only the
//! points that fit into the page: memory is constant for any range.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use meter_domain::metric::{MetricName, Point, PointKey};
use meter_domain::segments::{MessageSegment, SEGMENT_SECONDS};
use meter_domain::time::{DAY_S, Timestamp};
use meter_store::{MessageStore, Order, PointPage, PointQuery, SegmentQuery, StoreError};

/// Segments that one page reads, about. An interval is always read to its end, because its segments
/// are ordered by message and not by point.
const SEGMENT_BUDGET: usize = 5_000;

/// The cost of a day in segments, besides its own. A device with a faulty clock can have segments
/// on thousands of days.
const DAY_READ_COST: usize = 20;

/// Segments of one read. A segment is about 1 KB, a DynamoDB page at most 1 MB.
const SEGMENTS_PER_READ: usize = 500;

/// Statistics of the reads of a page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ReadStats {
    /// Segments that were read.
    pub(crate) segments: usize,
    /// When the first of these segments expires, in seconds since the epoch.
    pub(crate) earliest_ttl: Option<i64>,
}

impl ReadStats {
    fn add(&mut self, segments: &[MessageSegment]) {
        self.segments += segments.len();
        let expiries = segments.iter().filter_map(|segment| segment.ttl);
        self.earliest_ttl = self.earliest_ttl.into_iter().chain(expiries).min();
    }
}

/// Reads a page of points.
///
/// # Errors
///
/// The store failed.
pub async fn read<S: MessageStore>(store: &S, query: &PointQuery) -> Result<PointPage, StoreError> {
    read_with_stats(store, query, false, &mut ReadStats::default()).await
}

/// Reads a page of points, consistently or not, and adds to the statistics.
pub(crate) async fn read_with_stats<S: MessageStore>(
    store: &S,
    query: &PointQuery,
    consistent: bool,
    read_stats: &mut ReadStats,
) -> Result<PointPage, StoreError> {
    let begin = query.after.as_ref().map_or(query.start, |after| after.time.max(query.start));
    let from = begin.floor(SEGMENT_SECONDS);
    // The last interval can start before `stop` and contain index entries after it.
    let to = ceil_to_interval(query.stop);
    let mut page = PointPage { points: Vec::new(), next: None };
    let mut interval = Interval::new(from);
    let mut read = 0;
    for day in store.days(&query.device_id).await? {
        let midnight = Timestamp::start_of_day(day);
        if midnight >= to || midnight.plus_seconds(DAY_S) <= from {
            continue;
        }
        if read >= SEGMENT_BUDGET {
            let before = midnight.plus_seconds(-i64::from(SEGMENT_SECONDS));
            return Ok(interval.flush_into(&mut page, query).unwrap_or_else(|| PointPage {
                next: Some(last_key_of_interval(before)),
                ..page
            }));
        }
        read += DAY_READ_COST;
        let mut request = SegmentQuery {
            device_id: query.device_id.clone(),
            day,
            from,
            to,
            order: Order::Ascending,
            after: None,
            limit: SEGMENTS_PER_READ,
            consistent,
        };
        loop {
            let (segments, more) = store.read(&request).await?;
            read += segments.len();
            read_stats.add(&segments);
            for segment in &segments {
                let start = segment.ts.floor(SEGMENT_SECONDS);
                if start != interval.start {
                    if let Some(full) = interval.flush_into(&mut page, query) {
                        return Ok(full);
                    }
                    if read >= SEGMENT_BUDGET {
                        page.next = Some(last_key_of_interval(interval.start));
                        return Ok(page);
                    }
                    interval = Interval::new(start);
                }
                interval.add(segment, query, query.limit - page.points.len());
            }
            match segments.last() {
                Some(last) if more => request.after = Some(last.position()),
                _ => break,
            }
        }
    }
    Ok(interval.flush_into(&mut page, query).unwrap_or(page))
}

fn ceil_to_interval(t: Timestamp) -> Timestamp {
    let floor = t.floor(SEGMENT_SECONDS);
    if floor == t { t } else { floor.plus_seconds(i64::from(SEGMENT_SECONDS)) }
}

/// The greatest key that an interval can contain.
fn last_key_of_interval(start: Timestamp) -> PointKey {
    let last = start.plus_seconds(i64::from(SEGMENT_SECONDS)).as_nanos() - 1;
    PointKey {
        time: Timestamp::from_nanos(last).unwrap_or(start),
        metric: MetricName::greatest(),
        sample_index: u16::MAX,
    }
}

/// The points of an interval with the least keys: as many as fit into the page, and one more.
struct Interval {
    start: Timestamp,
    points: BTreeMap<PointKey, Point>,
}

impl Interval {
    fn new(start: Timestamp) -> Self {
        Self { start, points: BTreeMap::new() }
    }

    fn add(&mut self, segment: &MessageSegment, query: &PointQuery, room: usize) {
        let wanted = |point: &Point| {
            (query.start..query.stop).contains(&point.key.time)
                && query.metric.as_ref().is_none_or(|metric| *metric == point.key.metric)
                && query.after.as_ref().is_none_or(|after| point.key > *after)
        };
        for point in segment.points().filter(wanted) {
            match self.points.entry(point.key.clone()) {
                Entry::Vacant(vacant) => {
                    vacant.insert(point);
                }
                Entry::Occupied(mut held) => {
                    if point.precedence > held.get().precedence {
                        held.insert(point);
                    }
                }
            }
            // The removed point is greater than all others, so it can never fit into the page.
            if self.points.len() > room + 1 {
                self.points.pop_last();
            }
        }
    }

    /// Moves the points to the page. Returns the page if they do not all fit.
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
