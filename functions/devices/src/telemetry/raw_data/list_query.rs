//! The index entries of messages, newest first: the days are read backwards.

use jiff::civil::Date;
use meter_domain::archive::file_name;
use meter_domain::id::DeviceId;
use meter_domain::segments::{IndexEntry, MessageSegment, SegmentPosition};
use meter_domain::time::{DAY_S, Timestamp};
use meter_http::range::TimeRange;
use meter_store::{MAX_ITEMS_EXAMINED, MessageStore, Order, SegmentQuery, StoreError};
use serde::{Deserialize, Serialize};

use super::prefix::Prefix;

/// The least number of items that a read takes from the budget: a device with one message a day
/// must not cause a thousand reads.
const MIN_READ_COST: usize = 10;

/// The least `limit` of a read in segments, since only the first segment of a message is listed.
const MIN_READ_LIMIT: usize = 50;

/// A query of messages.
#[derive(Debug)]
pub(super) struct ListQuery {
    pub(super) device_id: DeviceId,
    pub(super) prefix: Prefix,
    pub(super) from: Position,
    pub(super) limit: usize,
}

/// The position at which a page begins, as a cursor contains it. Its range is the one of the first
/// page: the pages of the last hour belong to one hour.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) range: TimeRange,
    pub(super) after: Option<SegmentPosition>,
}

/// A message of the list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FoundMessage {
    pub(super) place: SegmentPosition,
    pub(super) index_entry: IndexEntry,
}

impl FoundMessage {
    /// The name of the message without its device.
    pub(super) fn name(&self) -> String {
        file_name(self.index_entry.category, self.place.ts, self.place.message_id)
    }
}

/// Some messages, and the position of the next page.
#[derive(Debug, Default)]
pub(super) struct MessagePage {
    pub(super) found: Vec<FoundMessage>,
    pub(super) next: Option<Position>,
}

/// Reads a page.
pub(super) async fn read<M: MessageStore>(
    messages: &M,
    wanted: &ListQuery,
) -> Result<MessagePage, StoreError> {
    let mut listing = MessagePage::default();
    if !wanted.prefix.can_match() {
        return Ok(listing);
    }
    let Position { range, after } = wanted.from;
    let narrow = range.intersect(wanted.prefix.range);
    let mut days = messages.days(&wanted.device_id).await?;
    days.retain(|day| is_in(*day, narrow, after));
    let mut budget = MAX_ITEMS_EXAMINED;
    while let Some(day) = days.pop() {
        let mut after = after.filter(|after| after.ts.day() == day);
        loop {
            let room = wanted.limit - listing.found.len();
            let query = SegmentQuery {
                device_id: wanted.device_id.clone(),
                day,
                from: narrow.start.max(Timestamp::start_of_day(day)),
                to: narrow.stop.min(end_of(day)),
                order: Order::Descending,
                after,
                limit: room.max(MIN_READ_LIMIT).min(budget.max(1)),
                consistent: false,
            };
            let (segments, more) = messages.read(&query).await?;
            budget = budget.saturating_sub(segments.len().max(MIN_READ_COST));
            let last = segments.last().map(MessageSegment::position);
            for segment in segments {
                let place = segment.position();
                listing.take(segment, &wanted.prefix);
                if listing.found.len() == wanted.limit {
                    let is_end = last == Some(place) && !more && days.is_empty();
                    listing.next = (!is_end).then_some(Position { range, after: Some(place) });
                    return Ok(listing);
                }
            }
            after = last.filter(|_| more);
            let is_whole_day = after.is_none();
            if budget == 0 && !(is_whole_day && days.is_empty()) {
                // The next page begins with the day before a complete day.
                let stop = Timestamp::start_of_day(day);
                let rest = if is_whole_day { TimeRange { stop, ..range } } else { range };
                listing.next = Some(Position { range: rest, after });
                return Ok(listing);
            }
            if is_whole_day {
                break;
            }
        }
    }
    Ok(listing)
}

impl MessagePage {
    fn take(&mut self, segment: MessageSegment, prefix: &Prefix) {
        let place = segment.position();
        if let Some(index_entry) = segment.index_entry {
            let found = FoundMessage { place, index_entry };
            if prefix.matches(&found.name()) {
                self.found.push(found);
            }
        }
    }
}

/// Whether a day is in the range and not read already.
fn is_in(day: Date, range: TimeRange, after: Option<SegmentPosition>) -> bool {
    let starts_in_time = Timestamp::start_of_day(day) < range.stop;
    let ends_in_time = end_of(day) > range.start;
    starts_in_time && ends_in_time && after.is_none_or(|after| day <= after.ts.day())
}

fn end_of(day: Date) -> Timestamp {
    Timestamp::start_of_day(day).plus_seconds(DAY_S)
}
