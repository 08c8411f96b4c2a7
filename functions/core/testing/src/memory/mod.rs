//! Every port in memory, for tests, with the semantics of the real stores: conditions, transactions,
//! pages that end early, a read budget, and failures on demand ([`Fault`]).
//!
//! One [`MemoryStores`] implements all ports; clones share their content. It is compiled outside tests, too,
//! because the tests of other crates use it. The contract tests hold it and the adapters in
//! `meter-aws` to the same promises.

mod alerts;
mod archive;
mod commands;
mod devices;
mod faults;
mod messages;
mod notifier;
mod pages;
mod recount;
mod rollups;
mod rules;
mod states;
mod stores;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::civil::Date;
use meter_domain::alert::Alert;
use meter_domain::command::Command;
use meter_domain::device::Device;
use meter_domain::id::{DeviceId, MessageId};
use meter_domain::notification::Notification;
use meter_domain::rule::Rule;
use meter_domain::segments::{MessageSegment, SegmentPosition};
use meter_domain::state::DeviceState;
use meter_domain::time::Timestamp;
use meter_store::{
    FleetCounts, IdempotencyKey, IngestLag, MAX_ITEMS_EXAMINED, QuarantineEntry, StoreError,
};
use uuid::Uuid;

pub use self::faults::{Fault, Operation};
use self::faults::{FaultDecision, Faults};

/// Parts that one read answers at most: few, so that a caller that forgets to go on is found out.
const MAX_SEGMENTS_PER_READ: usize = 40;

/// Keys that one list answers at most, likewise.
const MAX_KEYS_PER_LIST: usize = 10;

/// All stores of one system. See the module.
#[derive(Debug, Clone, Default)]
pub struct MemoryStores {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    // One lock over everything is what makes the transactions between tables so easy here.
    tables: Mutex<Tables>,
    faults: Mutex<Faults>,
}

#[derive(Debug)]
struct Tables {
    read_budget: usize,
    objects: BTreeMap<String, Bytes>,
    segments: BTreeMap<DeviceId, BTreeMap<SegmentPosition, MessageSegment>>,
    rollups: rollups::Rollups,
    days: BTreeMap<DeviceId, BTreeSet<Date>>,
    quarantine: BTreeMap<String, QuarantineEntry>,
    states: HashMap<DeviceId, DeviceState>,
    ingest_lags: HashMap<Uuid, IngestLag>,
    depth: u64,
    devices: BTreeMap<DeviceId, Row>,
    counts: FleetCounts,
    alerts: BTreeMap<Uuid, Alert>,
    /// The numbers of the revisions that were applied last.
    alert_revisions: HashMap<Uuid, u64>,
    alert_keys: IdempotencyKeys,
    commands: BTreeMap<Uuid, Command>,
    /// When somebody must look at those that are pending.
    commands_due: HashMap<Uuid, Timestamp>,
    command_keys: IdempotencyKeys,
    published: Vec<(DeviceId, Bytes)>,
    rules: BTreeMap<Uuid, Rule>,
    rules_generation: u64,
    notifications: Vec<Notification>,
}

/// A row of the registry.
#[derive(Debug)]
enum Row {
    Registered(Box<Device>),
    /// When it was deleted.
    Tombstone(Timestamp),
}

/// What was made under which key, and until when (seconds since the epoch) that counts.
type IdempotencyKeys = HashMap<(DeviceId, IdempotencyKey), (Uuid, i64)>;

impl Default for Tables {
    fn default() -> Self {
        Self {
            read_budget: MAX_ITEMS_EXAMINED,
            objects: BTreeMap::new(),
            segments: BTreeMap::new(),
            rollups: BTreeMap::new(),
            days: BTreeMap::new(),
            quarantine: BTreeMap::new(),
            states: HashMap::new(),
            ingest_lags: HashMap::new(),
            depth: 0,
            devices: BTreeMap::new(),
            counts: FleetCounts::default(),
            alerts: BTreeMap::new(),
            alert_revisions: HashMap::new(),
            alert_keys: HashMap::new(),
            commands: BTreeMap::new(),
            commands_due: HashMap::new(),
            command_keys: HashMap::new(),
            published: Vec::new(),
            rules: BTreeMap::new(),
            rules_generation: 0,
            notifications: Vec::new(),
        }
    }
}

impl Tables {
    fn is_registered(&self, id: &DeviceId) -> bool {
        matches!(self.devices.get(id), Some(Row::Registered(_)))
    }

