//! Removes the data of a device: messages, samples, and their bytes in the archive.
//!
//! Bytes are removed before their index entries, so that after a crash the index still references
//! all bytes that are left. The index references one copy of a message. A message that was
//! redelivered, or whose batch failed, may be in two objects. When the index is empty, all objects
//! that can contain messages of the device are therefore searched, which reads every object of
//! those days.

use std::collections::HashSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use meter_domain::archive::{self, ArchivedMessage, BATCH_PREFIX, Location, redaction};
use meter_domain::id::DeviceId;
use meter_domain::message::MAX_AHEAD_S;
use meter_domain::segments::{self, MessageSegment};
use meter_domain::time::{DAY_S, Timestamp};
use meter_store::{
    Archive, ArchiveListing, MessageStore, Order, SegmentQuery, StoreError, Stores, WriteError,
    retry,
};

/// Segments that a round removes, at most. About as many objects are rewritten.
const SEGMENTS_PER_ROUND: usize = 250;

/// Days that a round reads, at most. Most of them may be empty.
const DAYS_PER_ROUND: usize = 100;

/// Objects that are rewritten concurrently. Each is in memory twice.
const REWRITE_CONCURRENCY: usize = 4;

/// Objects that a round of the search reads. It ends at the end of an hour.
const OBJECTS_PER_ROUND: usize = if cfg!(test) { 5 } else { 2_000 };

/// Objects that are read concurrently.
const READ_CONCURRENCY: usize = 16;

/// Removes messages of a device from `from` on, oldest first. Returns where the next round starts,
/// if there is more. Messages that arrive during the purge and are older than `from` are kept.
pub(crate) async fn purge_round<S: Stores>(
    stores: &S,
    id: &DeviceId,
    from: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let mut days = stores.messages().days(id).await?;
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
            let (segments, is_more) = stores.messages().read(&query).await?;
            more = is_more;
            left = left.saturating_sub(segments.len());
            redact_locations(stores.archive(), &segments).await?;
            let positions: Vec<_> = segments.iter().map(MessageSegment::position).collect();
            query.after = positions.last().cloned().or(query.after);
            stores.messages().remove(id, &positions).await?;
        }
    }
    Ok(None)
}

/// Searches objects for messages of a device that were received up to `until`, and removes these.
/// Starts at the objects received at `from`; none: at the first day of the device. Returns where
/// the next round starts, if there is more.
pub(crate) async fn purge_unindexed<S: Stores>(
    stores: &S,
    id: &DeviceId,
    from: Option<Timestamp>,
    until: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let from = match from {
        Some(from) => from,
        None => match stores.messages().days(id).await?.first() {
            // The time of a message is at most a day after its receipt.
            Some(day) => Timestamp::start_of_day(*day).plus_seconds(-MAX_AHEAD_S),
            None => return Ok(None),
        },
    };
    let mut after = archive::batch_prefix_of_hour(from.max(Timestamp::EPOCH));
    let (mut read, mut previous_hour) = (0, None);
    loop {
        let (mut keys, more) = stores.archive().list_keys(BATCH_PREFIX, &after).await?;
        let listed = keys.len();
        keys.retain(|key| archive::batch_hour(key).is_none_or(|hour| hour <= until));
        for objects in keys.chunk_by(|a, b| archive::batch_hour(a) == archive::batch_hour(b)) {
            let hour = objects.first().and_then(|key| archive::batch_hour(key));
            if read >= OBJECTS_PER_ROUND && hour.is_some() && hour != previous_hour {
                return Ok(hour);
            }
            (read, previous_hour) = (read + objects.len(), hour);
            let purges: Vec<_> =
                objects.iter().map(|key| purge_object(stores, id, key, until)).collect();
            stream::iter(purges).buffer_unordered(READ_CONCURRENCY).try_collect::<()>().await?;
        }
        match keys.pop() {
            Some(last) if more && keys.len() + 1 == listed => after = last,
            _ => return Ok(None),
        }
    }
}

