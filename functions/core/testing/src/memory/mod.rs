//! An in-memory implementation of every port, with the semantics of the adapters in `meter-aws`:
//! conditions, transactions, pages that end early and a read budget. It adds fault injection
//! ([`Fault`]).
//!
//! One [`MemoryStores`] implements all ports; clones share their content. It passes the same
//! contract suite as the adapters.

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

use self::faults::Faults;
pub use self::faults::{Fault, Operation};

/// The maximum number of segments that one read returns: few, so that tests cover callers that read
/// on.
const MAX_SEGMENTS_PER_READ: usize = 40;

/// The maximum number of keys that one list returns, few for the same reason.
const MAX_KEYS_PER_LIST: usize = 10;

/// All stores of one system, empty at first.
#[derive(Debug, Clone, Default)]
pub struct MemoryStores {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    // One lock over all tables makes every call a transaction.
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
    /// The state version of the revision that was applied last.
    alert_revisions: HashMap<Uuid, u64>,
    alert_keys: IdempotencyKeys,
    commands: BTreeMap<Uuid, Command>,
    /// The deadlines of pending commands.
    commands_due: HashMap<Uuid, Timestamp>,
    command_keys: IdempotencyKeys,
    published: Vec<(DeviceId, Bytes)>,
    rules: BTreeMap<Uuid, Rule>,
    rules_generation: u64,
    notifications: Vec<Notification>,
}

/// A device, or the tombstone of a deleted one.
#[derive(Debug)]
enum Row {
    Registered(Box<Device>),
    /// The time of the deletion.
    Tombstone(Timestamp),
}

/// The id that was created under each key, and the expiry of the key in seconds since the epoch.
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

    /// Returns whether the registry holds the tombstone of this deletion.
    fn is_deleted(&self, id: &DeviceId, deleted_at: Timestamp) -> bool {
        matches!(self.devices.get(id), Some(Row::Tombstone(at)) if *at == deleted_at)
    }
}

impl MemoryStores {
    /// Creates empty stores.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates empty stores that examine at most `items` items for a page, instead of
    /// [`MAX_ITEMS_EXAMINED`].
    pub fn with_read_budget(items: usize) -> Self {
        let memory = Self::default();
        memory.tables().read_budget = items;
        memory
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // A test that panicked while it held the lock has failed already.
        (self.shared.tables.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        (self.shared.faults.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    /// Performs `work` as one atomic call of `operation`, subject to fault injection.
    async fn call<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut Tables) -> T,
    ) -> Result<T, StoreError> {
        // Other tasks run here, as they do while a real call waits for the network.
        tokio::task::yield_now().await;
        let fault = self.faults().decide(operation);
        match fault {
            None => Ok(work(&mut self.tables())),
            Some(Fault::Reject) => Err(faults::injected_error(operation)),
            Some(Fault::Deny) => Err(StoreError::misconfigured("memory", "access denied")),
            Some(Fault::LoseResponse) => {
                work(&mut self.tables());
                Err(faults::injected_error(operation))
            }
        }
    }
}

/// The contents, for assertions that bypass the ports.
impl MemoryStores {
    /// Returns every archived object by its key.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.tables().objects.clone()
    }

    /// Returns a device's segments in order.
    pub fn segments(&self, device_id: &DeviceId) -> Vec<MessageSegment> {
        let tables = self.tables();
        let segments = tables.segments.get(device_id).into_iter();
        segments.flat_map(BTreeMap::values).cloned().collect()
    }

    /// Returns the quarantine entries, oldest first.
    pub fn quarantined(&self) -> Vec<QuarantineEntry> {
        self.tables().quarantine.values().cloned().collect()
    }

    /// Returns a device's state.
    pub fn state(&self, device_id: &DeviceId) -> Option<DeviceState> {
        self.tables().states.get(device_id).cloned()
    }

    /// Returns a device's alerts, oldest first.
    pub fn alerts(&self, device_id: &DeviceId) -> Vec<Alert> {
        let tables = self.tables();
        let alerts = tables.alerts.values();
        alerts.filter(|alert| alert.device_id == *device_id).cloned().collect()
    }

    /// Returns a device's commands, oldest first.
    pub fn commands(&self, device_id: &DeviceId) -> Vec<Command> {
        let tables = self.tables();
        let commands = tables.commands.values();
        commands.filter(|command| command.device_id == *device_id).cloned().collect()
    }

