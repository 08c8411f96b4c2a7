//! What a batch came to, for the operator.

use std::collections::HashSet;
use std::ops::AddAssign;

use meter_domain::id::MessageId;
use meter_domain::state::DeviceState;
use meter_store::error_chain;

/// What an operator counts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct BatchCounts {
    /// Deliveries.
    pub received: usize,
    /// Distinct messages stored.
    pub stored: usize,
    /// Deliveries beyond the first of the same message in this batch.
    pub redelivered: usize,
    /// Distinct messages put in quarantine.
    pub quarantined: usize,
    /// Deliveries that must come again.
    pub failed: usize,
    /// Messages of devices that are not registered.
    pub unregistered: usize,
    /// Samples refused because their device has too many different metrics.
    pub samples_rejected: usize,
    /// Samples that are older than the metric store takes any.
    pub outside_retention: usize,
    /// Records of the metric store that gave way to those of a message with a greater claim.
    pub superseded: usize,
    /// Sequence numbers seen before.
    pub duplicates: usize,
    /// Sequence numbers that came after a higher one.
    pub out_of_order: usize,
    /// New power-ons.
    pub restarts: usize,
    /// Samples that alert rules could not judge any more, since they had judged later ones; duplicates included.
    pub late_samples: usize,
    /// Writes of a state that lost its lock.
    pub conflicts: usize,
}

impl BatchCounts {
    /// The metrics' names and values.
    pub fn metrics(&self) -> [(&'static str, usize); 14] {
        [
            ("MessagesReceived", self.received),
            ("MessagesStored", self.stored),
            ("MessagesRedelivered", self.redelivered),
            ("MessagesQuarantined", self.quarantined),
            ("MessagesFailed", self.failed),
            ("MessagesFromUnregisteredDevices", self.unregistered),
            ("SamplesRejected", self.samples_rejected),
            ("SamplesOutsideRetention", self.outside_retention),
            ("RecordsSuperseded", self.superseded),
            ("SequenceDuplicates", self.duplicates),
            ("SequenceOutOfOrder", self.out_of_order),
            ("DeviceRestarts", self.restarts),
            ("RuleSamplesLate", self.late_samples),
            ("StateConflicts", self.conflicts),
        ]
    }
}

impl AddAssign for BatchCounts {
    fn add_assign(&mut self, other: Self) {
        // Each by its name, so that the compiler knows of one that is forgotten.
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
    }
}

impl BatchCounts {
    pub(super) fn add(&mut self, before: &DeviceState, after: &DeviceState) {
        let more = |after: u64, before: u64| usize::try_from(after - before).unwrap_or(usize::MAX);
        self.samples_rejected += more(after.samples_rejected, before.samples_rejected);
        self.duplicates += more(after.sequence.repeats, before.sequence.repeats);
        self.out_of_order += more(after.sequence.late, before.sequence.late);
        self.restarts += more(after.sequence.restarts, before.sequence.restarts);
        // It begins anew where no rule has anything to remember.
        self.late_samples +=
            more(after.evaluation.late.max(before.evaluation.late), before.evaluation.late);
    }
}

/// What has failed so far, and counts.
#[derive(Default)]
pub(super) struct BatchProgress {
    pub(super) failed: HashSet<MessageId>,
    pub(super) counts: BatchCounts,
}

impl BatchProgress {
    pub(super) fn fail(
        &mut self,
        doing: &str,
        message_ids: impl Iterator<Item = MessageId>,
        error: &(dyn std::error::Error + 'static),
    ) {
        let before = self.failed.len();
        self.failed.extend(message_ids);
        let messages = self.failed.len() - before;
        tracing::error!(
            messages,
            error = error_chain(error),
            "{doing} failed; the messages come again"
        );
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.failed.extend(other.failed);
        self.counts += other.counts;
    }
}
