//! One batch: every effect in its order, batched over all messages, failures reported one by one.
//!
//! The order is archive, messages, state, outbox (architecture.md, decision 3). Each step is idempotent
//! by the identity of the message, so dying anywhere and starting over, grouped in another way, ends the
//! same. A message fails alone: what fails for it is reported and comes again, its neighbours go on.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::StreamExt;
use meter_core::archive::{self, Layout, Location, Object};
use meter_core::id::{DeviceId, Mid};
use meter_core::message::{self, Message, Received, Unreadable};
use meter_core::state::{Connection, DeviceState};
use meter_core::store::{
    AlertStore, Archive, CommandStore, MessageStore, Part, QuarantineStore, Quarantined,
    StateStore, StateWrite, WriteError,
};
use meter_core::{lock, outbox, parts, retry};

use crate::event::Delivery;

/// Calls to one store under way at once.
const CONCURRENCY: usize = 16;

const DAY_SECONDS: i64 = 24 * 3600;

/// What an operator may choose.
#[derive(Debug, Clone)]
pub struct Choices {
    /// How the archive is laid out.
    pub layout: Layout,
    /// Different metrics not known by name that a device may have.
    pub max_metrics: usize,
    /// Days until the store may forget a message; none: never.
    pub ttl_days: Option<u32>,
    /// Whether messages of devices that are not registered go to quarantine.
    pub require_registration: bool,
}

/// The handler of batches, over the ports that it needs.
#[derive(Debug)]
pub struct Ingest<O, M, S, A, C> {
    /// Where the bytes go.
    pub archive: O,
    /// Where their index and the measurements go, and the index of what could not be read.
    pub messages: M,
    /// Where what is known of each device is.
    pub states: S,
    /// Where effects on alerts go.
    pub alerts: A,
    /// Where effects on commands go.
    pub commands: C,
    /// What the operator chose.
    pub choices: Choices,
}

/// What became of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The deliveries that must come again, by index.
    pub failed: BTreeSet<usize>,
    /// For the operator.
    pub counts: Counts,
}

/// What an operator counts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Deliveries.
    pub received: usize,
    /// Distinct messages stored.
    pub stored: usize,
    /// Deliveries beyond the first of the same message in this batch.
    pub doubled: usize,
    /// Distinct messages put in quarantine.
    pub quarantined: usize,
    /// Deliveries that must come again.
    pub failed: usize,
    /// Messages of devices that are not registered.
    pub unregistered: usize,
    /// Samples refused because their device has too many different metrics.
    pub metrics_refused: usize,
    /// Sequence numbers seen before.
    pub repeats: usize,
    /// Sequence numbers that came after a higher one.
    pub late: usize,
    /// New power-ons.
    pub restarts: usize,
    /// Writes of a state that lost its lock.
    pub conflicts: usize,
}

impl Counts {
    /// The metrics' names and values.
    pub fn named(&self) -> [(&'static str, usize); 11] {
        [
            ("MessagesReceived", self.received),
            ("MessagesStored", self.stored),
            ("MessagesDoubled", self.doubled),
            ("MessagesQuarantined", self.quarantined),
            ("MessagesFailed", self.failed),
            ("MessagesUnregistered", self.unregistered),
            ("MetricsRefused", self.metrics_refused),
            ("SequenceRepeats", self.repeats),
            ("SequenceLate", self.late),
            ("DeviceRestarts", self.restarts),
            ("StateConflicts", self.conflicts),
        ]
    }
}

/// The messages of a batch, each once.
struct Batch {
    readable: BTreeMap<Mid, Message>,
    unreadable: BTreeMap<Mid, (Received, Unreadable)>,
    /// Which deliveries are of which message.
    deliveries: HashMap<Mid, Vec<usize>>,
}

impl Batch {
    fn read(deliveries: &[Delivery]) -> Self {
        let mut batch = Self {
            readable: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            deliveries: HashMap::new(),
        };
        for (index, delivery) in deliveries.iter().enumerate() {
            let received = &delivery.received;
            let read = match &delivery.damage {
                Some(damage) => Err(damage.clone()),
                None => message::parse(received),
            };
            let mid = match read {
                Ok(message) => {
                    let mid = message.mid;
                    let held = batch.readable.entry(mid).or_insert_with(|| message.clone());
                    // Of two receipts of a message the first counts, whichever is handled first.
                    if message.received.received_at < held.received.received_at {
                        *held = message;
                    }
                    mid
                }
                Err(reason) => {
                    let mid = Mid::of(&received.topic, &received.payload);
                    batch.unreadable.entry(mid).or_insert_with(|| (received.clone(), reason));
                    mid
                }
            };
            batch.deliveries.entry(mid).or_default().push(index);
        }
        batch
    }

