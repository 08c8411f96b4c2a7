//! Fault injection.

use std::collections::{BTreeSet, HashMap, HashSet};

use meter_domain::id::{DeviceId, MessageId};
use meter_store::StoreError;

/// The fault that a call meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call has no effect and returns an error.
    Reject,
    /// The call takes effect and returns an error.
    LoseResponse,
    /// It is rejected because access is denied, and does nothing.
    Deny,
}

/// The calls of the ports, one for each method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    PutObject,
    GetObject,
    GetVersionedObject,
    ReplaceObject,
    RemoveObject,
    ListObjects,
    PutSegments,
    ListDays,
    ReadSegments,
    GetIndexEntry,
    RemoveSegments,
    PutRollup,
    ReadBuckets,
    DeleteRollups,
    PutQuarantined,
    ListQuarantined,
    GetQuarantined,
    GetStates,
    SaveStates,
    ListDueStates,
    RecordIngestLag,
    GetIngestLag,
    GetDepth,
    CreateDevice,
    GetDevice,
    UpdateDevice,
    ListDevices,
    CreateTombstone,
    HasTombstone,
    RemoveTombstone,
    CountDevices,
    Recount,
    OpenAlert,
    ListAlerts,
    AcknowledgeAlert,
    ReviseAlert,
    DeleteAlerts,
    CountAlerts,
    CreateCommand,
    GetCommand,
    ListDueCommands,
    ClaimCommand,
    PostponeCommand,
    TimeOutCommand,
    MarkPublished,
    FindCommandDevice,
    ListCommands,
    AcknowledgeCommand,
    AdvanceOta,
    DeleteCommands,
    PublishCommand,
    Notify,
    CreateRule,
    GetRule,
    ListRules,
    ReplaceRule,
    RemoveRule,
    ReadRules,
    Probe,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    calls: HashMap<Operation, usize>,
    all_calls: usize,
    /// By operation and number of the call, from 1.
    scheduled: HashMap<(Operation, usize), Fault>,
    always: HashSet<Operation>,
    all_after: Option<usize>,
    pub(super) failing_messages: BTreeSet<MessageId>,
    pub(super) invalid_messages: BTreeSet<MessageId>,
    pub(super) conflicts: Vec<DeviceId>,
}

impl Faults {
    pub(super) fn schedule(&mut self, operation: Operation, nth: usize, fault: Fault) {
        let call = self.calls(operation) + nth;
        self.scheduled.insert((operation, call), fault);
    }

    pub(super) fn fail_always(&mut self, operation: Operation) {
        self.always.insert(operation);
    }

    pub(super) fn fail_all_after(&mut self, calls: usize) {
        self.all_after = Some(self.all_calls + calls);
    }

    pub(super) fn clear_faults(&mut self) {
        *self = Self {
            calls: std::mem::take(&mut self.calls),
            all_calls: self.all_calls,
            ..Self::default()
        };
    }

    pub(super) fn calls(&self, operation: Operation) -> usize {
        self.calls.get(&operation).copied().unwrap_or(0)
    }

    /// Counts a call and returns its fault.
    pub(super) fn decide(&mut self, operation: Operation) -> Option<Fault> {
        self.all_calls += 1;
        let count = self.calls.entry(operation).or_default();
        *count += 1;
        let scheduled = self.scheduled.remove(&(operation, *count));
        let is_crashed = self.all_after.is_some_and(|last| self.all_calls > last);
        if is_crashed || self.always.contains(&operation) {
            return Some(Fault::Reject);
        }
        scheduled
    }

    /// Returns, once for each injected conflict, that a save of this device's state conflicts.
    pub(super) fn take_conflict(&mut self, device_id: &DeviceId) -> bool {
        let found = self.conflicts.iter().position(|id| id == device_id);
        found.map(|i| self.conflicts.swap_remove(i)).is_some()
    }
}

/// The error of a call that met a fault.
pub(super) fn injected_error(operation: Operation) -> StoreError {
    StoreError::Unavailable {
        operation: "memory",
        source: format!("injected fault in {operation:?}").into(),
    }
}
