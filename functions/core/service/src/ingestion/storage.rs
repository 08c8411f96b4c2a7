//! Stores the messages of a batch.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::StreamExt;
use meter_domain::archive::{self, ArchiveObject, Location};
use meter_domain::id::{DeviceId, MessageId};
use meter_domain::message::Message;
use meter_domain::rule::RuleSet;
use meter_domain::state::DeviceState;
use meter_domain::time::Timestamp;
use meter_store::{Archive, BatchWriteError, StateStore, StoreError, Stores, retry};

use super::counts::BatchProgress;
use super::device_batch::{
    DeviceBatch, Recomputed, TooManyAcknowledgements, take_excess_acknowledgements,
};
use super::{CONCURRENCY, Ingestion};
use crate::message_writer::{self, MessageWrites};
use crate::{effects, optimistic_update};

/// Where the archive contains each message.
type Locations = HashMap<MessageId, Location>;

/// The devices of a batch whose states are not saved.
#[derive(Default)]
struct Work<'a> {
    /// Their segments must be written.
    unwritten: Vec<DeviceBatch<'a>>,
    /// Their segments are stored as their states require.
    written: Vec<DeviceBatch<'a>>,
}

impl<'a> Work<'a> {
    /// Adds a device, unless none of its messages is left.
    fn add(&mut self, recomputed: Recomputed<'a>) {
        let (device, list) = match recomputed {
            Recomputed::SameMetrics(device) => (device, &mut self.written),
            Recomputed::OtherMetrics(device) => (device, &mut self.unwritten),
        };
        list.extend((!device.messages.is_empty()).then_some(device));
    }
}

impl<S: Stores> Ingestion<S> {
    /// Stores the distinct messages of a batch, and applies them and their redeliveries to
    /// `states`.
    pub(super) async fn store(
        &self,
        messages: &BTreeMap<MessageId, Message>,
        redeliveries: &[Message],
        states: HashMap<DeviceId, DeviceState>,
        now: Timestamp,
    ) -> BatchProgress {
        let mut progress = BatchProgress::default();
        let all: Vec<&Message> = messages.values().collect();
        let objects = archive::pack(self.config.layout, &all);
        let locations = self.put_objects(objects, &mut progress).await;
        let rules = match self.rules_for(&states, now).await {
            Ok(rules) => rules,
            Err(error) => {
                progress.fail("reading alert rules", messages.keys().copied(), &error);
                return progress;
            }
        };
        let archived = all.into_iter().filter(|m| locations.contains_key(&m.message_id));
        let by_device = group_by_device(archived, redeliveries, &mut progress);
        let mut work = Work::default();
        for (id, received) in by_device {
            let (state, policy) = (states.get(id), &self.config.policy);
            let device = DeviceBatch::compute(state, id, received, &rules, policy);
            work.add(Recomputed::OtherMetrics(device));
        }
        self.store_devices(work, &locations, now, &mut progress).await;
        progress.counts.stored = messages.len() - progress.failed.len();
        progress
    }

    /// Writes segments, then states. Devices whose states conflict are computed again from the
    /// states that other processes have written, a limited number of times.
    async fn store_devices(
        &self,
        mut work: Work<'_>,
        locations: &Locations,
        now: Timestamp,
        progress: &mut BatchProgress,
    ) {
        for attempt in 0..retry::MAX_ATTEMPTS {
            // Each further round has fewer messages.
            while !work.unwritten.is_empty() {
                self.write_segments(&mut work, locations, progress).await;
            }
            let conflicted = self.save_states(work.written, now, progress).await;
            if conflicted.is_empty() {
                return;
            }
            progress.counts.conflicts += conflicted.len();
            retry::wait(attempt).await;
            work = self.rebase(conflicted, now, progress).await;
        }
        for device in work.unwritten.iter().chain(&work.written) {
            let error = optimistic_update::version_conflict_error();
            progress.fail("writing a device state", device.message_ids(), &error);
        }
    }

    /// Writes objects. Returns the locations of the messages in the objects that were written.
    pub(super) async fn put_objects(
        &self,
        objects: Vec<ArchiveObject>,
        progress: &mut BatchProgress,
    ) -> Locations {
        let puts = objects.into_iter().map(|object| async move {
            let ArchiveObject { key, content_type, body, entries } = object;
            (entries, self.stores.archive().put(&key, content_type, body).await)
        });
        let results: Vec<_> =
            futures::stream::iter(puts).buffer_unordered(CONCURRENCY).collect().await;
        let mut locations = HashMap::new();
        for (entries, result) in results {
            match result {
                Ok(()) => locations.extend(entries),
                Err(error) => {
                    let message_ids = entries.iter().map(|(message_id, _)| *message_id);
                    progress.fail("writing the archive", message_ids, &error);
                }
            }
        }
        locations
    }

