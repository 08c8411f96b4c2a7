//! Removing what a device said: messages, measurements, and their bytes in the archive.
//!
//! The archive goes first and its index after that, so that ending anywhere leaves an index that leads to
//! what is left. The index leads to one place of a message, and a message that was delivered again, or by a function that
//! died half way, may be in two objects: so what the device can be in is searched when the index is empty. That
//! reads every object of those days, and is why a purge is for people who must.

use std::collections::HashSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use meter_domain::archive::{self, ArchivedMessage, BATCH_PREFIX, Location, redaction};
use meter_domain::id::DeviceId;
use meter_domain::message::MAX_AHEAD_S;
use meter_domain::segments;
use meter_domain::segments::MessageSegment;
use meter_domain::time::{DAY_S, Timestamp};
use meter_store::retry;
use meter_store::{
    Archive, ArchiveListing, MessageStore, Order, SegmentQuery, StoreError, WriteError,
};

/// Parts that a round removes at most. About as many objects are rewritten for it.
const SEGMENTS_PER_ROUND: usize = 250;

/// Days that a round looks at, at most. Most of them may be empty.
const DAYS_PER_ROUND: usize = 100;

/// Objects that are rewritten at once. Each is in memory, twice.
const REWRITE_CONCURRENCY: usize = 4;

/// Objects that a round of the search opens, about: it ends with an hour. Seconds, on AWS.
const OBJECTS_PER_ROUND: usize = if cfg!(test) { 5 } else { 2_000 };

/// Objects that are opened at once.
const READ_CONCURRENCY: usize = 16;

/// Removes some of what a device said from `from` on, oldest first; where to go on, if there is more. What arrives
/// meanwhile and is older than that is kept.
pub(crate) async fn purge_round<M, O>(
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
    let mut left = SEGMENTS_PER_ROUND;
    for (days_read, day) in days.into_iter().enumerate() {
        let start = Timestamp::start_of_day(day);
        let mut query = SegmentQuery {
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
            if left == 0 || days_read == DAYS_PER_ROUND {
                return Ok(Some(start));
            }
            query.limit = left;
            let (segments, is_more) = messages.read(&query).await?;
            more = is_more;
            left = left.saturating_sub(segments.len());
            redact_locations(archive, &segments).await?;
            let positions: Vec<_> = segments.iter().map(MessageSegment::position).collect();
            query.after = positions.last().cloned().or(query.after);
            messages.remove(id, &positions).await?;
        }
    }
    Ok(None)
}

/// Searches some objects, from those received at `from` on (none: from where the device can have said something), for
/// what the device said up to `until`, and removes it; where to go on, if there is more.
pub(crate) async fn purge_unindexed<M, O>(
    messages: &M,
    archive: &O,
    id: &DeviceId,
    from: Option<Timestamp>,
    until: Timestamp,
) -> Result<Option<Timestamp>, StoreError>
where
    M: MessageStore,
    O: Archive + ArchiveListing,
{
    let from = match from {
        Some(from) => from,
        None => match messages.days(id).await?.first() {
            // No message is made more than a day after its receipt.
            Some(day) => Timestamp::start_of_day(*day).plus_seconds(-MAX_AHEAD_S),
            None => return Ok(None),
        },
    };
    let mut after = archive::batch_prefix_of_hour(from.max(Timestamp::EPOCH));
    let (mut opened, mut hour) = (0, None);
    loop {
        let (mut keys, more) = archive.list_keys(BATCH_PREFIX, &after).await?;
        let listed = keys.len();
        keys.retain(|key| archive::batch_hour(key).is_none_or(|hour| hour <= until));
        for objects in keys.chunk_by(|a, b| archive::batch_hour(a) == archive::batch_hour(b)) {
            let this = objects.first().and_then(|key| archive::batch_hour(key));
            if opened >= OBJECTS_PER_ROUND && this.is_some() && this != hour {
                return Ok(this);
            }
            (opened, hour) = (opened + objects.len(), this);
            let purges = objects.iter().map(|key| purge_object(messages, archive, id, key, until));
            let purges: Vec<_> = purges.collect();
            stream::iter(purges).buffer_unordered(READ_CONCURRENCY).try_collect::<()>().await?;
        }
        match keys.pop() {
            Some(last) if more && keys.len() + 1 == listed => after = last,
            _ => return Ok(None),
        }
    }
}

/// Empties the members of the device whose messages were all received up to `until`, and removes what the index
/// has of these: one that was on its way when the purge was asked for may have been stored since.
async fn purge_object<M, O>(
    messages: &M,
    archive: &O,
    id: &DeviceId,
    key: &str,
    until: Timestamp,
) -> Result<(), StoreError>
where
    M: MessageStore,
    O: Archive,
{
    let Some(opened) = archive.get_versioned(key).await? else { return Ok(()) };
    let contents = match archive::read_object(key, &opened.body, Some(id)) {
        Ok(contents) => contents,
        Err(error) => {
            tracing::error!(object_key = key, %error, "damaged: not searched");
            return Ok(());
        }
    };
    for found in contents.messages.chunk_by(|a, b| a.location == b.location) {
        let is_over = |m: &ArchivedMessage| m.message.received.received_at <= until;
        let Some(first) = found.first().filter(|_| found.iter().all(is_over)) else { continue };
        redact_location(archive, &first.location).await?;
        let positions: Vec<_> =
            found.iter().flat_map(|m| segments::positions(&m.message)).collect();
        messages.remove(id, &positions).await?;
    }
    Ok(())
}

