//! Checks of silence and sequence gaps by the watchdog, and the deadline of the next check
//! (docs/adr/0014).

use std::ops::Range;

use super::{DevicePolicy, DeviceState, Effect, Hour, PendingRollups};
use crate::time::Timestamp;

/// Rounding of deadlines in seconds. The watchdog runs once a minute, and a coarse deadline changes
/// rarely.
const CHECK_STEP_S: i64 = 60;

/// Seconds after which the watchdog executes effects that the batch that enqueued them did not.
const OUTBOX_GRACE_S: i64 = 60;

impl DeviceState {
    /// Applies the passing of time. `offline_detection_enabled` is false while ingest is behind,
    /// because messages of a silent device may then be in the queue.
    pub fn check(
        &mut self,
        now: Timestamp,
        offline_detection_enabled: bool,
        policy: &DevicePolicy,
    ) {
        if self.registered && offline_detection_enabled {
            let timeout_s = self.offline_timeout_s(policy);
            if let Some(change) = self.presence.detect_offline(now, timeout_s) {
                self.apply_connection_change(change, policy);
            }
            self.raise_gap_alert(now, policy);
        }
        self.next_check = self.deadline(now, policy).map(|at| round_up(at.max(now.next())));
    }

    /// Sets the report interval of the device from `now` on (`None`: the default).
    pub fn set_report_interval(
        &mut self,
        interval_s: Option<u32>,
        now: Timestamp,
        policy: &DevicePolicy,
    ) {
        self.report_interval_s = interval_s;
        self.schedule_check(now, policy);
    }

    /// Whether the device is silent at `now` for longer than the shortest timeout, that of a device
    /// with default configuration.
    pub fn may_be_offline(&self, now: Timestamp, policy: &DevicePolicy) -> bool {
        self.presence.offline_deadline(policy.offline_after_s).is_some_and(|from| from <= now)
    }

    /// Removes hours that were rolled up at `now` from points as of the state version `as_of` or
    /// later.
    pub fn mark_rolled_up(
        &mut self,
        hours: &Range<Hour>,
        as_of: u64,
        now: Timestamp,
        policy: &DevicePolicy,
    ) {
        self.pending_rollups.mark_rolled_up(hours, as_of);
        self.next_check = self.deadline(now, policy).map(|at| round_up(at.max(now.next())));
    }

    /// Marks every hour as pending, from `now` on.
    pub fn invalidate_rollups(&mut self, now: Timestamp, policy: &DevicePolicy) {
        self.pending_rollups = PendingRollups::default();
        if let Some(gap_s) = policy.rollup_gap_s {
            self.pending_rollups.mark([], now, self.version + 1, (gap_s, 0));
        }
        self.next_check = self.deadline(now, policy).map(|at| round_up(at.max(now.next())));
    }

    /// Sets the deadline of the next check. An early deadline only costs one read, so an existing
    /// one is kept until it is close: moving it with each message would cost two index writes for
    /// each message.
    pub(super) fn schedule_check(&mut self, at: Timestamp, policy: &DevicePolicy) {
        let deadline = self.deadline(at, policy).map(round_up);
        let close = at.plus_seconds(i64::from(policy.offline_after_s) / 2);
        let keep = match (self.next_check, deadline) {
            (Some(due), Some(deadline)) => due <= deadline && due > close,
            (Some(due), None) => due > at,
            (None, _) => false,
        };
        if !keep {
            self.next_check = deadline;
        }
    }

    /// The earliest time at which the state changes without a message.
    fn deadline(&self, at: Timestamp, policy: &DevicePolicy) -> Option<Timestamp> {
        let silence = self.presence.offline_deadline(self.offline_timeout_s(policy));
        // An overdue gap remains the deadline until its alert is open, even if further messages
        // arrive.
        let gap = match self.gap_alert {
            None => self.sequence.first_overdue(policy.gap_grace_s),
            Some(_) => self.sequence.next_overdue(at, policy.gap_grace_s),
        };
        let grace_end = at.plus_seconds(OUTBOX_GRACE_S);
        let waits = |effect: &Effect| effect.not_before().map_or(grace_end, |t| t.max(grace_end));
        let outbox = self.outbox.iter().map(waits).min();
        let rollup = self.pending_rollups.next_due().filter(|_| policy.rollup_gap_s.is_some());
        let cleanup = self.cleanup.map(|cleanup| cleanup.since.plus_seconds(OUTBOX_GRACE_S));
        let alert_rules = self.evaluation.next_check;
        let registered = [silence, gap, alert_rules].into_iter().filter(|_| self.registered);
        registered.chain([outbox, rollup, cleanup]).flatten().min()
    }

    /// Offline timeout in seconds: three report intervals, but not less than the policy requires.
    fn offline_timeout_s(&self, policy: &DevicePolicy) -> u32 {
        let intervals = self.report_interval_s.unwrap_or(0).saturating_mul(3);
        intervals.max(policy.offline_after_s)
    }
}

fn round_up(at: Timestamp) -> Timestamp {
    let step = i128::from(CHECK_STEP_S) * 1_000_000_000;
    let over = at.as_nanos().rem_euclid(step);
    let up = if over == 0 { 0 } else { step - over };
    Timestamp::from_nanos(at.as_nanos() + up).unwrap_or(at)
}