    /// Writes the segments and points of the unwritten devices.
    ///
    /// Messages that were not stored are excluded from the states. A state without one of them can
    /// admit another metric; the device is then unwritten again.
    async fn write_segments(
        &self,
        work: &mut Work<'_>,
        locations: &Locations,
        progress: &mut BatchProgress,
    ) {
        let devices = std::mem::take(&mut work.unwritten);
        let mut writes = MessageWrites::default();
        for device in &devices {
            for message in &device.messages {
                let Some(location) = locations.get(&message.message_id) else { continue };
                let ttl = message_writer::expiry(message, self.config.ttl_days);
                let entry = (location.clone(), ttl);
                writes.add(self.stores.metrics(), message, entry, &device.after);
            }
        }
        let (segments, points) = writes.write(&self.stores).await;
        let mut failed = BTreeSet::new();
        if let Err(error) = segments {
            progress.fail_batch("writing messages", &error);
            failed.extend(error.failed);
        }
        match points {
            Ok(written) => {
                progress.counts.outside_retention += written.outside_retention;
                progress.counts.superseded += written.superseded;
            }
            Err(error) => {
                progress.fail_batch("writing metrics", &error);
                failed.extend(error.failed);
            }
        }
        for device in devices {
            work.add(device.exclude(&failed, &self.config.policy));
        }
    }

    /// Writes states and executes their effects. Returns the devices whose states conflicted.
    async fn save_states<'a>(
        &self,
        devices: Vec<DeviceBatch<'a>>,
        now: Timestamp,
        progress: &mut BatchProgress,
    ) -> Vec<DeviceBatch<'a>> {
        if devices.is_empty() {
            return devices;
        }
        let states = self.stores.states();
        let outcome = message_writer::save_states(states, devices, DeviceBatch::state_write).await;
        for (device, error) in outcome.failed {
            let error = BatchWriteError::new(device.message_ids(), error);
            progress.fail_batch("writing a device state", &error);
        }
        for device in &outcome.saved {
            progress.counts.add(&device.before, &device.after);
        }
        let has_effects = outcome.saved.iter().filter(|device| !device.after.outbox.is_empty());
        let dispatches = has_effects.map(|device| async move {
            let mut state = device.after.clone();
            state.version += 1;
            let policy = &self.config.policy;
            (device, effects::dispatch_due_effects(&self.stores, state, now, policy).await)
        });
        let dispatches: Vec<_> =
            futures::stream::iter(dispatches).buffer_unordered(CONCURRENCY).collect().await;
        for (device, result) in dispatches {
            if let Err(error) = result {
                progress.fail("dispatching effects", device.message_ids(), &error);
            }
        }
        outcome.conflicted
    }

    /// Computes devices again from the stored states.
    async fn rebase<'a>(
        &self,
        conflicted: Vec<DeviceBatch<'a>>,
        now: Timestamp,
        progress: &mut BatchProgress,
    ) -> Work<'a> {
        let ids: Vec<_> = conflicted.iter().map(|device| device.before.device_id.clone()).collect();
        let read = async {
            let states = self.stores.states().get_many(&ids).await?;
            let rules = self.rules_for(&states, now).await?;
            Ok::<_, StoreError>((states, rules))
        };
        let mut work = Work::default();
        match read.await {
            Ok((states, rules)) => {
                for device in conflicted {
                    work.add(device.rebase(&states, &rules, &self.config.policy));
                }
            }
            Err(error) => {
                for device in &conflicted {
                    progress.fail("reading device states", device.message_ids(), &error);
                }
            }
        }
        work
    }

    /// Returns the alert rules, at least of the generation that the states were evaluated with.
    async fn rules_for(
        &self,
        states: &HashMap<DeviceId, DeviceState>,
        now: Timestamp,
    ) -> Result<Arc<RuleSet>, StoreError> {
        let generations = states.values().map(|state| state.evaluation.generation);
        let generation = generations.max().unwrap_or(0);
        self.alert_rules.get(self.stores.rules(), generation, now).await
    }
}

/// Groups archived messages and their redeliveries by device. Messages that acknowledge too many
/// commands fail.
fn group_by_device<'a>(
    archived: impl Iterator<Item = &'a Message>,
    redeliveries: &'a [Message],
    progress: &mut BatchProgress,
) -> BTreeMap<&'a DeviceId, (Vec<&'a Message>, Vec<&'a Message>)> {
    let mut devices: BTreeMap<&DeviceId, (Vec<&Message>, Vec<&Message>)> = BTreeMap::new();
    for message in archived {
        devices.entry(&message.device_id).or_default().0.push(message);
    }
    for (messages, _) in devices.values_mut() {
        let excess = take_excess_acknowledgements(messages);
        if !excess.is_empty() {
            let excess = excess.into_iter();
            progress.fail("recording acknowledgements", excess, &TooManyAcknowledgements);
        }
    }
    for redelivery in redeliveries {
        if let Some((messages, redeliveries)) = devices.get_mut(&redelivery.device_id)
            && messages.iter().any(|m| m.message_id == redelivery.message_id)
        {
            redeliveries.push(redelivery);
        }
    }
    devices
}
