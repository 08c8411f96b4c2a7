//! Building metrics and index again from the archive: after a change of the metric store, after a loss of the
//! table, or for data that came too late for the store of that time.
//!
//! It stores what ingest stored, under the same identities, so replaying twice, or what is there already, changes
//! nothing. Presence, alerts, commands and sequences are left alone: what a message said of them has had its effect.

mod cursor;

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use futures::{StreamExt, TryStreamExt, stream};
use meter_domain::archive::{self, ArchivedMessage};
use meter_domain::id::{DeviceId, MessageId};
use meter_domain::message::Message;
use meter_domain::metric::Sample;
use meter_domain::segments;
use meter_domain::segments::MessageSegment;
use meter_domain::state::{DevicePolicy, DeviceState};
use meter_domain::time::{DAY_S, Timestamp};
use meter_store::error_chain;
use meter_store::retry;
use meter_store::{
    Archive, ArchiveListing, MessageStore, MetricStore, StateStore, StateWrite, StoreError,
    WriteError,
};
use serde::{Deserialize, Serialize};

pub use self::cursor::{ArchiveCursor, ReplayScope};
use crate::optimistic_update;

/// Objects that a step reads. They are in memory at once: an object is the messages of one batch of ingest.
const OBJECTS_PER_STEP: usize = if cfg!(test) { 4 } else { 64 };

/// Objects that are fetched at once.
const FETCH_CONCURRENCY: usize = 16;

/// What replays, over the ports that it needs.
#[derive(Debug)]
pub struct Replay<O, M, T, S> {
    /// Where messages are read.
    pub archive: O,
    /// Where their index is.
    pub messages: M,
    /// Where their measurements go.
    pub metrics: T,
    /// What is known of the devices.
    pub states: S,
    /// What holds for them.
    pub policy: DevicePolicy,
    /// Days until the store may forget a message; none: never.
    pub ttl_days: Option<u32>,
}

/// How far a replay is. What a step answers is what the next one begins with, in this process or another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayProgress {
    /// Where.
    #[serde(flatten)]
    pub cursor: ArchiveCursor,
    /// What was done.
    pub counts: ReplayCounts,
}

/// What a replay came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayCounts {
    /// Objects that were read.
    pub objects: u64,
    /// Messages that were stored.
    pub messages: u64,
    /// Their measurements, derived ones included.
    pub points: u64,
    /// Of these, how many the metric store takes no more.
    pub outside_retention: u64,
    /// Messages that the store would have forgotten by now.
    pub expired: u64,
    /// Messages that a purge of their device was to remove.
    pub purged: u64,
    /// Lines and objects that could not be read. The log names the objects.
    pub invalid: u64,
}

impl fmt::Display for ReplayCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { objects, messages, points, .. } = self;
        write!(f, "{objects} objects read, {messages} messages and {points} points stored")?;
        for (count, what) in [
            (self.outside_retention, "of these points too old for the metric store"),
            (self.expired, "messages past their time (MESSAGE_TTL_DAYS)"),
            (self.purged, "messages of purged devices left out"),
            (self.invalid, "lines or objects unreadable"),
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
}

