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
use meter_domain::archive::{self, Layout, Location, Object};
use meter_domain::id::{DeviceId, Mid};
use meter_domain::message::{Measurement, Message, Received, Unreadable};
use meter_domain::parts;
use meter_domain::parts::Part;
use meter_domain::rule::RuleSet;
use meter_domain::state::{DeviceState, Rules};
use meter_domain::time::Timestamp;
use meter_service::lock;
use meter_service::outbox::Outbox;
use meter_service::rule_cache::RuleCache;
use meter_store::retry;
use meter_store::with_causes;
use meter_store::{
    AlertStore, Archive, CommandPublisher, CommandStore, DeviceStore, IngestProgress, MessageStore,
    MetricStore, Notifier, ProgressStore, QuarantineStore, Quarantined, RuleStore, StateStore,
    StoreError, WriteError,
};
use uuid::Uuid;

pub use self::counts::Counts;
use self::counts::Run;
use self::messages::{Batch, DeviceWork, TooManyAnswered, take_excess};
use crate::event::Delivery;

/// Calls to one store under way at once.
const CONCURRENCY: usize = 16;

const DAY_SECONDS: i64 = 24 * 3600;

/// How often, at most, a process notes its progress, in seconds.
const PROGRESS_INTERVAL_S: i64 = 10;

/// What an operator may choose.
#[derive(Debug, Clone)]
pub struct Choices {
    /// How the archive is laid out.
    pub layout: Layout,
    /// What holds for devices.
    pub rules: Rules,
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
    choices: Choices,
    /// This process, in its notes of progress.
    process: Uuid,
    /// When progress was last noted, in seconds since the epoch.
    noted_at: AtomicI64,
    /// How old the oldest message was that was handled since then, in seconds.
    lag_s: AtomicU32,
}

/// What became of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The deliveries that must come again, by index.
    pub failed: BTreeSet<usize>,
    /// For the operator.
    pub counts: Counts,
}

