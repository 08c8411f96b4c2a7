//! What a batch came to, for the operator.

use std::collections::HashSet;
use std::ops::AddAssign;

use meter_domain::id::Mid;
use meter_domain::state::DeviceState;
use meter_store::with_causes;

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
    /// Samples that are older than the metric store takes any.
    pub too_late: usize,
    /// Records of the metric store that gave way to those of a message with a greater claim.
    pub superseded: usize,
    /// Sequence numbers seen before.
    pub repeats: usize,
    /// Sequence numbers that came after a higher one.
    pub late: usize,
    /// New power-ons.
    pub restarts: usize,
    /// Samples that alert rules could not judge any more, since they had judged later ones; repeats included.
    pub judged_late: usize,
    /// Writes of a state that lost its lock.
    pub conflicts: usize,
}

impl Counts {
    /// The metrics' names and values.
    pub fn named(&self) -> [(&'static str, usize); 14] {
        [
            ("MessagesReceived", self.received),
            ("MessagesStored", self.stored),
            ("MessagesDoubled", self.doubled),
            ("MessagesQuarantined", self.quarantined),
            ("MessagesFailed", self.failed),
            ("MessagesUnregistered", self.unregistered),
            ("MetricsRefused", self.metrics_refused),
            ("MetricsTooLate", self.too_late),
            ("MetricsSuperseded", self.superseded),
            ("SequenceRepeats", self.repeats),
            ("SequenceLate", self.late),
            ("DeviceRestarts", self.restarts),
            ("RuleSamplesLate", self.judged_late),
            ("StateConflicts", self.conflicts),
        ]
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        // Each by its name, so that the compiler knows of one that is forgotten.
        let Self {
            received,
            stored,
            doubled,
            quarantined,
            failed,
            unregistered,
            metrics_refused,
            too_late,
            superseded,
            repeats,
            late,
            restarts,
            judged_late,
            conflicts,
        } = other;
        self.received += received;
        self.stored += stored;
        self.doubled += doubled;
        self.quarantined += quarantined;
        self.failed += failed;
        self.unregistered += unregistered;
        self.metrics_refused += metrics_refused;
        self.too_late += too_late;
        self.superseded += superseded;
        self.repeats += repeats;
        self.late += late;
        self.restarts += restarts;
        self.judged_late += judged_late;
        self.conflicts += conflicts;
    }
}

impl Counts {
    pub(super) fn add(&mut self, before: &DeviceState, after: &DeviceState) {
        let more = |after: u64, before: u64| usize::try_from(after - before).unwrap_or(usize::MAX);
        self.metrics_refused += more(after.metrics_refused, before.metrics_refused);
        self.repeats += more(after.sequence.repeats, before.sequence.repeats);
        self.late += more(after.sequence.late, before.sequence.late);
        self.restarts += more(after.sequence.restarts, before.sequence.restarts);
        // It begins anew where no rule has anything to remember.
        self.judged_late +=
            more(after.evaluation.late.max(before.evaluation.late), before.evaluation.late);
    }
}

/// What has failed so far, and counts.
#[derive(Default)]
pub(super) struct Run {
    pub(super) failed: HashSet<Mid>,
    pub(super) counts: Counts,
}

impl Run {
    pub(super) fn fail(
        &mut self,
        doing: &str,
        mids: impl Iterator<Item = Mid>,
        error: &(dyn std::error::Error + 'static),
    ) {
        let before = self.failed.len();
        self.failed.extend(mids);
        let messages = self.failed.len() - before;
        tracing::error!(
            messages,
            error = with_causes(error),
            "{doing} failed; the messages come again"
        );
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.failed.extend(other.failed);
        self.counts += other.counts;
    }
}