    /// Whether the tombstone of this delete is there.
    fn is_deleted(&self, id: &DeviceId, deleted_at: Timestamp) -> bool {
        matches!(self.devices.get(id), Some(Row::Tombstone(at)) if *at == deleted_at)
    }
}

impl MemoryStores {
    /// Empty stores.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty stores whose lists examine at most so many items a request, in place of [`MAX_ITEMS_EXAMINED`].
    pub fn with_read_budget(items: usize) -> Self {
        let memory = Self::default();
        memory.tables().read_budget = items;
        memory
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // A test that panicked under the lock has failed already.
        (self.shared.tables.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        (self.shared.faults.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` as one atomic call of `operation`, unless a fault says otherwise.
    async fn call<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut Tables) -> T,
    ) -> Result<T, StoreError> {
        // A real call waits for the network: others get their turn.
        tokio::task::yield_now().await;
        let decision = self.faults().decide(operation);
        match decision {
            FaultDecision::Proceed => Ok(work(&mut self.tables())),
            FaultDecision::Reject => Err(faults::injected_error(operation)),
            FaultDecision::Deny => Err(StoreError::misconfigured("memory", "access denied")),
            FaultDecision::LoseResponse => {
                work(&mut self.tables());
                Err(faults::injected_error(operation))
            }
        }
    }
}

/// What a test may look at without asking a port.
impl MemoryStores {
    /// Every archived object by its key.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.tables().objects.clone()
    }

    /// A device's parts, in their order.
    pub fn segments(&self, device_id: &DeviceId) -> Vec<MessageSegment> {
        let tables = self.tables();
        let segments = tables.segments.get(device_id).into_iter();
        segments.flat_map(BTreeMap::values).cloned().collect()
    }

    /// Everything in quarantine, oldest first.
    pub fn quarantined(&self) -> Vec<QuarantineEntry> {
        self.tables().quarantine.values().cloned().collect()
    }

    /// A device's state.
    pub fn state(&self, device_id: &DeviceId) -> Option<DeviceState> {
        self.tables().states.get(device_id).cloned()
    }

    /// A device's alerts, oldest first.
    pub fn alerts(&self, device_id: &DeviceId) -> Vec<Alert> {
        let tables = self.tables();
        let alerts = tables.alerts.values();
        alerts.filter(|alert| alert.device_id == *device_id).cloned().collect()
    }

    /// A device's commands, oldest first.
    pub fn commands(&self, device_id: &DeviceId) -> Vec<Command> {
        let tables = self.tables();
        let commands = tables.commands.values();
        commands.filter(|command| command.device_id == *device_id).cloned().collect()
    }

    /// What was handed to the broker, in order.
    pub fn published(&self) -> Vec<(DeviceId, Bytes)> {
        self.tables().published.clone()
    }

    /// What people were told, in order.
    pub fn notifications(&self) -> Vec<Notification> {
        self.tables().notifications.clone()
    }
}

/// What a test may make go wrong.
impl MemoryStores {
    /// So many messages wait for ingest from now on.
    pub fn set_depth(&self, messages: u64) {
        self.tables().depth = messages;
    }

    /// The next call of `operation` goes wrong.
    pub fn fail_next(&self, operation: Operation, fault: Fault) {
        self.fail_nth(operation, 1, fault);
    }

    /// The `nth` call of `operation` from now on goes wrong; 1 is the next one.
    pub fn fail_nth(&self, operation: Operation, nth: usize, fault: Fault) {
        self.faults().schedule(operation, nth, fault);
    }

    /// Every call of `operation` is refused until [`MemoryStores::clear_faults`].
    pub fn fail_always(&self, operation: Operation) {
        self.faults().fail_always(operation);
    }

    /// Everything is refused after `calls` more calls of any kind, as if the caller's process had died
    /// there, until [`MemoryStores::clear_faults`].
    pub fn fail_all_after(&self, calls: usize) {
        self.faults().fail_all_after(calls);
    }

    /// Parts and quarantine entries of these messages are not stored, their neighbours are, until
    /// [`MemoryStores::clear_faults`].
    pub fn fail_messages(&self, message_ids: impl IntoIterator<Item = MessageId>) {
        self.faults().failing_messages.extend(message_ids);
    }

    /// Segments of these messages are rejected as invalid, until [`MemoryStores::clear_faults`].
    pub fn reject_messages(&self, message_ids: impl IntoIterator<Item = MessageId>) {
        self.faults().invalid_messages.extend(message_ids);
    }

    /// The next save of this device's state conflicts, as if somebody else had written meanwhile.
    pub fn conflict_next(&self, device_id: &DeviceId) {
        self.faults().conflicts.push(device_id.clone());
    }

    /// Ends every fault.
    pub fn clear_faults(&self) {
        self.faults().clear_faults();
    }

    /// How often `operation` was called so far, whatever came of it.
    pub fn calls(&self, operation: Operation) -> usize {
        self.faults().calls(operation)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use meter_domain::archive::Location;
    use meter_domain::message::Category;
    use meter_domain::segments::IndexEntry;
    use meter_domain::time::Timestamp;
    use meter_store::{
        Archive, MessageStore, Order, SegmentQuery, StateStore, StateWrite, WriteError,
    };

    use super::*;

    fn id() -> DeviceId {
        DeviceId::parse("m").unwrap()
    }

    fn segment(number: u8) -> MessageSegment {
        let ts = Timestamp::EPOCH;
        let location = Location { object: "o".to_owned(), member: None };
        MessageSegment {
            device_id: id(),
            message_id: MessageId::of("t", &[number]),
            ts,
            index_entry: Some(IndexEntry {
                category: Category::Hello,
                received_at: ts,
                size: 1,
                location,
            }),
            envelope_ts: ts,
            samples: Vec::new(),
            ttl: None,
        }
    }

    async fn put_object(memory: &MemoryStores) -> Result<(), StoreError> {
        Archive::put(memory, "k", "text/plain", Bytes::from_static(b"x")).await
    }

    #[tokio::test]
    async fn the_nth_call_fails_and_no_other() {
        let memory = MemoryStores::new();
        memory.fail_nth(Operation::PutObject, 2, Fault::Reject);
        assert!(put_object(&memory).await.is_ok());
        assert!(put_object(&memory).await.is_err());
        assert!(put_object(&memory).await.is_ok());
        assert_eq!(memory.calls(Operation::PutObject), 3);
    }

    #[tokio::test]
    async fn a_call_whose_answer_is_lost_is_done_and_one_that_is_refused_is_not() {
        let memory = MemoryStores::new();
        memory.fail_next(Operation::PutObject, Fault::Reject);
        assert!(put_object(&memory).await.is_err());
        assert!(memory.objects().is_empty());
        memory.fail_next(Operation::PutObject, Fault::LoseResponse);
        assert!(put_object(&memory).await.is_err());
        assert_eq!(memory.objects().len(), 1);
    }

    #[tokio::test]
    async fn a_process_that_died_does_nothing_more_until_it_is_healed() {
        let memory = MemoryStores::new();
        memory.fail_all_after(1);
        assert!(put_object(&memory).await.is_ok());
        assert!(put_object(&memory).await.is_err());
        assert!(memory.get_many(&[id()]).await.is_err());
        memory.clear_faults();
        assert!(put_object(&memory).await.is_ok());
    }

    #[tokio::test]
    async fn messages_that_are_refused_do_not_hold_up_their_neighbours() {
        let memory = MemoryStores::new();
        memory.fail_messages([segment(1).message_id]);
        let segments = [segment(1), segment(2)];
        let not_stored = MessageStore::put(&memory, &segments).await.unwrap_err();
        assert_eq!(not_stored.failed, BTreeSet::from([segment(1).message_id]));
        assert_eq!(memory.segments(&id()), [segment(2)]);
    }

    #[tokio::test]
    async fn a_conflict_on_demand_comes_once() {
        let memory = MemoryStores::new();
        memory.conflict_next(&id());
        let state = DeviceState::new(id());
        let write = StateWrite { connection_before: state.presence.connection, state };
        let save = async || memory.save_many(std::slice::from_ref(&write)).await.remove(0);
        assert!(matches!(save().await, Err(WriteError::Conflict)));
        assert!(save().await.is_ok());
    }

    #[tokio::test]
    async fn a_read_ends_before_its_limit_as_those_of_a_real_store_do() {
        let memory = MemoryStores::new();
        let segments: Vec<MessageSegment> = (0..60).map(segment).collect();
        MessageStore::put(&memory, &segments).await.unwrap();
        let query = SegmentQuery {
            device_id: id(),
            day: Timestamp::EPOCH.day(),
            from: Timestamp::min(),
            to: Timestamp::max(),
            order: Order::Ascending,
            after: None,
            limit: 1_000,
            consistent: false,
        };
        let (found, more) = memory.read(&query).await.unwrap();
        assert!(found.len() < 60 && more);
    }
}