/// Empties the places in the archive that parts lead to, each once.
async fn redact_locations<O: Archive>(
    archive: &O,
    segments: &[MessageSegment],
) -> Result<(), StoreError> {
    let heads = segments.iter().filter_map(|segment| segment.index_entry.as_ref());
    let places: HashSet<&Location> = heads.map(|index_entry| &index_entry.location).collect();
    let rewrites: Vec<_> =
        places.into_iter().map(|place| redact_location(archive, place)).collect();
    stream::iter(rewrites).buffer_unordered(REWRITE_CONCURRENCY).try_collect().await
}

/// Takes a message, or the member with the device's messages, out of an object that others share.
async fn redact_location<O: Archive>(archive: &O, place: &Location) -> Result<(), StoreError> {
    let key = &place.object;
    let Some(member) = place.member else {
        return archive.remove(key).await;
    };
    for attempt in 0..retry::MAX_ATTEMPTS {
        let Some(read) = archive.get_versioned(key).await? else { return Ok(()) };
        let Some(body) = redaction::redact_member(&read.body, member) else { return Ok(()) };
        if redaction::is_redacted(&body) {
            return archive.remove(key).await;
        }
        match archive.replace(key, "application/gzip", Bytes::from(body), &read).await {
            Ok(()) => return Ok(()),
            // Another device's data is taken out of it.
            Err(WriteError::Conflict) => retry::wait(attempt).await,
            Err(WriteError::Store(error)) => return Err(error),
        }
    }
    Err(StoreError::Unavailable {
        operation: "rewriting of an object",
        source: format!("{key} was written by others {} times in a row", retry::MAX_ATTEMPTS)
            .into(),
    })
}

#[cfg(test)]
mod tests {
    use meter_domain::archive::{Layout, pack};
    use meter_domain::message::{Message, ReceivedMessage, parse};
    use meter_testing::memory::MemoryStores;
    use serde_json::json;

    use super::*;

    fn second(s: i64) -> Timestamp {
        Timestamp::parse("2026-03-01T00:00:00Z").unwrap().plus_seconds(s)
    }

    fn message(device: &str, s: i64) -> Message {
        let payload = json!({"v": 2, "device_id": device, "ts": second(s), "seq": s, "msg_type": "telemetry",
            "measurements": [{"type": "pf", "val": s}]});
        parse(&ReceivedMessage {
            topic: format!("iot/{device}/telemetry"),
            payload: payload.to_string().into(),
            received_at: second(s),
        })
        .unwrap()
    }

    /// Stores messages as ingest does, up to its second step.
    async fn store(memory: &MemoryStores, messages: &[Message], is_indexed: bool) {
        for object in pack(Layout::Batch, &messages.iter().collect::<Vec<_>>()) {
            Archive::put(memory, &object.key, "x", object.body).await.unwrap();
            for (message_id, location) in object.entries.into_iter().filter(|_| is_indexed) {
                let message = messages.iter().find(|m| m.message_id == message_id).unwrap();
                let segments = segments::split(message, location, None, |_| true);
                MessageStore::put(memory, &segments).await.unwrap();
            }
        }
    }

    fn lines_of(memory: &MemoryStores, device: &str) -> Vec<i64> {
        let id = DeviceId::parse(device).unwrap();
        let objects = memory.objects();
        let lines = objects
            .iter()
            .flat_map(|(key, body)| archive::read_object(key, body, Some(&id)).unwrap().messages);
        let base = second(0).as_seconds();
        let mut seconds: Vec<_> = lines.map(|m| m.message.ts.as_seconds() - base).collect();
        seconds.sort_unstable();
        seconds
    }

    #[tokio::test]
    async fn what_the_index_does_not_lead_to_is_found_up_to_the_hour_and_nothing_later() {
        let memory = MemoryStores::new();
        for hour in 0..6 {
            for n in 0..4 {
                let s = hour * 3_600 + n;
                store(&memory, &[message("a", s), message("b", s)], true).await;
                // It came again, beside another message, and that function died.
                store(&memory, &[message("a", s), message("b", s + 100)], false).await;
            }
        }
        let until = second(4 * 3_600 + 1);
        let id = DeviceId::parse("a").unwrap();
        let of_b = lines_of(&memory, "b");
        let (mut from, mut rounds) = (None, 0);
        while let Some(next) = purge_unindexed(&memory, &memory, &id, from, until).await.unwrap() {
            assert!(from < Some(next), "it goes on");
            (from, rounds) = (Some(next), rounds + 1);
        }
        assert!(rounds > 2, "{rounds}");
        let after: Vec<i64> = [2, 3]
            .map(|n| 4 * 3_600 + n)
            .into_iter()
            .chain((0..4).map(|n| 5 * 3_600 + n))
            .collect();
        let mut twice = [after.clone(), after.clone()].concat();
        twice.sort_unstable();
        assert_eq!(lines_of(&memory, "a"), twice);
        assert_eq!(memory.segments(&id).len(), after.len(), "and the index is of the same");
        assert_eq!(lines_of(&memory, "b"), of_b);
        let nobody = DeviceId::parse("nobody").unwrap();
        assert_eq!(purge_unindexed(&memory, &memory, &nobody, None, until).await.unwrap(), None);
    }
}