impl<O, M, T, S, A, C, D, P, R> Ingest<O, M, T, S, A, C, D, P, R>
where
    O: Archive,
    M: MessageStore + QuarantineStore,
    T: MetricStore,
    S: StateStore + ProgressStore,
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
        choices: Choices,
    ) -> Self {
        Self {
            archive,
            messages,
            metrics,
            outbox,
            alert_rules,
            choices,
            process: Uuid::new_v4(),
            noted_at: AtomicI64::new(i64::MIN),
            lag_s: AtomicU32::new(0),
        }
    }

    /// Handles a batch; `now` is the clock.
    pub async fn handle(&self, deliveries: &[Delivery], now: Timestamp) -> Outcome {
        let mut batch = Batch::read(deliveries);
        let mut run = Run::default();
        run.counts.received = deliveries.len();
        run.counts.doubled = deliveries.len() - batch.readable.len() - batch.unreadable.len();

        let states = match self.outbox.states.get_many(&batch.devices()).await {
            Ok(states) => states,
            Err(error) => {
                run.fail("reading device states", batch.readable.keys().copied(), &error);
                batch.readable.clear();
                HashMap::new()
            }
        };
        let registered = |id: &DeviceId| states.get(id).is_some_and(|state| state.registered);
        let strangers = batch.readable.values().filter(|m| !registered(&m.device_id));
        let strangers: Vec<Mid> = strangers.map(|m| m.mid).collect();
        run.counts.unregistered = strangers.len();
        if self.choices.require_registration {
            for mid in strangers {
                if let Some(message) = batch.readable.remove(&mid) {
                    batch.unreadable.insert(mid, (message.received, Unreadable::NotRegistered));
                }
            }
        }

        let (quarantined, stored) = futures::join!(
            self.quarantine(&batch.unreadable),
            self.store(&batch.readable, &batch.echoes, states, now)
        );
        run.merge(quarantined);
        run.merge(stored);
        if run.counts.stored + run.counts.quarantined > 0 {
            // In a box, or the futures here are nested deeper than the compiler goes.
            Box::pin(self.note_progress(deliveries, now)).await;
        }

        let mut outcome = Outcome::default();
        for mid in &run.failed {
            outcome.failed.extend(batch.deliveries.get(mid).into_iter().flatten());
        }
        run.counts.failed = outcome.failed.len();
        outcome.counts = run.counts;
        outcome
    }

    /// Says now and then how far behind ingest is, for the watchdog. Nothing depends on one such note.
    async fn note_progress(&self, deliveries: &[Delivery], now: Timestamp) {
        let oldest = deliveries.iter().map(|delivery| delivery.received.received_at).min();
        let lag_s = oldest.map_or(0, |oldest| now.as_seconds() - oldest.as_seconds());
        self.lag_s.fetch_max(u32::try_from(lag_s.max(0)).unwrap_or(u32::MAX), Ordering::Relaxed);
        let noted_at = self.noted_at.load(Ordering::Relaxed);
        if now.as_seconds() < noted_at.saturating_add(PROGRESS_INTERVAL_S) {
            return;
        }
        self.noted_at.store(now.as_seconds(), Ordering::Relaxed);
        let lag_s = self.lag_s.swap(0, Ordering::Relaxed);
        let progress = IngestProgress { by: self.process, at: now, lag_s };
        if let Err(error) = self.outbox.states.note_progress(progress).await {
            tracing::warn!(error = with_causes(&error), "progress was not noted");
        }
    }

    async fn quarantine(&self, unreadable: &BTreeMap<Mid, (Received, Unreadable)>) -> Run {
        let mut run = Run::default();
        if unreadable.is_empty() {
            return run;
        }
        for (mid, (received, reason)) in unreadable {
            tracing::warn!(%mid, topic = shortened(&received.topic), %reason, "quarantined");
        }
        let lines: Vec<_> =
            unreadable.iter().map(|(mid, (received, reason))| (*mid, received, reason)).collect();
        let locations = self.put_objects(archive::pack_quarantine(&lines), &mut run).await;
        let entries: Vec<_> = unreadable
            .iter()
            .filter_map(|(mid, (received, reason))| {
                Some(Quarantined {
                    mid: *mid,
                    topic: received.topic.clone(),
                    received_at: received.received_at,
                    reason: reason.to_string(),
                    size: received.payload.len() as u64,
                    location: locations.get(mid)?.clone(),
                })
            })
            .collect();
        if let Err(error) = self.messages.put_quarantined(&entries).await {
            run.fail("indexing the quarantine", error.failed.iter().copied(), &error);
        }
        run.counts.quarantined = unreadable.len() - run.failed.len();
        run
    }

    async fn store(
        &self,
        messages: &BTreeMap<Mid, Message>,
        echoes: &[Message],
        states: HashMap<DeviceId, DeviceState>,
        now: Timestamp,
    ) -> Run {
        let mut run = Run::default();
        let all: Vec<&Message> = messages.values().collect();
        let locations = self.put_objects(archive::pack(self.choices.layout, &all), &mut run).await;
        let set = match self.rules_for(&states, now).await {
            Ok(set) => set,
            Err(error) => {
                run.fail("reading alert rules", messages.keys().copied(), &error);
                return run;
            }
        };

        let mut devices: BTreeMap<&DeviceId, Vec<&Message>> = BTreeMap::new();
        for message in all.into_iter().filter(|m| locations.contains_key(&m.mid)) {
            devices.entry(&message.device_id).or_default().push(message);
        }
        for messages in devices.values_mut() {
            let excess = take_excess(messages);
            if !excess.is_empty() {
                run.fail("settling answers", excess.into_iter(), &TooManyAnswered);
            }
        }
        let mut echoes_of: HashMap<&DeviceId, Vec<&Message>> = HashMap::new();
        for echo in echoes.iter().filter(|m| {
            messages.contains_key(&m.mid)
                && locations.contains_key(&m.mid)
                && !run.failed.contains(&m.mid)
        }) {
            echoes_of.entry(&echo.device_id).or_default().push(echo);
        }
        let mut work: Vec<DeviceWork<'_>> = devices
            .into_iter()
            .map(|(id, messages)| {
                let echoes = echoes_of.remove(id).unwrap_or_default();
                let state = states.get(id);
                DeviceWork::decide(state, id, (messages, echoes), &set, &self.choices.rules)
            })
            .collect();

        // Who loses the lock of a device's state decides again from what the winner wrote.
        for attempt in 0..retry::ATTEMPTS {
            self.put_parts(&mut work, &locations, &mut run).await;
            let lost = self.save_states(work, now, &mut run).await;
            if lost.is_empty() {
                run.counts.stored = messages.len() - run.failed.len();
                return run;
            }
            run.counts.conflicts += lost.len();
            retry::pause(attempt).await;
            work = self.read_again(lost, now, &mut run).await;
        }
        for device in &work {
            run.fail("writing a device's state", device.mids(), &lock::contended());
        }
        run.counts.stored = messages.len() - run.failed.len();
        run
    }

    /// Writes objects; where each message is whose object was written. The others have failed.
    async fn put_objects(&self, objects: Vec<Object>, run: &mut Run) -> HashMap<Mid, Location> {
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
                    run.fail("writing the archive", entries.iter().map(|(mid, _)| *mid), &error);
                }
            }
        }
        locations
    }

    /// Writes the parts of all messages that are not written yet as they should be. What fails changes which metrics
    /// the device has room for, and so the parts of the other messages: they are written again. Each further round has
    /// a message less, so it ends.
    async fn put_parts(
        &self,
        work: &mut [DeviceWork<'_>],
        locations: &HashMap<Mid, Location>,
        run: &mut Run,
    ) {
        loop {
            let mut all: Vec<Part> = Vec::new();
            let mut points = Vec::new();
            for device in work.iter().filter(|device| !device.parts_written) {
                for message in &device.messages {
                    let Some(location) = locations.get(&message.mid) else { continue };
                    let ttl = self.choices.ttl_days.map(|days| {
                        message.received.received_at.as_seconds() + i64::from(days) * DAY_SECONDS
                    });
                    let keep = |m: &Measurement| device.after.has_metric(&m.metric);
                    if self.metrics.is_in_messages() {
                        all.extend(parts::cut(message, location.clone(), ttl, keep));
                    } else {
                        all.push(parts::head(message, location.clone(), ttl));
                        points.extend(parts::points(message, keep));
                    }
                }
            }
            if all.is_empty() {
                return;
            }
            let (parts, points) =
                futures::join!(self.messages.put(&all), self.metrics.put_points(&points));
            let mut failed = BTreeSet::new();
            if let Err(error) = parts {
                run.fail("writing messages", error.failed.iter().copied(), &error);
                failed.extend(error.failed);
            }
            match points {
                Ok(written) => {
                    run.counts.too_late += written.too_late;
                    run.counts.superseded += written.superseded;
                }
                Err(error) => {
                    run.fail("writing metrics", error.failed.iter().copied(), &error);
                    failed.extend(error.failed);
                }
            }
            for device in work.iter_mut().filter(|device| !device.parts_written) {
                device.parts_written = true;
                // The state must not know what is not stored: its answer would be lost with a crash.
                device.leave_out(&failed, &self.choices.rules);
            }
        }
    }

    /// Writes the states and carries out what they ask for; answers those who lost the lock.
    async fn save_states<'a>(
        &self,
        work: Vec<DeviceWork<'a>>,
        now: Timestamp,
        run: &mut Run,
    ) -> Vec<DeviceWork<'a>> {
        let work: Vec<_> = work.into_iter().filter(|device| !device.messages.is_empty()).collect();
        if work.is_empty() {
            return work;
        }
        let writes: Vec<_> = work.iter().map(DeviceWork::write).collect();
        let answers = self.outbox.states.save_many(&writes).await;
        let mut lost = Vec::new();
        let mut saved = Vec::new();
        for (device, answer) in work.into_iter().zip(answers) {
            match answer {
                Ok(()) => {
                    run.counts.add(&device.before, &device.after);
                    saved.push(device);
                }
                Err(WriteError::Conflict) => lost.push(device),
                Err(WriteError::Store(error)) => {
                    run.fail("writing a device's state", device.mids(), &error);
                }
            }
        }
        let settled = saved.iter().filter(|device| !device.after.outbox.is_empty()).map(
            |device| async move {
                let mut state = device.after.clone();
                state.version += 1;
                (device, self.outbox.settle(state, now, &self.choices.rules).await)
            },
        );
        let settled: Vec<_> =
            futures::stream::iter(settled).buffer_unordered(CONCURRENCY).collect().await;
        for (device, answer) in settled {
            if let Err(error) = answer {
                run.fail("settling a device's outbox", device.mids(), &error);
            }
        }
        lost
    }

    async fn read_again<'a>(
        &self,
        lost: Vec<DeviceWork<'a>>,
        now: Timestamp,
        run: &mut Run,
    ) -> Vec<DeviceWork<'a>> {
        let ids: Vec<_> = lost.iter().map(|device| device.before.device_id.clone()).collect();
        let read = async {
            let states = self.outbox.states.get_many(&ids).await?;
            let set = self.rules_for(&states, now).await?;
            Ok::<_, StoreError>((states, set))
        };
        match read.await {
            Ok((states, set)) => lost
                .into_iter()
                .map(|device| {
                    let id = device.before.device_id.clone();
                    let again = DeviceWork::decide(
                        states.get(&id),
                        &id,
                        (device.messages, device.echoes),
                        &set,
                        &self.choices.rules,
                    );
                    // Only when the winner admitted other metrics than we did must they be written again.
                    let parts_written = again.has_metrics_of(&device.after);
                    DeviceWork { parts_written, ..again }
                })
                .collect(),
            Err(error) => {
                for device in &lost {
                    run.fail("reading device states", device.mids(), &error);
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
fn shortened(topic: &str) -> String {
    topic.chars().take(200).collect()
}

#[cfg(test)]
mod tests;
