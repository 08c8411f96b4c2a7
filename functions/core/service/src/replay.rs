//! Rebuilds metrics and index from the archive: after a change of the metric store, after the loss
//! of a table, or for messages that were outside the retention of the metric store.
//!
//! A replay stores the same segments and points as ingestion did. A repeated replay, or a replay of
//! messages that are stored, changes nothing. Presence, alerts, commands and sequence numbers do
//! not change: the messages had these effects when they were ingested.

mod cursor;

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use futures::{StreamExt, TryStreamExt, stream};
use meter_domain::archive::{self, ArchivedMessage};
use meter_domain::id::{DeviceId, MessageId};
use meter_domain::segments;
use meter_domain::state::{DevicePolicy, DeviceState};
use meter_domain::time::Timestamp;
use meter_store::{
    Archive, MessageStore, StateStore, StateWrite, StoreError, Stores, error_chain, retry,
};
use serde::{Deserialize, Serialize};

pub use self::cursor::{ArchiveCursor, ReplayScope};
use crate::message_writer::{self, MessageWrites, SavedDevices};
use crate::optimistic_update;

/// Objects that a step reads. All are in memory; an object contains the messages of one batch.
const OBJECTS_PER_STEP: usize = if cfg!(test) { 4 } else { 64 };

/// Objects that are read concurrently.
const READ_CONCURRENCY: usize = 16;

/// Replays messages of the archive.
#[derive(Debug)]
pub struct Replay<S> {
    /// The archive that is read, and the stores that are written.
    pub stores: S,
    /// The policy of all devices.
    pub policy: DevicePolicy,
    /// Days after which stored messages expire; none: never.
    pub ttl_days: Option<u32>,
}

/// The progress of a replay: the result of a step and the start of the next one, possibly in
/// another process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayProgress {
    /// The position in the archive.
    #[serde(flatten)]
    pub cursor: ArchiveCursor,
    /// The counts so far.
    pub counts: ReplayCounts,
}

/// The counts of a replay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayCounts {
    /// Objects that were read.
    pub objects: u64,
    /// Messages that were stored.
    pub messages: u64,
    /// Points of these messages, including derived ones.
    pub points: u64,
    /// Points outside the retention of the metric store.
    pub outside_retention: u64,
    /// Messages that have expired.
    pub expired: u64,
    /// Messages that were received before a purge of their device.
    pub purged: u64,
    /// Invalid lines and objects. The log contains the keys of the objects.
    pub invalid: u64,
}