    fn devices(&self) -> Vec<DeviceId> {
        let ids: BTreeSet<_> = self.readable.values().map(|m| &m.device_id).collect();
        ids.into_iter().cloned().collect()
    }
}

impl<O, M, S, A, C> Ingest<O, M, S, A, C>
where
    O: Archive,
    M: MessageStore + QuarantineStore,
    S: StateStore,
    A: AlertStore,
    C: CommandStore,
{
    /// Handles a batch.
    pub async fn handle(&self, deliveries: &[Delivery]) -> Outcome {
        let mut batch = Batch::read(deliveries);
        let mut run = Run { failed: HashSet::new(), counts: Counts::default() };
        run.counts.received = deliveries.len();
        run.counts.doubled = deliveries.len() - batch.readable.len() - batch.unreadable.len();

        let states = match self.states.get_many(&batch.devices()).await {
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

        let (quarantined, stored) =
            futures::join!(self.quarantine(&batch.unreadable), self.store(&batch.readable, states));
        run.merge(quarantined);
        run.merge(stored);

        let mut outcome = Outcome::default();
        for mid in &run.failed {
            outcome.failed.extend(batch.deliveries.get(mid).into_iter().flatten());
        }
        run.counts.failed = outcome.failed.len();
        outcome.counts = run.counts;
        outcome
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
        states: HashMap<DeviceId, DeviceState>,
    ) -> Run {
        let mut run = Run::default();
        let all: Vec<&Message> = messages.values().collect();
        let locations = self.put_objects(archive::pack(self.choices.layout, &all), &mut run).await;

        let mut devices: BTreeMap<&DeviceId, Vec<&Message>> = BTreeMap::new();
        for message in all.into_iter().filter(|m| locations.contains_key(&m.mid)) {
            devices.entry(&message.device_id).or_default().push(message);
        }
        let mut work: Vec<DeviceWork<'_>> = devices
            .into_iter()
            .map(|(id, messages)| self.decide(states.get(id), id, messages))
            .collect();

        // Who loses the lock of a device's state decides again from what the winner wrote.
        for attempt in 0..retry::ATTEMPTS {
            self.put_parts(&mut work, &locations, &mut run).await;
            let lost = self.save_states(work, &mut run).await;
            if lost.is_empty() {
                run.counts.stored = messages.len() - run.failed.len();
                return run;
            }
            run.counts.conflicts += lost.len();
            retry::pause(attempt).await;
            work = self.read_again(lost, &mut run).await;
        }
        for device in &work {
            run.fail("writing a device's state", device.mids(), &lock::contended());
        }
        run.counts.stored = messages.len() - run.failed.len();
        run
    }

    /// What the messages of a device make of its state.
    fn decide<'a>(
        &self,
        state: Option<&DeviceState>,
        id: &DeviceId,
        mut messages: Vec<&'a Message>,
    ) -> DeviceWork<'a> {
        let before = state.cloned().unwrap_or_else(|| DeviceState::new(id.clone()));
        messages.sort_by_key(|m| (m.received.received_at, m.ts, m.seq, m.mid));
        let mut work = DeviceWork { after: before.clone(), before, messages, parts_written: false };
        work.apply(self.choices.max_metrics);
        work
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

    /// Writes the parts of all messages that are not written yet as they should be.
    async fn put_parts(
        &self,
        work: &mut [DeviceWork<'_>],
        locations: &HashMap<Mid, Location>,
        run: &mut Run,
    ) {
        let mut all: Vec<Part> = Vec::new();
        for device in work.iter().filter(|device| !device.parts_written) {
            for message in &device.messages {
                let Some(location) = locations.get(&message.mid) else { continue };
                let ttl = self.choices.ttl_days.map(|days| {
                    message.received.received_at.as_seconds() + i64::from(days) * DAY_SECONDS
                });
                let keep = |m: &message::Measurement| device.after.has_metric(&m.metric);
                all.extend(parts::cut(message, location.clone(), ttl, keep));
            }
        }
        if all.is_empty() {
            return;
        }
        let failed = match self.messages.put(&all).await {
            Ok(()) => BTreeSet::new(),
            Err(error) => {
                run.fail("writing messages", error.failed.iter().copied(), &error);
                error.failed
            }
        };
        for device in work {
            device.parts_written = true;
            if device.messages.iter().any(|m| failed.contains(&m.mid)) {
                // The state must not know what is not stored: its answer would be lost with a crash.
                device.messages.retain(|m| !failed.contains(&m.mid));
                device.apply(self.choices.max_metrics);
            }
        }
    }

    /// Writes the states and carries out what they ask for; answers those who lost the lock.
    async fn save_states<'a>(
        &self,
        work: Vec<DeviceWork<'a>>,
        run: &mut Run,
    ) -> Vec<DeviceWork<'a>> {
        let work: Vec<_> = work.into_iter().filter(|device| !device.messages.is_empty()).collect();
        if work.is_empty() {
            return work;
        }
        let writes: Vec<_> = work.iter().map(DeviceWork::write).collect();
        let answers = self.states.save_many(&writes).await;
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
                (device, outbox::settle(&self.states, &self.alerts, &self.commands, state).await)
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
        run: &mut Run,
    ) -> Vec<DeviceWork<'a>> {
        let ids: Vec<_> = lost.iter().map(|device| device.before.device_id.clone()).collect();
        match self.states.get_many(&ids).await {
            Ok(states) => lost
                .into_iter()
                .map(|device| {
                    let id = device.before.device_id.clone();
                    let again = self.decide(states.get(&id), &id, device.messages);
                    // Only when the winner admitted other metrics than we did must they be written again.
                    let parts_written = again.after.latest.keys().eq(device.after.latest.keys());
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
}

/// The messages of one device, and its state before and after them.
struct DeviceWork<'a> {
    before: DeviceState,
    after: DeviceState,
    /// In the order of receipt.
    messages: Vec<&'a Message>,
    parts_written: bool,
}

impl DeviceWork<'_> {
    fn apply(&mut self, max_metrics: usize) {
        self.after = self.before.clone();
        self.after.apply(&self.messages, max_metrics);
    }

    fn mids(&self) -> impl Iterator<Item = Mid> {
        self.messages.iter().map(|m| m.mid)
    }

    fn write(&self) -> StateWrite {
        let connection_before: Connection = self.before.presence.connection;
        StateWrite { state: self.after.clone(), connection_before }
    }
}

/// What has failed so far, and counts.
#[derive(Default)]
struct Run {
    failed: HashSet<Mid>,
    counts: Counts,
}

impl Run {
    fn fail(
        &mut self,
        doing: &str,
        mids: impl Iterator<Item = Mid>,
        error: &(dyn std::error::Error + 'static),
    ) {
        let before = self.failed.len();
        self.failed.extend(mids);
        let messages = self.failed.len() - before;
        tracing::error!(messages, error = chain(error), "{doing} failed; the messages come again");
    }

    fn merge(&mut self, other: Self) {
        self.failed.extend(other.failed);
        self.counts.stored += other.counts.stored;
        self.counts.quarantined += other.counts.quarantined;
        self.counts.metrics_refused += other.counts.metrics_refused;
        self.counts.repeats += other.counts.repeats;
        self.counts.late += other.counts.late;
        self.counts.restarts += other.counts.restarts;
        self.counts.conflicts += other.counts.conflicts;
    }
}

impl Counts {
    fn add(&mut self, before: &DeviceState, after: &DeviceState) {
        let more = |after: u64, before: u64| usize::try_from(after - before).unwrap_or(usize::MAX);
        self.metrics_refused += more(after.metrics_refused, before.metrics_refused);
        self.repeats += more(after.sequence.repeats, before.sequence.repeats);
        self.late += more(after.sequence.late, before.sequence.late);
        self.restarts += more(after.sequence.restarts, before.sequence.restarts);
    }
}

/// An error with its causes, on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A topic for the log: a hostile one may be 64 KB.
fn shortened(topic: &str) -> String {
    topic.chars().take(200).collect()
}

#[cfg(test)]
mod tests;
