//! One batch: every effect in its order, batched over all messages, failures reported one by one.
//!
//! The order is archive, messages, state, outbox (docs/adr/0003). Each step is idempotent
//! by the identity of the message, so dying anywhere and starting over, grouped in another way, ends the
//! same. A message fails alone: what fails for it is reported and comes again, its neighbours go on.

mod counts;
mod messages;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use futures::StreamExt;
use meter_domain::archive::{self, ArchiveObject, Layout, Location};
use meter_domain::id::{DeviceId, MessageId};
use meter_domain::message::{Message, ParseError, ReceivedMessage};
use meter_domain::metric::Sample;
use meter_domain::rule::RuleSet;
use meter_domain::segments;
use meter_domain::segments::MessageSegment;
use meter_domain::state::{DevicePolicy, DeviceState};
use meter_domain::time::{DAY_S, Timestamp};
use meter_service::optimistic_update;
use meter_service::outbox::Outbox;
use meter_service::rule_cache::RuleCache;
use meter_store::error_chain;
use meter_store::retry;
use meter_store::{
    AlertStore, Archive, CommandPublisher, CommandStore, DeviceStore, IngestLag, IngestLagStore,
    MessageStore, MetricStore, Notifier, QuarantineEntry, QuarantineStore, RuleStore, StateStore,
    StoreError, WriteError,
};
use uuid::Uuid;

pub use self::counts::BatchCounts;
use self::counts::BatchProgress;
use self::messages::{Batch, DeviceBatch, TooManyAcknowledgements, take_excess_acknowledgements};
use crate::event::Delivery;

/// Calls to one store under way at once.
const CONCURRENCY: usize = 16;

/// How often, at most, a process notes its progress, in seconds.
const LAG_REPORT_INTERVAL_S: i64 = 10;

/// What an operator may choose.
#[derive(Debug, Clone)]
pub struct IngestConfig {
    /// How the archive is laid out.
    pub layout: Layout,
    /// What holds for devices.
    pub policy: DevicePolicy,
    /// Days until the store may forget a message; none: never.
    pub ttl_days: Option<u32>,
    /// Whether messages of devices that are not registered go to quarantine.
    pub require_registration: bool,
}

/// The handler of batches, over the ports that it needs.
#[derive(Debug)]
pub struct Ingest<O, M, T, S, A, C, D, P, R> {
    archive: O,
    messages: M,
    metrics: T,
    outbox: Outbox<S, A, C, D, P>,
    alert_rules: RuleCache<R>,
    config: IngestConfig,
    /// This process, in its notes of progress.
    process_id: Uuid,
    /// When progress was last noted, in seconds since the epoch.
    lag_reported_at: AtomicI64,
    /// How old the oldest message was that was handled since then, in seconds.
    lag_s: AtomicU32,
}

/// What became of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BatchReport {
    /// The deliveries that must come again, by index.
    pub failed: BTreeSet<usize>,
    /// For the operator.
    pub counts: BatchCounts,
}