impl fmt::Display for ReplayCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, messages, points, .. } = self;
        write!(f, "{objects} objects read, {messages} messages and {points} points stored")?;
        for (count, what) in [
            (self.outside_retention, "points outside the retention of the metric store"),
            (self.expired, "expired messages (MESSAGE_TTL_DAYS)"),
            (self.purged, "messages of purged devices"),
            (self.invalid, "invalid lines or objects"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// The messages of one device, and its state before and after them.
struct DeviceReplay<'a> {
    before: DeviceState,
    after: DeviceState,
    messages: Vec<&'a ArchivedMessage>,
    /// The number of points of the messages.
    points: u64,
}

impl<S: Stores> Replay<S> {
    /// Replays the next objects of the scope; `now` is the clock.
    ///
    /// # Errors
    ///
    /// A store failed. The step can be repeated, as can all steps before it.
    pub async fn step(
        &self,
        scope: &ReplayScope,
        progress: &ReplayProgress,
        now: Timestamp,
    ) -> Result<ReplayProgress, StoreError> {
        let (mut keys, mut cursor) =
            cursor::next(self.stores.archive(), scope, &progress.cursor).await?;
        if keys.len() > OBJECTS_PER_STEP {
            keys.truncate(OBJECTS_PER_STEP);
            let last = keys.last().cloned().unwrap_or_default();
            cursor = match progress.cursor {
                ArchiveCursor::Batches(_) => ArchiveCursor::Batches(last),
                _ => ArchiveCursor::Messages(last),
            };
        }
        let mut counts = progress.counts.clone();
        let messages = self.read(&keys, scope, &mut counts).await?;
        let (expired, messages): (Vec<_>, Vec<_>) = messages.into_values().partition(|m| {
            let expiry = message_writer::expiry(&m.message, self.ttl_days);
            expiry.is_some_and(|at| at <= now.as_seconds())
        });
        counts.expired += expired.len() as u64;
        self.store(group_by_device(&messages), now, &mut counts).await?;
        Ok(ReplayProgress { cursor, counts })
    }

    /// Reads the distinct messages of objects that are in the scope.
    async fn read(
        &self,
        keys: &[String],
        scope: &ReplayScope,
        counts: &mut ReplayCounts,
    ) -> Result<BTreeMap<MessageId, ArchivedMessage>, StoreError> {
        let device = scope.device.as_ref();
        let reads = keys.iter().map(async |key| {
            let object = self.stores.archive().get_versioned(key).await?;
            Ok::<_, StoreError>(
                object.map(|object| archive::read_object(key, &object.body, device)),
            )
        });
        let reads: Vec<_> = reads.collect();
        let objects: Vec<_> = stream::iter(reads).buffered(READ_CONCURRENCY).try_collect().await?;
        let mut messages = BTreeMap::new();
        for (key, contents) in keys.iter().zip(objects) {
            // A purge removed the object after it was listed.
            let Some(contents) = contents else { continue };
            counts.objects += 1;
            let contents = match contents {
                Ok(contents) => contents,
                Err(error) => {
                    counts.invalid += 1;
                    let error = error_chain(&error);
                    tracing::error!(object_key = key, error, "an object is invalid");
                    continue;
                }
            };
            if let Some((lines, reason)) = contents.invalid_lines {
                counts.invalid += lines as u64;
                tracing::error!(object_key = key, lines, reason, "an object has invalid lines");
            }
            for archived in contents.messages {
                if scope.contains(&archived.message) {
                    messages.entry(archived.message.message_id).or_insert(archived);
                }
            }
        }
        Ok(messages)
    }

    /// Writes segments and points, then states, as ingestion does.
    ///
    /// A purge that is requested after the states were read makes the write of the state conflict.
    /// The segments that were just stored are then removed: the purge may have read before they
    /// were there.
    async fn store<'a>(
        &self,
        mut devices: BTreeMap<&'a DeviceId, Vec<&'a ArchivedMessage>>,
        now: Timestamp,
        counts: &mut ReplayCounts,
    ) -> Result<(), StoreError> {
        let mut stored: HashSet<MessageId> = HashSet::new();
        for attempt in 0..retry::MAX_ATTEMPTS {
            let work = self.compute_states(devices, &stored, now, counts).await?;
            if work.is_empty() {
                return Ok(());
            }
            let (work, outside_retention) = self.write_messages(work).await?;
            if attempt == 0 {
                // Later attempts write the same points again.
                counts.outside_retention += outside_retention;
            }
            stored.extend(work.iter().flat_map(|w| &w.messages).map(|m| m.message.message_id));
            devices = self.save_states(work, counts).await?;
            if devices.is_empty() {
                return Ok(());
            }
            retry::wait(attempt).await;
        }
        Err(optimistic_update::version_conflict_error())
    }

    /// Applies messages to the stored states. Messages that were received before a purge of their
    /// device are left out, and removed if they are in `stored`.
    async fn compute_states<'a>(
        &self,
        devices: BTreeMap<&'a DeviceId, Vec<&'a ArchivedMessage>>,
        stored: &HashSet<MessageId>,
        now: Timestamp,
        counts: &mut ReplayCounts,
    ) -> Result<Vec<DeviceReplay<'a>>, StoreError> {
        let ids: Vec<DeviceId> = devices.keys().map(|id| (*id).clone()).collect();
        let mut states = self.stores.states().get_many(&ids).await?;
        let mut work = Vec::with_capacity(devices.len());
        for (id, messages) in devices {
            let before = states.remove(id).unwrap_or_else(|| DeviceState::new(id.clone()));
            let (purged, mut messages): (Vec<_>, Vec<_>) = messages.into_iter().partition(|m| {
                before.purged_at.is_some_and(|at| m.message.received.received_at <= at)
            });
            counts.purged += purged.len() as u64;
            let stored = purged.into_iter().filter(|m| stored.contains(&m.message.message_id));
            self.remove_stored(id, stored).await?;
            if messages.is_empty() {
                continue;
            }
            messages.sort_by_key(|m| {
                (m.message.received.received_at, m.message.ts, m.message.message_id)
            });
            let mut after = before.clone();
            after.replay(messages.iter().map(|m| &m.message), now, &self.policy);
            work.push(DeviceReplay { before, after, messages, points: 0 });
        }
        Ok(work)
    }

    /// Writes the segments and points of messages. Returns the devices with the number of their
    /// points, and the number of points outside the retention of the metric store.
    async fn write_messages<'a>(
        &self,
        mut work: Vec<DeviceReplay<'a>>,
    ) -> Result<(Vec<DeviceReplay<'a>>, u64), StoreError> {
        let mut writes = MessageWrites::default();
        for DeviceReplay { after, messages, points, .. } in &mut work {
            for ArchivedMessage { message, location } in &*messages {
                let entry = (location.clone(), message_writer::expiry(message, self.ttl_days));
                *points += writes.add(self.stores.metrics(), message, entry, after) as u64;
            }
        }
        let (segments, points) = writes.write(&self.stores).await;
        segments.map_err(|error| error.source)?;
        let summary = points.map_err(|error| error.source)?;
        Ok((work, summary.outside_retention as u64))
    }

    /// Writes states. Returns the messages of the devices whose states conflicted.
    async fn save_states<'a>(
        &self,
        work: Vec<DeviceReplay<'a>>,
        counts: &mut ReplayCounts,
    ) -> Result<BTreeMap<&'a DeviceId, Vec<&'a ArchivedMessage>>, StoreError> {
        let state_write = |device: &DeviceReplay<'_>| StateWrite {
            state: device.after.clone(),
            connection_before: device.before.presence.connection,
        };
        let SavedDevices { saved, conflicted, failed } =
            message_writer::save_states(self.stores.states(), work, state_write).await;
        if let Some((_, error)) = failed.into_iter().next() {
            return Err(error);
        }
        for device in saved {
            counts.messages += device.messages.len() as u64;
            counts.points += device.points;
        }
        Ok(group_by_device(conflicted.into_iter().flat_map(|device| device.messages)))
    }

    /// Removes the segments of messages. Timestream keeps their points: it does not delete points.
    async fn remove_stored<'a>(
        &self,
        id: &DeviceId,
        messages: impl Iterator<Item = &'a ArchivedMessage>,
    ) -> Result<(), StoreError> {
        let positions: Vec<_> = messages.flat_map(|m| segments::positions(&m.message)).collect();
        if positions.is_empty() {
            return Ok(());
        }
        self.stores.messages().remove(id, &positions).await
    }
}

fn group_by_device<'a>(
    messages: impl IntoIterator<Item = &'a ArchivedMessage>,
) -> BTreeMap<&'a DeviceId, Vec<&'a ArchivedMessage>> {
    let mut devices: BTreeMap<&DeviceId, Vec<&ArchivedMessage>> = BTreeMap::new();
    for archived in messages {
        devices.entry(&archived.message.device_id).or_default().push(archived);
    }
    devices
}

#[cfg(test)]
mod tests;