impl<O, M, T, S> Replay<O, M, T, S>
where
    O: Archive + ArchiveListing,
    M: MessageStore,
    T: MetricStore,
    S: StateStore,
{
    /// Replays the next few objects; `now` is the clock. When it fails, the step can be done again, and so can
    /// any that was done before.
    pub async fn step(
        &self,
        scope: &ReplayScope,
        progress: &ReplayProgress,
        now: Timestamp,
    ) -> Result<ReplayProgress, StoreError> {
        let (mut keys, mut cursor) = cursor::next(&self.archive, scope, &progress.cursor).await?;
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
        let (expired, messages): (Vec<_>, Vec<_>) = messages
            .into_values()
            .partition(|m| self.ttl(&m.message).is_some_and(|ttl| ttl <= now.as_seconds()));
        counts.expired += expired.len() as u64;
        let mut devices: BTreeMap<&DeviceId, Vec<&ArchivedMessage>> = BTreeMap::new();
        for archived in &messages {
            devices.entry(&archived.message.device_id).or_default().push(archived);
        }
        self.store(devices, now, &mut counts).await?;
        Ok(ReplayProgress { cursor, counts })
    }

    /// The messages of objects that are in the scope, each once.
    async fn read(
        &self,
        keys: &[String],
        scope: &ReplayScope,
        counts: &mut ReplayCounts,
    ) -> Result<BTreeMap<MessageId, ArchivedMessage>, StoreError> {
        let device = scope.device.as_ref();
        let opened = keys.iter().map(async |key| {
            let opened = self.archive.get_versioned(key).await?;
            Ok::<_, StoreError>(
                opened.map(|opened| archive::read_object(key, &opened.body, device)),
            )
        });
        let opened: Vec<_> = opened.collect();
        let opened: Vec<_> = stream::iter(opened).buffered(FETCH_CONCURRENCY).try_collect().await?;
        let mut messages = BTreeMap::new();
        for (key, contents) in keys.iter().zip(opened) {
            // It was listed, and has gone with a purge since.
            let Some(contents) = contents else { continue };
            counts.objects += 1;
            let contents = match contents {
                Ok(contents) => contents,
                Err(error) => {
                    counts.invalid += 1;
                    tracing::error!(object_key = key, error = error_chain(&error), "damaged");
                    continue;
                }
            };
            if let Some((lines, reason)) = contents.invalid_lines {
                counts.invalid += lines as u64;
                tracing::error!(object_key = key, lines, reason, "has lines that are no message");
            }
            for archived in contents.messages {
                if scope.contains(&archived.message) {
                    messages.entry(archived.message.message_id).or_insert(archived);
                }
            }
        }
        Ok(messages)
    }

    /// Writes parts and points, then states, as ingest does. A purge that begins meanwhile makes the write of the
    /// state fail: what was just stored is then taken back, since the purge may have looked before it was there.
    async fn store<'a>(
        &self,
        mut devices: BTreeMap<&'a DeviceId, Vec<&'a ArchivedMessage>>,
        now: Timestamp,
        counts: &mut ReplayCounts,
    ) -> Result<(), StoreError> {
        let mut stored: HashSet<MessageId> = HashSet::new();
        for attempt in 0..retry::MAX_ATTEMPTS {
            let ids: Vec<DeviceId> = devices.keys().map(|id| (*id).clone()).collect();
            let mut states = self.states.get_many(&ids).await?;
            let mut work = Vec::with_capacity(devices.len());
            for (id, messages) in devices {
                let before = states.remove(id).unwrap_or_else(|| DeviceState::new(id.clone()));
                let (purged, messages): (Vec<_>, Vec<_>) = messages.into_iter().partition(|m| {
                    before.purged_at.is_some_and(|at| m.message.received.received_at <= at)
                });
                counts.purged += purged.len() as u64;
                let again = purged.into_iter().filter(|m| stored.contains(&m.message.message_id));
                self.remove_stored(id, again).await?;
                if !messages.is_empty() {
                    work.push(self.apply_messages(before, messages, now));
                }
            }
            if work.is_empty() {
                return Ok(());
            }
            let written = self.write(&work).await?;
            if attempt == 0 {
                // Later ones write some of the same again.
                counts.outside_retention += written.outside_retention;
            }
            stored.extend(work.iter().flat_map(|w| &w.messages).map(|m| m.message.message_id));
            devices = self.save(work, &written, counts).await?;
            if devices.is_empty() {
                return Ok(());
            }
            retry::wait(attempt).await;
        }
        Err(optimistic_update::version_conflict_error())
    }

    fn apply_messages<'a>(
        &self,
        before: DeviceState,
        mut messages: Vec<&'a ArchivedMessage>,
        now: Timestamp,
    ) -> DeviceReplay<'a> {
        messages
            .sort_by_key(|m| (m.message.received.received_at, m.message.ts, m.message.message_id));
        let mut after = before.clone();
        after.replay(messages.iter().map(|m| &m.message), now, &self.policy);
        DeviceReplay { before, after, messages }
    }

    /// Writes the parts and the points; how many points of each device there are, and how many the store does not
    /// take.
    async fn write(&self, work: &[DeviceReplay<'_>]) -> Result<DeviceWrites, StoreError> {
        let mut all: Vec<MessageSegment> = Vec::new();
        let mut points = Vec::new();
        let mut written = DeviceWrites::default();
        for DeviceReplay { after, messages, .. } in work {
            let keep = |m: &Sample| after.has_metric(&m.metric);
            for ArchivedMessage { message, location } in messages {
                let (location, ttl) = (location.clone(), self.ttl(message));
                let kept = segments::points(message, keep);
                *written.points.entry(message.device_id.clone()).or_default() += kept.len() as u64;
                if self.metrics.is_message_backed() {
                    all.extend(segments::split(message, location, ttl, keep));
                } else {
                    all.push(segments::without_samples(message, location, ttl));
                    points.extend(kept);
                }
            }
        }
        let (segments, points) =
            futures::join!(self.messages.put(&all), self.metrics.put_points(&points));
        segments.map_err(|error| error.source)?;
        written.outside_retention = points.map_err(|error| error.source)?.outside_retention as u64;
        Ok(written)
    }

    /// Writes the states; answers the devices whose lock was lost.
    async fn save<'a>(
        &self,
        work: Vec<DeviceReplay<'a>>,
        written: &DeviceWrites,
        counts: &mut ReplayCounts,
    ) -> Result<BTreeMap<&'a DeviceId, Vec<&'a ArchivedMessage>>, StoreError> {
        let write = |work: &DeviceReplay<'_>| StateWrite {
            state: work.after.clone(),
            connection_before: work.before.presence.connection,
        };
        let writes: Vec<_> = work.iter().map(write).collect();
        let answers = self.states.save_many(&writes).await;
        let mut lost = BTreeMap::new();
        for (work, answer) in work.into_iter().zip(answers) {
            match answer {
                Ok(()) => {
                    counts.messages += work.messages.len() as u64;
                    counts.points += written.points.get(&work.before.device_id).unwrap_or(&0);
                }
                Err(WriteError::Conflict) => {
                    if let Some(first) = work.messages.first() {
                        lost.insert(&first.message.device_id, work.messages);
                    }
                }
                Err(WriteError::Store(error)) => return Err(error),
            }
        }
        Ok(lost)
    }

    /// Removes what was stored of messages. (Timestream keeps their points: it deletes nothing.)
    async fn remove_stored<'a>(
        &self,
        id: &DeviceId,
        messages: impl Iterator<Item = &'a ArchivedMessage>,
    ) -> Result<(), StoreError> {
        let positions: Vec<_> = messages.flat_map(|m| segments::positions(&m.message)).collect();
        if positions.is_empty() {
            return Ok(());
        }
        self.messages.remove(id, &positions).await
    }

    fn ttl(&self, message: &Message) -> Option<i64> {
        let received_s = message.received.received_at.as_seconds();
        self.ttl_days.map(|days| received_s + i64::from(days) * DAY_S)
    }
}

#[derive(Default)]
struct DeviceWrites {
    points: BTreeMap<DeviceId, u64>,
    outside_retention: u64,
}

#[cfg(test)]
mod tests;
