//! Checks of silence and sequence gaps by the watchdog, and the deadline of the next check
//! (docs/adr/0014).

use std::ops::Range;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DevicePolicy, DeviceState, Effect, Hour, PendingRollups};
use crate::alert::{Alert, SEQUENCE_GAP};
use crate::sequence::MissingRange;
use crate::time::Timestamp;

/// Rounding of deadlines in seconds. The watchdog runs once a minute, and a coarse deadline changes
/// rarely.
const CHECK_STEP_S: i64 = 60;

/// Seconds after which the watchdog executes effects that the batch that enqueued them did not.
const OUTBOX_GRACE_S: i64 = 60;

/// Maximum number of ranges in the text of an alert; a device can cause hundreds.
const MAX_LISTED_RANGES: usize = 20;

/// The open alert for missing sequence numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapAlert {
    /// Id of the alert.
    pub alert_id: Uuid,
    /// Missing ranges in the text of the alert.
    pub ranges: String,
    /// Time of the opening. Messages received before it may be applied later.
    pub raised_at: Timestamp,
    /// Number of abandoned gaps at the opening; see [`crate::sequence::Sequence`].
    pub abandoned_gaps: u64,
}

impl DeviceState {
    /// Applies the passing of time. `offline_detection_enabled` is false while ingest is behind,
    /// because messages of a silent device may then be in the queue.
    pub fn check(
        &mut self,
        now: Timestamp,
        offline_detection_enabled: bool,
        policy: &DevicePolicy,
    ) {
        if self.registered {
            if offline_detection_enabled
                && let Some(change) =
                    self.presence.detect_offline(now, self.offline_timeout_s(policy))
            {
                self.apply_connection_change(change, policy);
            }
            if offline_detection_enabled {
                self.raise_gap_alert(now, policy);
            }
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
            self.pending_rollups.set_max_gap(gap_s, now, self.version + 1);
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

    /// Opens the alert for overdue gaps, or updates it.
    fn raise_gap_alert(&mut self, now: Timestamp, policy: &DevicePolicy) {
        if self.gap_alert.is_some() {
            return self.resolve_gap_alert(now, policy);
        }
        let overdue = self.sequence.overdue(now, policy.gap_grace_s);
        if overdue.is_empty() {
            return;
        }
        let ranges = format_ranges(&overdue);
        let alert = Alert::sequence_gap(&self.device_id, now, &gap_message(&ranges));
        let abandoned_gaps = self.sequence.abandoned_gaps;
        self.gap_alert =
            Some(GapAlert { alert_id: alert.alert_id, ranges, raised_at: now, abandoned_gaps });
        self.notify_device_alert(&alert, now, policy);
        self.enqueue_effect(Effect::OpenAlert { alert });
    }

    /// Resolves the gap alert if all of its messages have arrived, or updates its text.
    pub(super) fn resolve_gap_alert(&mut self, at: Timestamp, policy: &DevicePolicy) {
        let Some(alert) = &mut self.gap_alert else { return };
        let at = at.max(alert.raised_at).max(self.presence.last_seen.unwrap_or(at));
        let overdue = self.sequence.overdue(at, policy.gap_grace_s);
        let alert_id = alert.alert_id;
        if overdue.is_empty() {
            // Abandoned gaps were not filled: the alert stays open, and a person closes it.
            let all_arrived = alert.abandoned_gaps == self.sequence.abandoned_gaps;
            self.gap_alert = None;
            if all_arrived {
                self.enqueue_alert_revision(alert_id, Some(at), None);
                let message = format!("all missing messages of {} have arrived", self.device_id);
                self.notify_resolved((alert_id, SEQUENCE_GAP), (at, 0), message, policy);
            }
            return;
        }
        let ranges = format_ranges(&overdue);
        if alert.ranges != ranges {
            alert.ranges.clone_from(&ranges);
            self.enqueue_alert_revision(alert_id, None, Some(gap_message(&ranges)));
        }
    }
}

fn round_up(at: Timestamp) -> Timestamp {
    let step = i128::from(CHECK_STEP_S) * 1_000_000_000;
    let over = at.as_nanos().rem_euclid(step);
    let up = if over == 0 { 0 } else { step - over };
    Timestamp::from_nanos(at.as_nanos() + up).unwrap_or(at)
}

fn format_ranges(missing: &[MissingRange]) -> String {
    let mut listed: Vec<_> =
        missing.iter().take(MAX_LISTED_RANGES).map(ToString::to_string).collect();
    if missing.len() > MAX_LISTED_RANGES {
        listed.push(format!("and {} more ranges", missing.len() - MAX_LISTED_RANGES));
    }
    listed.join(", ")
}

fn gap_message(ranges: &str) -> String {
    format!("messages have not arrived; missing sequence numbers: {ranges}")
}