impl<O, M, T, S, A, C, D, P, R> Ingest<O, M, T, S, A, C, D, P, R>
where
    O: Archive,
    M: MessageStore + QuarantineStore,
    T: MetricStore,
    S: StateStore + IngestLagStore,
    A: AlertStore,
    C: CommandStore,
    D: DeviceStore,
    P: CommandPublisher + Notifier,
    R: RuleStore,
{
    /// `archive` is where the bytes go, `messages` where their index goes and that of what could not be read,
    /// `metrics` where the measurements go, `outbox` where effects go, and `alert_rules` what raises alerts.
    pub fn new(
        archive: O,
        messages: M,
        metrics: T,
        outbox: Outbox<S, A, C, D, P>,
        alert_rules: RuleCache<R>,
        config: IngestConfig,
    ) -> Self {
        Self {
            archive,
            messages,
            metrics,
            outbox,
            alert_rules,
            config,
            process_id: Uuid::new_v4(),
            lag_reported_at: AtomicI64::new(i64::MIN),
            lag_s: AtomicU32::new(0),
        }
    }

    /// Handles a batch; `now` is the clock.
    pub async fn handle(&self, deliveries: &[Delivery], now: Timestamp) -> BatchReport {
        let mut batch = Batch::parse(deliveries);
        let mut run = BatchProgress::default();
        run.counts.received = deliveries.len();
        run.counts.redelivered = deliveries.len() - batch.messages.len() - batch.rejected.len();

        let states = match self.outbox.states.get_many(&batch.devices()).await {
            Ok(states) => states,
            Err(error) => {
                run.fail("reading device states", batch.messages.keys().copied(), &error);
                batch.messages.clear();
                HashMap::new()
            }
        };
        let registered = |id: &DeviceId| states.get(id).is_some_and(|state| state.registered);
        let unregistered_messages = batch.messages.values().filter(|m| !registered(&m.device_id));
        let unregistered_messages: Vec<MessageId> =
            unregistered_messages.map(|m| m.message_id).collect();
        run.counts.unregistered = unregistered_messages.len();
        if self.config.require_registration {
            for message_id in unregistered_messages {
                if let Some(message) = batch.messages.remove(&message_id) {
                    batch
                        .rejected
                        .insert(message_id, (message.received, ParseError::UnregisteredDevice));
                }
            }
        }

        let (quarantined, stored) = futures::join!(
            self.quarantine(&batch.rejected),
            self.store(&batch.messages, &batch.redeliveries, states, now)
        );
        run.merge(quarantined);
        run.merge(stored);
        if run.counts.stored + run.counts.quarantined > 0 {
            // In a box, or the futures here are nested deeper than the compiler goes.
            Box::pin(self.report_lag(deliveries, now)).await;
        }

        let mut outcome = BatchReport::default();
        for message_id in &run.failed {
            outcome.failed.extend(batch.deliveries.get(message_id).into_iter().flatten());
        }
        run.counts.failed = outcome.failed.len();
        outcome.counts = run.counts;
        outcome
    }

    /// Says now and then how far behind ingest is, for the watchdog. Nothing depends on one such note.
    async fn report_lag(&self, deliveries: &[Delivery], now: Timestamp) {
        let oldest = deliveries.iter().map(|delivery| delivery.received.received_at).min();
        let lag_s = oldest.map_or(0, |oldest| now.as_seconds() - oldest.as_seconds());
        self.lag_s.fetch_max(u32::try_from(lag_s.max(0)).unwrap_or(u32::MAX), Ordering::Relaxed);
        let lag_reported_at = self.lag_reported_at.load(Ordering::Relaxed);
        if now.as_seconds() < lag_reported_at.saturating_add(LAG_REPORT_INTERVAL_S) {
            return;
        }
        self.lag_reported_at.store(now.as_seconds(), Ordering::Relaxed);
        let lag_s = self.lag_s.swap(0, Ordering::Relaxed);
        let progress = IngestLag { process_id: self.process_id, reported_at: now, lag_s };
        if let Err(error) = self.outbox.states.record_ingest_lag(progress).await {
            tracing::warn!(error = error_chain(&error), "progress was not noted");
        }
    }

    async fn quarantine(
        &self,
        rejected: &BTreeMap<MessageId, (ReceivedMessage, ParseError)>,
    ) -> BatchProgress {
        let mut run = BatchProgress::default();
        if rejected.is_empty() {
            return run;
        }
        for (message_id, (received, reason)) in rejected {
            tracing::warn!(message_id = %message_id, topic = truncate_topic(&received.topic), %reason, "quarantined");
        }
        let lines: Vec<_> = rejected
            .iter()
            .map(|(message_id, (received, reason))| (*message_id, received, reason))
            .collect();
        let locations = self.put_objects(archive::pack_quarantine(&lines), &mut run).await;
        let entries: Vec<_> = rejected
            .iter()
            .filter_map(|(message_id, (received, reason))| {
                Some(QuarantineEntry {
                    message_id: *message_id,
                    topic: received.topic.clone(),
                    received_at: received.received_at,
                    reason: reason.to_string(),
                    size: received.payload.len() as u64,
                    location: locations.get(message_id)?.clone(),
                })
            })
            .collect();
        if let Err(error) = self.messages.put_quarantined(&entries).await {
            run.fail("indexing the quarantine", error.failed.iter().copied(), &error);
        }
        run.counts.quarantined = rejected.len() - run.failed.len();
        run
    }

    async fn store(
        &self,
        messages: &BTreeMap<MessageId, Message>,
        redeliveries: &[Message],
        states: HashMap<DeviceId, DeviceState>,
        now: Timestamp,
    ) -> BatchProgress {
        let mut run = BatchProgress::default();
        let all: Vec<&Message> = messages.values().collect();
        let locations = self.put_objects(archive::pack(self.config.layout, &all), &mut run).await;
        let set = match self.rules_for(&states, now).await {
            Ok(set) => set,
            Err(error) => {
                run.fail("reading alert rules", messages.keys().copied(), &error);
                return run;
            }
        };

        let mut devices: BTreeMap<&DeviceId, Vec<&Message>> = BTreeMap::new();
        for message in all.into_iter().filter(|m| locations.contains_key(&m.message_id)) {
            devices.entry(&message.device_id).or_default().push(message);
        }
        for messages in devices.values_mut() {
            let excess = take_excess_acknowledgements(messages);
            if !excess.is_empty() {
                run.fail("settling answers", excess.into_iter(), &TooManyAcknowledgements);
            }
        }
        let mut redeliveries_of: HashMap<&DeviceId, Vec<&Message>> = HashMap::new();
        for redelivery in redeliveries.iter().filter(|m| {
            messages.contains_key(&m.message_id)
                && locations.contains_key(&m.message_id)
                && !run.failed.contains(&m.message_id)
        }) {
            redeliveries_of.entry(&redelivery.device_id).or_default().push(redelivery);
        }
        let mut work: Vec<DeviceBatch<'_>> = devices
            .into_iter()
            .map(|(id, messages)| {
                let redeliveries = redeliveries_of.remove(id).unwrap_or_default();
                let state = states.get(id);
                DeviceBatch::compute(state, id, (messages, redeliveries), &set, &self.config.policy)
            })
            .collect();

        // Who loses the lock of a device's state decides again from what the winner wrote.
        for attempt in 0..retry::MAX_ATTEMPTS {
            self.put_segments(&mut work, &locations, &mut run).await;
            let conflicted = self.save_states(work, now, &mut run).await;
            if conflicted.is_empty() {
                run.counts.stored = messages.len() - run.failed.len();
                return run;
            }
            run.counts.conflicts += conflicted.len();
            retry::wait(attempt).await;
            work = self.reload(conflicted, now, &mut run).await;
        }
        for device in &work {
            run.fail(
                "writing a device's state",
                device.message_ids(),
                &optimistic_update::version_conflict_error(),
            );
        }
        run.counts.stored = messages.len() - run.failed.len();
        run
    }

    /// Writes objects; where each message is whose object was written. The others have failed.
    async fn put_objects(
        &self,
        objects: Vec<ArchiveObject>,
        run: &mut BatchProgress,
    ) -> HashMap<MessageId, Location> {
        let puts = objects.into_iter().map(|object| async move {
            let put = self.archive.put(&object.key, object.content_type, object.body).await;
            (object.entries, put)
        });
        let answers: Vec<_> =
            futures::stream::iter(puts).buffer_unordered(CONCURRENCY).collect().await;
        let mut locations = HashMap::new();
        for (entries, put) in answers {
            match put {
                Ok(()) => locations.extend(entries),
                Err(error) => {
                    run.fail(
                        "writing the archive",
                        entries.iter().map(|(message_id, _)| *message_id),
                        &error,
                    );
                }
            }
        }
        locations
    }

    /// Writes the parts of all messages that are not written yet as they should be. What fails changes which metrics
    /// the device has room for, and so the parts of the other messages: they are written again. Each further round has
    /// a message less, so it ends.
    async fn put_segments(
        &self,
        work: &mut [DeviceBatch<'_>],
        locations: &HashMap<MessageId, Location>,
        run: &mut BatchProgress,
    ) {
        loop {
            let mut all: Vec<MessageSegment> = Vec::new();
            let mut points = Vec::new();
            for device in work.iter().filter(|device| !device.segments_written) {
                for message in &device.messages {
                    let Some(location) = locations.get(&message.message_id) else { continue };
                    let ttl = self.config.ttl_days.map(|days| {
                        message.received.received_at.as_seconds() + i64::from(days) * DAY_S
                    });
                    let keep = |m: &Sample| device.after.has_metric(&m.metric);
                    if self.metrics.is_message_backed() {
                        all.extend(segments::split(message, location.clone(), ttl, keep));
                    } else {
                        all.push(segments::without_samples(message, location.clone(), ttl));
                        points.extend(segments::points(message, keep));
                    }
                }
            }
            if all.is_empty() {
                return;
            }
            let (segments, points) =
                futures::join!(self.messages.put(&all), self.metrics.put_points(&points));
            let mut failed = BTreeSet::new();
            if let Err(error) = segments {
                run.fail("writing messages", error.failed.iter().copied(), &error);
                failed.extend(error.failed);
            }
            match points {
                Ok(written) => {
                    run.counts.outside_retention += written.outside_retention;
                    run.counts.superseded += written.superseded;
                }
                Err(error) => {
                    run.fail("writing metrics", error.failed.iter().copied(), &error);
                    failed.extend(error.failed);
                }
            }
            for device in work.iter_mut().filter(|device| !device.segments_written) {
                device.segments_written = true;
                // The state must not know what is not stored: its answer would be lost with a crash.
                device.exclude(&failed, &self.config.policy);
            }
        }
    }

    /// Writes the states and carries out what they ask for; answers those who lost the lock.
    async fn save_states<'a>(
        &self,
        work: Vec<DeviceBatch<'a>>,
        now: Timestamp,
        run: &mut BatchProgress,
    ) -> Vec<DeviceBatch<'a>> {
        let work: Vec<_> = work.into_iter().filter(|device| !device.messages.is_empty()).collect();
        if work.is_empty() {
            return work;
        }
        let writes: Vec<_> = work.iter().map(DeviceBatch::write).collect();
        let answers = self.outbox.states.save_many(&writes).await;
        let mut conflicted = Vec::new();
        let mut saved = Vec::new();
        for (device, answer) in work.into_iter().zip(answers) {
            match answer {
                Ok(()) => {
                    run.counts.add(&device.before, &device.after);
                    saved.push(device);
                }
                Err(WriteError::Conflict) => conflicted.push(device),
                Err(WriteError::Store(error)) => {
                    run.fail("writing a device's state", device.message_ids(), &error);
                }
            }
        }
        let settled = saved.iter().filter(|device| !device.after.outbox.is_empty()).map(
            |device| async move {
                let mut state = device.after.clone();
                state.version += 1;
                (device, self.outbox.dispatch_due_effects(state, now, &self.config.policy).await)
            },
        );
        let settled: Vec<_> =
            futures::stream::iter(settled).buffer_unordered(CONCURRENCY).collect().await;
        for (device, answer) in settled {
            if let Err(error) = answer {
                run.fail("settling a device's outbox", device.message_ids(), &error);
            }
        }
        conflicted
    }

    async fn reload<'a>(
        &self,
        conflicted: Vec<DeviceBatch<'a>>,
        now: Timestamp,
        run: &mut BatchProgress,
    ) -> Vec<DeviceBatch<'a>> {
        let ids: Vec<_> = conflicted.iter().map(|device| device.before.device_id.clone()).collect();
        let read = async {
            let states = self.outbox.states.get_many(&ids).await?;
            let set = self.rules_for(&states, now).await?;
            Ok::<_, StoreError>((states, set))
        };
        match read.await {
            Ok((states, set)) => conflicted
                .into_iter()
                .map(|device| {
                    let id = device.before.device_id.clone();
                    let again = DeviceBatch::compute(
                        states.get(&id),
                        &id,
                        (device.messages, device.redeliveries),
                        &set,
                        &self.config.policy,
                    );
                    // Only when the winner admitted other metrics than we did must they be written again.
                    let segments_written = again.has_same_metrics(&device.after);
                    DeviceBatch { segments_written, ..again }
                })
                .collect(),
            Err(error) => {
                for device in &conflicted {
                    run.fail("reading device states", device.message_ids(), &error);
                }
                Vec::new()
            }
        }
    }

    /// The alert rules, no older than those that these states were computed with.
    async fn rules_for(
        &self,
        states: &HashMap<DeviceId, DeviceState>,
        now: Timestamp,
    ) -> Result<Arc<RuleSet>, StoreError> {
        let generations = states.values().map(|state| state.evaluation.generation);
        self.alert_rules.get(generations.max().unwrap_or(0), now).await
    }
}

/// A topic for the log: a hostile one may be 64 KB.
fn truncate_topic(topic: &str) -> String {
    topic.chars().take(200).collect()
}

#[cfg(test)]
mod tests;
