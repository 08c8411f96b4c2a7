//! The objects of a replay and their order.

use meter_domain::archive::{self, BATCH_PREFIX, QUARANTINE_PREFIX};
use meter_domain::id::DeviceId;
use meter_domain::message::Message;
use meter_domain::time::Timestamp;
use meter_store::{ArchiveListing, StoreError};
use serde::{Deserialize, Serialize};

/// The messages of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayScope {
    /// The device; none: all devices.
    pub device: Option<DeviceId>,
    /// Messages received at this time or later.
    pub start: Timestamp,
    /// Messages received before this time.
    pub stop: Timestamp,
}

impl ReplayScope {
    pub(super) fn contains(&self, message: &Message) -> bool {
        let at = message.received.received_at;
        let is_device = self.device.as_ref().is_none_or(|id| *id == message.device_id);
        is_device && self.start <= at && at < self.stop
    }
}

/// A position in the archive. It can contain objects of both layouts, because the setting can
/// change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "in", content = "after", rename_all = "snake_case")]
pub enum ArchiveCursor {
    /// In the objects of batches, after this key.
    Batches(String),
    /// In the objects of single messages, after this key.
    Messages(String),
    /// The end.
    Done,
}

impl Default for ArchiveCursor {
    fn default() -> Self {
        Self::Batches(String::new())
    }
}

/// Returns the next keys and the position after them. A result without keys is not the end.
pub(super) async fn next<K: ArchiveListing>(
    archive: &K,
    scope: &ReplayScope,
    cursor: &ArchiveCursor,
) -> Result<(Vec<String>, ArchiveCursor), StoreError> {
    match cursor {
        ArchiveCursor::Batches(after) => batches(archive, scope, after).await,
        ArchiveCursor::Messages(after) => messages(archive, scope, after).await,
        ArchiveCursor::Done => Ok((Vec::new(), ArchiveCursor::Done)),
    }
}

async fn batches<K: ArchiveListing>(
    archive: &K,
    scope: &ReplayScope,
    after: &str,
) -> Result<(Vec<String>, ArchiveCursor), StoreError> {
    let messages = ArchiveCursor::Messages(String::new());
    if scope.start >= scope.stop {
        return Ok((Vec::new(), messages));
    }
    // The prefix is less than all keys that start with it.
    let first = archive::batch_prefix_of_hour(scope.start);
    let after = if after.is_empty() { &first } else { after };
    let last = Timestamp::from_nanos(scope.stop.as_nanos() - 1).unwrap_or(scope.stop);
    let last = archive::batch_prefix_of_hour(last);
    let is_beyond = |key: &String| *key > last && !key.starts_with(&last);
    let (mut keys, more) = archive.list_keys(BATCH_PREFIX, after).await?;
    let listed = keys.len();
    keys.retain(|key| !is_beyond(key));
    let cursor = match keys.last() {
        Some(last) if more && keys.len() == listed => ArchiveCursor::Batches(last.clone()),
        _ => messages,
    };
    Ok((keys, cursor))
}

async fn messages<K: ArchiveListing>(
    archive: &K,
    scope: &ReplayScope,
    after: &str,
) -> Result<(Vec<String>, ArchiveCursor), StoreError> {
    let prefix = scope.device.as_ref().map_or(String::new(), |id| format!("{id}/"));
    let (mut keys, more) = archive.list_keys(&prefix, after).await?;
    let cursor = match keys.last() {
        Some(last) if more => ArchiveCursor::Messages(skip_batch_folders(last)),
        _ => ArchiveCursor::Done,
    };
    keys.retain(|key| is_message_key(key));
    Ok((keys, cursor))
}

/// The key after which the list continues. The prefixes of batches, which can contain millions of
/// objects, are skipped.
fn skip_batch_folders(key: &str) -> String {
    let folder =
        [BATCH_PREFIX, QUARANTINE_PREFIX].into_iter().find(|folder| key.starts_with(folder));
    // The prefix with its last byte replaced by the next byte is greater than all keys in it.
    folder.and_then(|folder| folder.strip_suffix('=')).map_or(key.to_owned(), |f| format!("{f}>"))
}

