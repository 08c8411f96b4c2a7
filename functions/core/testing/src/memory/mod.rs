//! Every port in memory, for tests, with the semantics of the real stores: conditions, transactions,
//! pages that end early, a read budget, and failures on demand ([`Fault`]).
//!
//! One [`Memory`] implements all ports; clones share their content. It is compiled outside tests, too,
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

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::civil::Date;
use meter_domain::alert::Alert;
use meter_domain::command::Command;
use meter_domain::device::Device;
use meter_domain::id::{DeviceId, Mid};
use meter_domain::notice::Notice;
use meter_domain::parts::{Part, PartPosition};
use meter_domain::rule::Rule;
use meter_domain::state::DeviceState;
use meter_domain::time::Timestamp;
use meter_store::{
    FleetCounts, IdempotencyKey, IngestProgress, Quarantined, READ_BUDGET, StoreError,
};
use uuid::Uuid;

pub use self::faults::{Fault, Operation};
use self::faults::{Faults, Verdict};

/// Parts that one read answers at most: few, so that a caller that forgets to go on is found out.
const PARTS_PER_READ: usize = 40;

/// Keys that one list answers at most, likewise.
const KEYS_PER_LIST: usize = 10;

/// All stores of one system. See the module.
#[derive(Debug, Clone, Default)]
pub struct Memory {
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
    parts: BTreeMap<DeviceId, BTreeMap<PartPosition, Part>>,
    rollups: rollups::Rollups,
    days: BTreeMap<DeviceId, BTreeSet<Date>>,
    quarantine: BTreeMap<String, Quarantined>,
    states: HashMap<DeviceId, DeviceState>,
    progress: HashMap<Uuid, IngestProgress>,
    depth: u64,
    devices: BTreeMap<DeviceId, Row>,
    counts: FleetCounts,
    alerts: BTreeMap<Uuid, Alert>,
    /// The numbers of the revisions that were applied last.
    alert_revisions: HashMap<Uuid, u64>,
    alert_keys: Keys,
    commands: BTreeMap<Uuid, Command>,
    /// When somebody must look at those that are pending.
    commands_due: HashMap<Uuid, Timestamp>,
    command_keys: Keys,
    published: Vec<(DeviceId, Bytes)>,
    rules: BTreeMap<Uuid, Rule>,
    rules_generation: u64,
    notices: Vec<Notice>,
}

/// A row of the registry.
#[derive(Debug)]
enum Row {
    Registered(Box<Device>),
    /// When it was deleted.
    Tombstone(Timestamp),
}

/// What was made under which key, and until when (seconds since the epoch) that counts.
type Keys = HashMap<(DeviceId, IdempotencyKey), (Uuid, i64)>;

