//! Removing what a device said: messages, measurements, and their bytes in the archive.
//!
//! The archive goes first and its index after that, so that ending anywhere leaves an index that leads to
//! what is left. What the index has forgotten (`MESSAGE_TTL_DAYS`) is not found here any more: its
//! bytes go with the bucket's lifecycle.

use std::collections::HashSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use crate::archive::{Location, blank};
use crate::id::DeviceId;
use crate::retry;
use crate::store::{Archive, MessageStore, Order, Part, PartQuery, StoreError, WriteError};
use crate::time::Timestamp;

/// Parts that a round removes at most. About as many objects are rewritten for it.
const PARTS_A_ROUND: usize = 250;

/// Days that a round looks at, at most. Most of them may be empty.
const DAYS_A_ROUND: usize = 100;

/// Objects that are rewritten at once. Each is in memory, twice.
const REWRITTEN_AT_ONCE: usize = 4;

const DAY_S: i64 = 24 * 3600;

/// Removes some of what a device said from `from` on, oldest first; where to go on, if there is more. What arrives
/// meanwhile and is older than that is kept.
pub(crate) async fn round<M, O>(
    messages: &M,
    archive: &O,
    id: &DeviceId,
    from: Timestamp,
) -> Result<Option<Timestamp>, StoreError>
where
    M: MessageStore,
    O: Archive,
{
    let mut days = messages.days(id).await?;
    days.retain(|day| *day >= from.day());
    let mut left = PARTS_A_ROUND;
    for (looked_at, day) in days.into_iter().enumerate() {
        let start = Timestamp::start_of(day);
        let mut query = PartQuery {
            device_id: id.clone(),
            day,
            from: start,
            to: start.plus_seconds(DAY_S),
            order: Order::Ascending,
            after: None,
            limit: left,
            consistent: false,
        };
        let mut more = true;
        while more {
            if left == 0 || looked_at == DAYS_A_ROUND {
                return Ok(Some(start));
            }
            query.limit = left;
            let (parts, is_more) = messages.read(&query).await?;
            more = is_more;
            left = left.saturating_sub(parts.len());
            empty(archive, &parts).await?;
            let positions: Vec<_> = parts.iter().map(Part::position).collect();
            query.after = positions.last().cloned().or(query.after);
            messages.remove(id, &positions).await?;
        }
    }
    Ok(None)
}

/// Empties the places in the archive that parts lead to, each once.
async fn empty<O: Archive>(archive: &O, parts: &[Part]) -> Result<(), StoreError> {
    let heads = parts.iter().filter_map(|part| part.head.as_ref());
    let places: HashSet<&Location> = heads.map(|head| &head.location).collect();
    let rewrites: Vec<_> = places.into_iter().map(|place| take_out(archive, place)).collect();
    stream::iter(rewrites).buffer_unordered(REWRITTEN_AT_ONCE).try_collect().await
}

/// Takes a message, or the member with the device's messages, out of an object that others share.
async fn take_out<O: Archive>(archive: &O, place: &Location) -> Result<(), StoreError> {
    let key = &place.object;
    let Some(member) = place.member else {
        return archive.remove(key).await;
    };
    for attempt in 0..retry::ATTEMPTS {
        let Some(read) = archive.open(key).await? else { return Ok(()) };
        let Some(body) = blank::without_member(&read.body, member) else { return Ok(()) };
        if blank::is_blank(&body) {
            return archive.remove(key).await;
        }
        match archive.replace(key, "application/gzip", Bytes::from(body), &read).await {
            Ok(()) => return Ok(()),
            // Another device's data is taken out of it.
            Err(WriteError::Conflict) => retry::pause(attempt).await,
            Err(WriteError::Store(error)) => return Err(error),
        }
    }
    Err(StoreError::Unavailable {
        operation: "rewriting of an object",
        source: format!("{key} was written by others {} times in a row", retry::ATTEMPTS).into(),
    })
}