/// Redacts the members of a device whose messages were all received up to `until`, and removes the
/// segments of these messages: a message in flight may have been stored after the index was
/// emptied.
async fn purge_object<S: Stores>(
    stores: &S,
    id: &DeviceId,
    key: &str,
    until: Timestamp,
) -> Result<(), StoreError> {
    let Some(object) = stores.archive().get_versioned(key).await? else { return Ok(()) };
    let contents = match archive::read_object(key, &object.body, Some(id)) {
        Ok(contents) => contents,
        Err(error) => {
            tracing::error!(object_key = key, %error, "an invalid object was not searched");
            return Ok(());
        }
    };
    for member in contents.messages.chunk_by(|a, b| a.location == b.location) {
        let is_purged = |m: &ArchivedMessage| m.message.received.received_at <= until;
        let Some(first) = member.first().filter(|_| member.iter().all(is_purged)) else { continue };
        redact_location(stores.archive(), &first.location).await?;
        let positions: Vec<_> =
            member.iter().flat_map(|m| segments::positions(&m.message)).collect();
        stores.messages().remove(id, &positions).await?;
    }
    Ok(())
}

/// Redacts each archive location that segments reference.
async fn redact_locations<O: Archive>(
    archive: &O,
    segments: &[MessageSegment],
) -> Result<(), StoreError> {
    let entries = segments.iter().filter_map(|segment| segment.index_entry.as_ref());
    let locations: HashSet<&Location> = entries.map(|entry| &entry.location).collect();
    let rewrites: Vec<_> =
        locations.into_iter().map(|location| redact_location(archive, location)).collect();
    stream::iter(rewrites).buffer_unordered(REWRITE_CONCURRENCY).try_collect().await
}

/// Removes a message, or redacts the member with the messages of a device in a shared object.
async fn redact_location<O: Archive>(archive: &O, location: &Location) -> Result<(), StoreError> {
    let key = &location.object;
    let Some(member) = location.member else {
        return archive.remove(key).await;
    };
    for attempt in 0..retry::MAX_ATTEMPTS {
        let Some(object) = archive.get_versioned(key).await? else { return Ok(()) };
        let Some(body) = redaction::redact_member(&object.body, member) else { return Ok(()) };
        if redaction::is_redacted(&body) {
            return archive.remove(key).await;
        }
        match archive.replace(key, "application/gzip", Bytes::from(body), &object).await {
            Ok(()) => return Ok(()),
            // A concurrent purge redacted another device.
            Err(WriteError::Conflict) => retry::wait(attempt).await,
            Err(WriteError::Store(error)) => return Err(error),
        }
    }
    let reason = format!("{key} conflicted {} times in a row", retry::MAX_ATTEMPTS);
    Err(StoreError::conflict("replacing an archive object", reason))
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

    /// Stores messages in the archive and, if `is_indexed`, in the index.
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
    async fn unindexed_messages_are_purged_up_to_the_time_of_the_delete() {
        let memory = MemoryStores::new();
        for hour in 0..6 {
            for n in 0..4 {
                let s = hour * 3_600 + n;
                store(&memory, &[message("a", s), message("b", s)], true).await;
                // Redelivered in another batch, which failed before it was indexed.
                store(&memory, &[message("a", s), message("b", s + 100)], false).await;
            }
        }
        let until = second(4 * 3_600 + 1);
        let id = DeviceId::parse("a").unwrap();
        let of_b = lines_of(&memory, "b");
        let (mut from, mut rounds) = (None, 0);
        while let Some(next) = purge_unindexed(&memory, &id, from, until).await.unwrap() {
            assert!(from < Some(next), "a round makes progress");
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
        assert_eq!(memory.segments(&id).len(), after.len(), "the index contains the same messages");
        assert_eq!(lines_of(&memory, "b"), of_b);
        let unknown = DeviceId::parse("unknown").unwrap();
        assert_eq!(purge_unindexed(&memory, &unknown, None, until).await.unwrap(), None);
    }
}