impl Default for Tables {
    fn default() -> Self {
        Self {
            read_budget: READ_BUDGET,
            objects: BTreeMap::new(),
            parts: BTreeMap::new(),
            rollups: BTreeMap::new(),
            days: BTreeMap::new(),
            quarantine: BTreeMap::new(),
            states: HashMap::new(),
            progress: HashMap::new(),
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
            notices: Vec::new(),
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

impl Memory {
    /// Empty stores.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty stores whose lists examine at most so many items a request, in place of [`READ_BUDGET`].
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
        let verdict = self.faults().verdict(operation);
        match verdict {
            Verdict::Proceed => Ok(work(&mut self.tables())),
            Verdict::Refuse => Err(faults::error(operation)),
            Verdict::LoseAnswer => {
                work(&mut self.tables());
                Err(faults::error(operation))
            }
        }
    }
}

/// What a test may look at without asking a port.
impl Memory {
    /// Every archived object by its key.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.tables().objects.clone()
    }

    /// A device's parts, in their order.
    pub fn parts(&self, device_id: &DeviceId) -> Vec<Part> {
        let tables = self.tables();
        let parts = tables.parts.get(device_id).into_iter();
        parts.flat_map(BTreeMap::values).cloned().collect()
    }

    /// Everything in quarantine, oldest first.
    pub fn quarantined(&self) -> Vec<Quarantined> {
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
    pub fn notices(&self) -> Vec<Notice> {
        self.tables().notices.clone()
    }
}

/// What a test may make go wrong.
impl Memory {
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
        self.faults().at(operation, nth, fault);
    }

    /// Every call of `operation` is refused until [`Memory::heal`].
    pub fn fail_always(&self, operation: Operation) {
        self.faults().always(operation);
    }

    /// Everything is refused after `calls` more calls of any kind, as if the caller's process had died
    /// there, until [`Memory::heal`].
    pub fn fail_all_after(&self, calls: usize) {
        self.faults().all_after(calls);
    }

    /// Parts and quarantine entries of these messages are not stored, their neighbours are, until
    /// [`Memory::heal`].
    pub fn refuse_messages(&self, mids: impl IntoIterator<Item = Mid>) {
        self.faults().refused.extend(mids);
    }

    /// The next save of this device's state conflicts, as if somebody else had written meanwhile.
    pub fn conflict_next(&self, device_id: &DeviceId) {
        self.faults().conflicts.push(device_id.clone());
    }

    /// Ends every fault.
    pub fn heal(&self) {
        self.faults().heal();
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
    use meter_domain::parts::Head;
    use meter_domain::time::Timestamp;
    use meter_store::{
        Archive, MessageStore, Order, PartQuery, StateStore, StateWrite, WriteError,
    };

    use super::*;

    fn id() -> DeviceId {
        DeviceId::parse("m").unwrap()
    }

    fn part(number: u8) -> Part {
        let ts = Timestamp::EPOCH;
        let location = Location { object: "o".to_owned(), member: None };
        Part {
            device_id: id(),
            mid: Mid::of("t", &[number]),
            ts,
            head: Some(Head { category: Category::Hello, received_at: ts, size: 1, location }),
            claim_ts: ts,
            samples: Vec::new(),
            ttl: None,
        }
    }

    async fn put_object(memory: &Memory) -> Result<(), StoreError> {
        Archive::put(memory, "k", "text/plain", Bytes::from_static(b"x")).await
    }

    #[tokio::test]
    async fn the_nth_call_fails_and_no_other() {
        let memory = Memory::new();
        memory.fail_nth(Operation::PutObject, 2, Fault::Refuse);
        assert!(put_object(&memory).await.is_ok());
        assert!(put_object(&memory).await.is_err());
        assert!(put_object(&memory).await.is_ok());
        assert_eq!(memory.calls(Operation::PutObject), 3);
    }

    #[tokio::test]
    async fn a_call_whose_answer_is_lost_is_done_and_one_that_is_refused_is_not() {
        let memory = Memory::new();
        memory.fail_next(Operation::PutObject, Fault::Refuse);
        assert!(put_object(&memory).await.is_err());
        assert!(memory.objects().is_empty());
        memory.fail_next(Operation::PutObject, Fault::LoseAnswer);
        assert!(put_object(&memory).await.is_err());
        assert_eq!(memory.objects().len(), 1);
    }

    #[tokio::test]
    async fn a_process_that_died_does_nothing_more_until_it_is_healed() {
        let memory = Memory::new();
        memory.fail_all_after(1);
        assert!(put_object(&memory).await.is_ok());
        assert!(put_object(&memory).await.is_err());
        assert!(memory.get_many(&[id()]).await.is_err());
        memory.heal();
        assert!(put_object(&memory).await.is_ok());
    }

    #[tokio::test]
    async fn messages_that_are_refused_do_not_hold_up_their_neighbours() {
        let memory = Memory::new();
        memory.refuse_messages([part(1).mid]);
        let parts = [part(1), part(2)];
        let not_stored = MessageStore::put(&memory, &parts).await.unwrap_err();
        assert_eq!(not_stored.failed, BTreeSet::from([part(1).mid]));
        assert_eq!(memory.parts(&id()), [part(2)]);
    }

    #[tokio::test]
    async fn a_conflict_on_demand_comes_once() {
        let memory = Memory::new();
        memory.conflict_next(&id());
        let state = DeviceState::new(id());
        let write = StateWrite { connection_before: state.presence.connection, state };
        let save = async || memory.save_many(std::slice::from_ref(&write)).await.remove(0);
        assert!(matches!(save().await, Err(WriteError::Conflict)));
        assert!(save().await.is_ok());
    }

    #[tokio::test]
    async fn a_read_ends_before_its_limit_as_those_of_a_real_store_do() {
        let memory = Memory::new();
        let parts: Vec<Part> = (0..60).map(part).collect();
        MessageStore::put(&memory, &parts).await.unwrap();
        let query = PartQuery {
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