fn is_message_key(key: &str) -> bool {
    let parts = key.split_once('/');
    parts.is_some_and(|(device, name)| {
        DeviceId::parse(device).is_ok() && archive::parse_file_name(name).is_some()
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use meter_domain::archive::file_name;
    use meter_domain::id::MessageId;
    use meter_domain::message::Category;
    use meter_store::Archive;
    use meter_testing::memory::{MemoryStores, Operation};

    use super::*;

    fn t(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn scope(device: Option<&str>, start: &str, stop: &str) -> ReplayScope {
        let device = device.map(|id| DeviceId::parse(id).unwrap());
        ReplayScope { device, start: t(start), stop: t(stop) }
    }

    fn of_batch(at: &str, number: u32) -> String {
        format!("{}{number:04}.ndjson.gz", archive::batch_prefix_of_hour(t(at)))
    }

    fn of_message(device: &str, number: u32) -> String {
        let message_id = MessageId::of("t", &number.to_be_bytes());
        format!(
            "{device}/{}",
            file_name(Category::Telemetry, t("2026-03-01T12:00:00Z"), message_id)
        )
    }

    async fn put(memory: &MemoryStores, keys: &[String]) {
        for key in keys {
            Archive::put(memory, key, "x", Bytes::new()).await.unwrap();
        }
    }

    async fn all_keys(memory: &MemoryStores, scope: &ReplayScope) -> Vec<String> {
        let (mut cursor, mut all) = (ArchiveCursor::default(), Vec::new());
        while cursor != ArchiveCursor::Done {
            let (keys, then) = next(memory, scope, &cursor).await.unwrap();
            assert_ne!(then, cursor, "the position advances");
            all.extend(keys);
            cursor = then;
        }
        all
    }

    #[tokio::test]
    async fn only_hours_of_the_range_are_listed() {
        let memory = MemoryStores::new();
        let hours = [
            "2026-03-01T11:00:00Z",
            "2026-03-01T12:00:00Z",
            "2026-03-01T13:00:00Z",
            "2026-03-02T00:00:00Z",
        ];
        let keys = hours.map(|hour| (0..25).map(|n| of_batch(hour, n)).collect::<Vec<_>>());
        put(&memory, &keys.concat()).await;
        for (start, stop, wanted) in [
            ("2026-03-01T12:59:59Z", "2026-03-01T13:00:00Z", &keys[1..2]),
            ("2026-03-01T12:59:59Z", "2026-03-01T13:00:00.000000001Z", &keys[1..3]),
            ("2026-03-01T14:00:00Z", "2026-03-01T23:00:00Z", &keys[0..0]),
            ("1970-01-01T00:00:00Z", "2030-01-01T00:00:00Z", &keys[0..4]),
            ("2026-03-01T13:00:00Z", "2026-03-01T13:00:00Z", &keys[0..0]),
        ] {
            let found = all_keys(&memory, &scope(None, start, stop)).await;
            assert_eq!(found, wanted.concat(), "{start} {stop}");
        }
    }

    #[tokio::test]
    async fn single_messages_are_listed_without_batches() {
        let memory = MemoryStores::new();
        let batches: Vec<_> = (0..200).map(|n| of_batch("2026-03-01T12:00:00Z", n)).collect();
        // Device ids before, between and after the prefixes, one of them equal to a prefix.
        let mut own: Vec<_> = ["aa", "archive", "b", "quarantine", "z"]
            .into_iter()
            .flat_map(|device| (0..12).map(|n| of_message(device, n)).collect::<Vec<_>>())
            .collect();
        own.sort();
        put(&memory, &batches).await;
        put(&memory, &own).await;
        let others = ["quarantine/dt=2026-03-01/hh=12/x.ndjson.gz", "undelivered/x", "b/notes"];
        put(&memory, &others.map(str::to_owned)).await;

        let none_of_batches = scope(None, "2026-03-01T13:00:00Z", "2026-03-01T14:00:00Z");
        assert_eq!(all_keys(&memory, &none_of_batches).await, own);
        assert!(memory.calls(Operation::ListObjects) < 15, "the 200 batches are not listed");

        for device in ["archive", "b"] {
            let of_one = scope(Some(device), "2026-03-01T13:00:00Z", "2026-03-01T14:00:00Z");
            let mut wanted: Vec<_> = (0..12).map(|n| of_message(device, n)).collect();
            wanted.sort();
            assert_eq!(all_keys(&memory, &of_one).await, wanted, "{device}");
        }
    }
}
