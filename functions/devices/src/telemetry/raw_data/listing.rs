//! Which messages there are, newest first, read day by day backwards.

use jiff::civil::Date;
use meter_domain::archive::file_name;
use meter_domain::id::{DeviceId, Mid};
use meter_domain::parts::{Head, Part, PartPosition};
use meter_domain::time::Timestamp;
use meter_http::range::TimeRange;
use meter_store::{MessageStore, Order, PartQuery, READ_BUDGET, StoreError};
use serde::{Deserialize, Serialize};

use super::prefix::Prefix;

const DAY_S: i64 = 24 * 3600;

/// A read costs at least so many items of the budget, however few it answers: a device that spoke
/// once a day must not cost a thousand reads.
const READ_COST: usize = 10;

/// A read asks for at least so many parts: only the first of a message's parts is listed.
const LEAST_READ: usize = 50;

/// Which messages.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) device_id: DeviceId,
    pub(super) prefix: Prefix,
    pub(super) from: Position,
    pub(super) limit: usize,
}

/// Where a page begins: what a cursor holds. Its range is that of the first page, so that turning pages
/// of the last hour for a minute shows that hour.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) range: TimeRange,
    pub(super) after: Option<Place>,
}

/// A message that was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) head: Head,
}

impl Found {
    /// Its name below its device.
    pub(super) fn name(&self) -> String {
        file_name(self.head.category, self.place.ts, self.place.mid)
    }
}

/// Where a part stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) ts: Timestamp,
    pub(super) mid: Mid,
    pub(super) tail: bool,
}

impl Place {
    fn of(part: &Part) -> Self {
        Self { ts: part.ts, mid: part.mid, tail: part.head.is_none() }
    }

    fn position(self) -> PartPosition {
        PartPosition { ts: self.ts, mid: self.mid, tail: self.tail }
    }
}

/// Some messages, and where the rest begins.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) found: Vec<Found>,
    pub(super) next: Option<Position>,
}

/// Reads a page.
pub(super) async fn read<M: MessageStore>(
    messages: &M,
    wanted: &Wanted,
) -> Result<Listing, StoreError> {
    let mut listing = Listing::default();
    if !wanted.prefix.can_match() {
        return Ok(listing);
    }
    let Position { range, after } = wanted.from;
    let narrow = range.and(wanted.prefix.range);
    let mut days = messages.days(&wanted.device_id).await?;
    days.retain(|day| is_in(*day, narrow, after));
    let mut budget = READ_BUDGET;
    while let Some(day) = days.pop() {
        let mut after = after.filter(|after| after.ts.day() == day);
        loop {
            let room = wanted.limit - listing.found.len();
            let query = PartQuery {
                device_id: wanted.device_id.clone(),
                day,
                from: narrow.start.max(Timestamp::start_of(day)),
                to: narrow.stop.min(end_of(day)),
                order: Order::Descending,
                after: after.map(Place::position),
                limit: room.max(LEAST_READ).min(budget.max(1)),
                consistent: false,
            };
            let (parts, more) = messages.read(&query).await?;
            budget = budget.saturating_sub(parts.len().max(READ_COST));
            let last = parts.last().map(Place::of);
            for part in parts {
                let place = Place::of(&part);
                listing.take(part, &wanted.prefix);
                if listing.found.len() == wanted.limit {
                    let is_end = last == Some(place) && !more && days.is_empty();
                    listing.next = (!is_end).then_some(Position { range, after: Some(place) });
                    return Ok(listing);
                }
            }
            after = last.filter(|_| more);
            let is_whole_day = after.is_none();
            if budget == 0 && !(is_whole_day && days.is_empty()) {
                // After a whole day the days before it follow.
                let stop = Timestamp::start_of(day);
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

impl Listing {
    fn take(&mut self, part: Part, prefix: &Prefix) {
        let place = Place::of(&part);
        if let Some(head) = part.head {
            let found = Found { place, head };
            if prefix.matches(&found.name()) {
                self.found.push(found);
            }
        }
    }
}

/// Whether a day has something to read: in the range, and not read already.
fn is_in(day: Date, range: TimeRange, after: Option<Place>) -> bool {
    let starts_in_time = Timestamp::start_of(day) < range.stop;
    let ends_in_time = end_of(day) > range.start;
    starts_in_time && ends_in_time && after.is_none_or(|after| day <= after.ts.day())
}

fn end_of(day: Date) -> Timestamp {
    Timestamp::start_of(day).plus_seconds(DAY_S)
}
