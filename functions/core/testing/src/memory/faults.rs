//! Failures on demand.

use std::collections::{BTreeSet, HashMap, HashSet};

use meter_domain::id::{DeviceId, Mid};
use meter_store::StoreError;

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused and does nothing.
    Refuse,
    /// It is done, and the answer is lost on the way.
    LoseAnswer,
}

/// The calls of the ports; each is the method of a port, documented there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    PutObject,
    GetObject,
    OpenObject,
    ReplaceObject,
    RemoveObject,
    ListObjects,
    PutParts,
    ListDays,
    ReadParts,
    GetHead,
    RemoveParts,
    PutRollup,
    ReadCells,
    SweepRollups,
    PutQuarantined,
    ListQuarantined,
    GetQuarantined,
    GetStates,
    SaveStates,
    DueStates,
    NoteProgress,
    GetProgress,
    GetDepth,
    CreateDevice,
    GetDevice,
    UpdateDevice,
    ListDevices,
    BuryDevice,
    IsBuried,
    ForgetDevice,
    CountDevices,
    Recount,
    OpenAlert,
    ListAlerts,
    AcknowledgeAlert,
    ReviseAlert,
    SweepAlerts,
    CountAlerts,
    CreateCommand,
    GetCommand,
    DueCommands,
    ClaimCommand,
    PostponeCommand,
    TimeOutCommand,
    NotePublished,
    DeviceOfCommand,
    ListCommands,
    FinishCommand,
    AdvanceOta,
    SweepCommands,
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

/// What a call must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Proceed,
    Refuse,
    LoseAnswer,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    calls: HashMap<Operation, usize>,
    all_calls: usize,
    /// By the number of the call.
    scheduled: HashMap<(Operation, usize), Fault>,
    always: HashSet<Operation>,
    all_after: Option<usize>,
    pub(super) refused: BTreeSet<Mid>,
    pub(super) conflicts: Vec<DeviceId>,
}

impl Faults {
    pub(super) fn at(&mut self, operation: Operation, nth: usize, fault: Fault) {
        let call = self.calls(operation) + nth;
        self.scheduled.insert((operation, call), fault);
    }

    pub(super) fn always(&mut self, operation: Operation) {
        self.always.insert(operation);
    }

    pub(super) fn all_after(&mut self, calls: usize) {
        self.all_after = Some(self.all_calls + calls);
    }

    pub(super) fn heal(&mut self) {
        *self = Self {
            calls: std::mem::take(&mut self.calls),
            all_calls: self.all_calls,
            ..Self::default()
        };
    }

    pub(super) fn calls(&self, operation: Operation) -> usize {
        self.calls.get(&operation).copied().unwrap_or(0)
    }

    /// Counts a call and says what it must do.
    pub(super) fn verdict(&mut self, operation: Operation) -> Verdict {
        self.all_calls += 1;
        let count = self.calls.entry(operation).or_default();
        *count += 1;
        let scheduled = self.scheduled.remove(&(operation, *count));
        let dead = self.all_after.is_some_and(|last| self.all_calls > last);
        match scheduled {
            _ if dead || self.always.contains(&operation) => Verdict::Refuse,
            Some(Fault::Refuse) => Verdict::Refuse,
            Some(Fault::LoseAnswer) => Verdict::LoseAnswer,
            None => Verdict::Proceed,
        }
    }

    /// Whether the save of this device's state must conflict, this once.
    pub(super) fn takes_conflict(&mut self, device_id: &DeviceId) -> bool {
        let found = self.conflicts.iter().position(|id| id == device_id);
        found.map(|i| self.conflicts.swap_remove(i)).is_some()
    }
}

/// What a call that went wrong answers.
pub(super) fn error(operation: Operation) -> StoreError {
    StoreError::Unavailable {
        operation: "memory",
        source: format!("{operation:?} fails because a test wants it to").into(),
    }
}
