//! Registration, deletion and purge of a device (docs/adr/0021, docs/adr/0022).
//!
//! The states are: unregistered, registered, and deleted with a cleanup whose purge passes through
//! the stages of [`PurgeStage`]. Invariants: a registered device has no cleanup; an unregistered
//! device has an empty outbox; the stage of a cleanup advances, except that a new purge request
//! repeats the search of the archive; `purged_at` never decreases.

use serde::{Deserialize, Serialize};

use super::{DevicePolicy, DeviceState, Evaluation, Outbox};
use crate::time::Timestamp;

/// The cleanup of a deleted device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCleanup {
    /// Time of the deletion. The cleanup is due from then on and is not postponed by messages.
    pub since: Timestamp,
    /// Progress of the removal of messages and archived data.
    pub purge: PurgeStage,
}

/// Progress of a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PurgeStage {
    /// Messages and archived data are kept.
    NotRequested,
    /// No message has been removed yet.
    Requested,
    /// Messages are removed in the order of device time.
    RemovingMessages {
        /// Messages before this time are removed.
        purged_before: Timestamp,
    },
    /// No message is left in the index. The archive is searched for messages without an index
    /// entry.
    SearchingArchive {
        /// Messages before this time are removed.
        purged_before: Timestamp,
        /// Objects received before this time are searched.
        searched_before: Timestamp,
    },
}

impl PurgeStage {
    /// Whether messages and archived data are removed.
    pub fn is_requested(self) -> bool {
        self != Self::NotRequested
    }

    /// The stage after a request: a removal continues, and a search is repeated.
    fn requested(self) -> Self {
        match self {
            Self::NotRequested | Self::Requested => Self::Requested,
            Self::RemovingMessages { purged_before }
            | Self::SearchingArchive { purged_before, .. } => {
                Self::RemovingMessages { purged_before }
            }
        }
    }

    /// The stage after messages before a time were removed.
    fn removed(self, before: Timestamp) -> Self {
        match self {
            Self::NotRequested => self,
            Self::Requested => Self::RemovingMessages { purged_before: before },
            Self::RemovingMessages { purged_before } => {
                Self::RemovingMessages { purged_before: purged_before.max(before) }
            }
            Self::SearchingArchive { purged_before, searched_before } => {
                let purged_before = purged_before.max(before);
                Self::SearchingArchive { purged_before, searched_before }
            }
        }
    }

    /// The stage after objects that were received before a time were searched.
    fn searched(self, before: Timestamp) -> Self {
        match self {
            Self::NotRequested | Self::Requested => self,
            Self::RemovingMessages { purged_before } => {
                Self::SearchingArchive { purged_before, searched_before: before }
            }
            Self::SearchingArchive { purged_before, searched_before } => {
                let searched_before = searched_before.max(before);
                Self::SearchingArchive { purged_before, searched_before }
            }
        }
    }
}

impl DeviceState {
    /// Applies the registration of the device at `at`. Ends a cleanup.
    pub fn register(&mut self, at: Timestamp, policy: &DevicePolicy) {
        self.registered = true;
        self.cleanup = None;
        self.schedule_check(at, policy);
    }

    /// Applies the deletion of the device at `at` and starts its cleanup. `purge` removes messages
    /// and archived data as well.
    pub fn mark_deleted(&mut self, at: Timestamp, purge: bool, policy: &DevicePolicy) {
        self.registered = false;
        self.device_type = None;
        self.evaluation = Evaluation::default();
        self.outbox = Outbox::default();
        self.presence.alert = None;
        self.gap_alert = None;
        self.upgrade = None;
        self.report_interval_s = None;
        self.cleanup = Some(DeviceCleanup { since: at, purge: PurgeStage::NotRequested });
        self.next_check = None;
        if purge {
            self.request_purge(at, policy);
        }
        self.schedule_check(at, policy);
    }

    /// Applies a purge request at `at`, if the device is not registered.
    pub fn request_purge(&mut self, at: Timestamp, policy: &DevicePolicy) {
        if self.registered {
            return;
        }
        let cleanup = DeviceCleanup { since: at, purge: PurgeStage::NotRequested };
        let cleanup = self.cleanup.get_or_insert(cleanup);
        cleanup.purge = cleanup.purge.requested();
        self.purged_at = self.purged_at.max(Some(at));
        self.schedule_check(at, policy);
    }

    /// Records that messages before `before` are removed by the cleanup that started at `since`.
    /// The first call also resets everything that is derived from messages; later messages start
    /// from an empty state.
    pub fn record_purged_before(&mut self, since: Timestamp, before: Timestamp) {
        let Some(cleanup) = self.cleanup_since(since) else { return };
        let is_first = cleanup.purge == PurgeStage::Requested;
        cleanup.purge = cleanup.purge.removed(before);
        if is_first {
            *self = Self {
                version: self.version,
                cleanup: self.cleanup,
                next_check: self.next_check,
                purged_at: self.purged_at,
                ..Self::new(self.device_id.clone())
            };
        }
    }

    /// Records that objects received before `before` have been searched by the cleanup that started
    /// at `since`.
    pub fn record_searched_before(&mut self, since: Timestamp, before: Timestamp) {
        if let Some(cleanup) = self.cleanup_since(since) {
            cleanup.purge = cleanup.purge.searched(before);
        }
    }

    /// Completes the cleanup that started at `since`, unless the device was registered again
    /// meanwhile or a purge was requested that this cleanup did not include.
    pub fn complete_cleanup(&mut self, since: Timestamp, purged: bool) {
        if self.cleanup_since(since).is_some_and(|cleanup| purged || !cleanup.purge.is_requested())
        {
            self.cleanup = None;
            self.next_check = None;
        }
    }

    /// The cleanup, if it started at `since` and not with a later deletion.
    fn cleanup_since(&mut self, since: Timestamp) -> Option<&mut DeviceCleanup> {
        self.cleanup.as_mut().filter(|cleanup| cleanup.since == since)
    }
}

#[cfg(test)]
mod tests;