    /// Returns the published commands in order.
    pub fn published(&self) -> Vec<(DeviceId, Bytes)> {
        self.tables().published.clone()
    }

    /// Returns the published notifications in order.
    pub fn notifications(&self) -> Vec<Notification> {
        self.tables().notifications.clone()
    }
}

/// Fault injection.
impl MemoryStores {
    /// Sets the depth of the ingest queue.
    pub fn set_depth(&self, messages: u64) {
        self.tables().depth = messages;
    }

    /// The next call of `operation` meets a fault.
    pub fn fail_next(&self, operation: Operation, fault: Fault) {
        self.fail_nth(operation, 1, fault);
    }

    /// The `nth` call of `operation` from now on meets a fault; 1 is the next one.
    pub fn fail_nth(&self, operation: Operation, nth: usize, fault: Fault) {
        self.faults().schedule(operation, nth, fault);
    }

    /// Every call of `operation` is rejected until [`MemoryStores::clear_faults`].
    pub fn fail_always(&self, operation: Operation) {
        self.faults().fail_always(operation);
    }

    /// After `calls` more calls of any kind, every call is rejected until
    /// [`MemoryStores::clear_faults`], as if the calling process had crashed.
    pub fn fail_all_after(&self, calls: usize) {
        self.faults().fail_all_after(calls);
    }

    /// Segments and quarantine entries of these messages are not stored until
    /// [`MemoryStores::clear_faults`]; others in the same call are.
    pub fn fail_messages(&self, message_ids: impl IntoIterator<Item = MessageId>) {
        self.faults().failing_messages.extend(message_ids);
    }

    /// Segments of these messages are rejected as invalid, until [`MemoryStores::clear_faults`].
    pub fn reject_messages(&self, message_ids: impl IntoIterator<Item = MessageId>) {
        self.faults().invalid_messages.extend(message_ids);
    }

    /// The next save of this device's state conflicts, as if another writer had been faster.
    pub fn conflict_next(&self, device_id: &DeviceId) {
        self.faults().conflicts.push(device_id.clone());
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.faults().clear_faults();
    }

    /// Returns the number of calls of `operation` so far, failed ones included.
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
    async fn fail_nth_affects_only_that_call() {
        let memory = MemoryStores::new();
        memory.fail_nth(Operation::PutObject, 2, Fault::Reject);
        assert!(put_object(&memory).await.is_ok());
        assert!(put_object(&memory).await.is_err());
        assert!(put_object(&memory).await.is_ok());
        assert_eq!(memory.calls(Operation::PutObject), 3);
    }

    #[tokio::test]
    async fn lost_response_takes_effect_and_rejection_does_not() {
        let memory = MemoryStores::new();
        memory.fail_next(Operation::PutObject, Fault::Reject);
        assert!(put_object(&memory).await.is_err());
        assert!(memory.objects().is_empty());
        memory.fail_next(Operation::PutObject, Fault::LoseResponse);
        assert!(put_object(&memory).await.is_err());
        assert_eq!(memory.objects().len(), 1);
    }

    #[tokio::test]
    async fn fail_all_after_rejects_every_call_until_cleared() {
        let memory = MemoryStores::new();
        memory.fail_all_after(1);
        assert!(put_object(&memory).await.is_ok());
        assert!(put_object(&memory).await.is_err());
        assert!(memory.get_many(&[id()]).await.is_err());
        memory.clear_faults();
        assert!(put_object(&memory).await.is_ok());
    }

    #[tokio::test]
    async fn failing_message_does_not_affect_others_in_the_call() {
        let memory = MemoryStores::new();
        memory.fail_messages([segment(1).message_id]);
        let segments = [segment(1), segment(2)];
        let not_stored = MessageStore::put(&memory, &segments).await.unwrap_err();
        assert_eq!(not_stored.failed, BTreeSet::from([segment(1).message_id]));
        assert_eq!(memory.segments(&id()), [segment(2)]);
    }

    #[tokio::test]
    async fn conflict_next_affects_one_save() {
        let memory = MemoryStores::new();
        memory.conflict_next(&id());
        let state = DeviceState::new(id());
        let write = StateWrite { connection_before: state.presence.connection, state };
        let save = async || memory.save_many(std::slice::from_ref(&write)).await.remove(0);
        assert!(matches!(save().await, Err(WriteError::Conflict)));
        assert!(save().await.is_ok());
    }

    #[tokio::test]
    async fn read_of_many_segments_ends_before_its_limit() {
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
