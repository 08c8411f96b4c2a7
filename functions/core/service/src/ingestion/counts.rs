//! The counts of a batch.

use std::collections::{BTreeMap, HashSet};
use std::ops::AddAssign;

use meter_domain::id::MessageId;
use meter_domain::state::DeviceState;
use meter_store::{BatchWriteError, StoreError, error_chain};

/// The counts of a batch.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct BatchCounts {
    /// Deliveries.
    pub received: usize,
    /// Distinct messages that were stored.
    pub stored: usize,
    /// Deliveries beyond the first one of each message.
    pub redelivered: usize,
    /// Distinct messages that were quarantined.
    pub quarantined: usize,
    /// Deliveries that failed and are redelivered.
    pub failed: usize,
    /// Messages of unregistered devices.
    pub unregistered: usize,
    /// Samples that were rejected because their device has too many metrics.
    pub samples_rejected: usize,
    /// Samples that are older than the retention of the metric store.
    pub outside_retention: usize,
    /// Records of the metric store that were superseded by a message with precedence.
    pub superseded: usize,
    /// Sequence numbers that were received before.
    pub duplicates: usize,
    /// Sequence numbers that were received after a higher one.
    pub out_of_order: usize,
    /// Restarts of devices.
    pub restarts: usize,
    /// Samples that alert rules ignored because they had evaluated later ones, duplicates included.
    pub late_samples: usize,
    /// Writes of states that conflicted.
    pub conflicts: usize,
    /// Store operations that fail for every message until an operator intervenes.
    pub misconfigured: usize,
}

impl AddAssign for BatchCounts {
    fn add_assign(&mut self, other: Self) {
        // Destructured, so that a new count that is not added here does not compile.
        let Self {
            received,
            stored,
            redelivered,
            quarantined,
            failed,
            unregistered,
            samples_rejected,
            outside_retention,
            superseded,
            duplicates,
            out_of_order,
            restarts,
            late_samples,
            conflicts,
            misconfigured,
        } = other;
        self.received += received;
        self.stored += stored;
        self.redelivered += redelivered;
        self.quarantined += quarantined;
        self.failed += failed;
        self.unregistered += unregistered;
        self.samples_rejected += samples_rejected;
        self.outside_retention += outside_retention;
        self.superseded += superseded;
        self.duplicates += duplicates;
        self.out_of_order += out_of_order;
        self.restarts += restarts;
        self.late_samples += late_samples;
        self.conflicts += conflicts;
        self.misconfigured += misconfigured;
    }
}

impl BatchCounts {
    /// Adds what a batch has changed in the counts of a device state.
    pub(super) fn add(&mut self, before: &DeviceState, after: &DeviceState) {
        let more = |after: u64, before: u64| usize::try_from(after - before).unwrap_or(usize::MAX);
        self.samples_rejected += more(after.samples_rejected, before.samples_rejected);
        self.duplicates += more(after.sequence.repeats, before.sequence.repeats);
        self.out_of_order += more(after.sequence.late, before.sequence.late);
        self.restarts += more(after.sequence.restarts, before.sequence.restarts);
        // The count starts at zero again when no rule applies to the device.
        self.late_samples +=
            more(after.evaluation.late.max(before.evaluation.late), before.evaluation.late);
    }
}

/// The messages of a batch that have failed so far, and its counts.
#[derive(Default)]
pub(super) struct BatchProgress {
    pub(super) failed: HashSet<MessageId>,
    /// The failed messages that can never be stored, with the reason.
    pub(super) invalid: BTreeMap<MessageId, String>,
    pub(super) counts: BatchCounts,
}

impl BatchProgress {
    /// Records and logs that messages have failed.
    pub(super) fn fail(
        &mut self,
        action: &str,
        message_ids: impl Iterator<Item = MessageId>,
        error: &(dyn std::error::Error + 'static),
    ) {
        let before = self.failed.len();
        self.failed.extend(message_ids);
        let messages = self.failed.len() - before;
        self.counts.misconfigured += usize::from(StoreError::is_misconfigured(error));
        tracing::error!(messages, error = error_chain(error), "{action} failed");
    }

    /// Records and logs the failures of a batch of writes.
    pub(super) fn fail_batch(&mut self, action: &str, error: &BatchWriteError) {
        self.fail(action, error.failed.iter().copied(), error);
        self.invalid.extend(error.invalid.clone());
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.failed.extend(other.failed);
        self.invalid.extend(other.invalid);
        self.counts += other.counts;
    }
}
