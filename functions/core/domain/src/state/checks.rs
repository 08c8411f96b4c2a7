//! What did not happen: silence and gaps, and when to look for them.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DevicePolicy, DeviceState, Effect, Hour, PendingRollups};
use crate::alert::{Alert, SEQUENCE_GAP};
use crate::sequence::MissingRange;
use crate::time::Timestamp;

/// What the watchdog's index is rounded to, in seconds: it runs once a minute anyway, and a coarse
/// deadline moves rarely.
const CHECK_STEP_S: i64 = 60;

/// How long effects may wait for the batch that left them, in seconds, before the watchdog carries
/// them out.
const OUTBOX_GRACE_S: i64 = 60;

/// Ranges of missing numbers that an alert names; a hostile device may have hundreds.
const MAX_LISTED_RANGES: usize = 20;

/// The alert that is open because sequence numbers are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapAlert {
    /// Which.
    pub alert_id: Uuid,
    /// What it says is missing.
    pub ranges: String,
    /// When it was raised. What is handled later may have been received before.
    pub raised_at: Timestamp,
    /// How many numbers had been given up when it was raised; see [`crate::sequence::Sequence`].
    pub abandoned_gaps: u64,
}

impl DeviceState {
    /// What the passing of time means, for the watchdog. `offline_detection_enabled` is false while ingest is
    /// behind: then nobody knows who is silent.
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
            // While ingest is behind, what seems missing may be waiting.
            if offline_detection_enabled {
                self.raise_gap_alert(now, policy);
            }
        }
        self.next_check = self.deadline(now, policy).map(|at| round_up(at.max(now.next())));
    }

    /// The device reports every so many seconds from `now` on (none: by default).
    pub fn set_report_interval(
        &mut self,
        interval_s: Option<u32>,
        now: Timestamp,
        policy: &DevicePolicy,
    ) {
        self.report_interval_s = interval_s;
        self.schedule_check(now, policy);
    }

    /// Whether the device counts as silent at `now` if its configuration allows no longer silence.
    pub fn may_be_offline(&self, now: Timestamp, policy: &DevicePolicy) -> bool {
        self.presence.offline_deadline(policy.offline_after_s).is_some_and(|from| from <= now)
    }

    /// These hours were rolled up at `now` from the points as they were at this state's version `as_of`, or
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

    /// Every hour is to be rolled up, from `now` on.
    pub fn invalidate_rollups(&mut self, now: Timestamp, policy: &DevicePolicy) {
        self.pending_rollups = PendingRollups::default();
        if let Some(gap_s) = policy.rollup_gap_s {
            self.pending_rollups.set_max_gap(gap_s, now, self.version + 1);
        }
        self.next_check = self.deadline(now, policy).map(|at| round_up(at.max(now.next())));
    }

    /// Sees to it that the watchdog looks in time. A deadline that is early only costs a look, so it is
    /// left where it is until it is close: moving it with each message would cost two writes of an index
    /// for each.
    pub(super) fn schedule_check(&mut self, at: Timestamp, policy: &DevicePolicy) {
        let wanted = self.deadline(at, policy).map(round_up);
        let close = at.plus_seconds(i64::from(policy.offline_after_s) / 2);
        let keep = match (self.next_check, wanted) {
            (Some(due), Some(wanted)) => due <= wanted && due > close,
            (Some(due), None) => due > at,
            (None, _) => false,
        };
        if !keep {
            self.next_check = wanted;
        }
    }

    /// The earliest time at which something may have to be done that no message will do.
    fn deadline(&self, at: Timestamp, policy: &DevicePolicy) -> Option<Timestamp> {
        let silence = self.presence.offline_deadline(self.offline_timeout_s(policy));
        // A gap that is overdue already stays the reason to look until its alert is open, whatever the
        // device says meanwhile.
        let gap = match self.gap_alert {
            None => self.sequence.first_overdue(policy.gap_grace_s),
            Some(_) => self.sequence.next_overdue(at, policy.gap_grace_s),
        };
        let patience = at.plus_seconds(OUTBOX_GRACE_S);
        let waits = |effect: &Effect| effect.not_before().map_or(patience, |t| t.max(patience));
        let outbox = self.outbox.iter().map(waits).min();
        let rollup = self.pending_rollups.next_due().filter(|_| policy.rollup_gap_s.is_some());
        let cleanup = self.cleanup.map(|cleanup| cleanup.since.plus_seconds(OUTBOX_GRACE_S));
        let alert_rules = self.evaluation.next_check;
        let registered = [silence, gap, alert_rules].into_iter().filter(|_| self.registered);
        registered.chain([outbox, rollup, cleanup]).flatten().min()
    }

    /// Three of the intervals at which the device reports, in seconds, or the least that the operator
    /// allows.
    fn offline_timeout_s(&self, policy: &DevicePolicy) -> u32 {
        let intervals = self.report_interval_s.unwrap_or(0).saturating_mul(3);
        intervals.max(policy.offline_after_s)
    }

    /// Raises the alert for numbers that are missing for too long, or corrects what it says.
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

    /// Ends the alert when what it names has come after all, or corrects what it says.
    pub(super) fn resolve_gap_alert(&mut self, at: Timestamp, policy: &DevicePolicy) {
        let Some(alert) = &mut self.gap_alert else { return };
        let at = at.max(alert.raised_at).max(self.presence.last_seen.unwrap_or(at));
        let overdue = self.sequence.overdue(at, policy.gap_grace_s);
        let alert_id = alert.alert_id;
        if overdue.is_empty() {
            // What was given up never came: the alert stays open, for a person to close.
            let all_came = alert.abandoned_gaps == self.sequence.abandoned_gaps;
            self.gap_alert = None;
            if all_came {
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
    let mut named: Vec<_> =
        missing.iter().take(MAX_LISTED_RANGES).map(ToString::to_string).collect();
    if missing.len() > MAX_LISTED_RANGES {
        named.push(format!("and {} more ranges", missing.len() - MAX_LISTED_RANGES));
    }
    named.join(", ")
}

fn gap_message(ranges: &str) -> String {
    format!("messages have not arrived; missing sequence numbers: {ranges}")
}
