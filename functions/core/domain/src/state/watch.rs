//! What did not happen: silence and gaps, and when to look for them.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DeviceState, Effect, Hour, Rules, Unrolled};
use crate::alert::{Alert, SEQUENCE_GAP};
use crate::sequence::Missing;
use crate::time::Timestamp;

/// What the watchdog's index is rounded to, in seconds: it runs once a minute anyway, and a coarse
/// deadline moves rarely.
const DUE_STEP_S: i64 = 60;

/// How long effects may wait for the batch that left them, in seconds, before the watchdog carries
/// them out.
const OUTBOX_PATIENCE_S: i64 = 60;

/// Ranges of missing numbers that an alert names; a hostile device may have hundreds.
const NAMED_RANGES: usize = 20;

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
    pub given_up: u64,
}

impl DeviceState {
    /// What the passing of time means, for the watchdog. `silence_counts` is false while ingest is
    /// behind: then nobody knows who is silent.
    pub fn watch(&mut self, now: Timestamp, silence_counts: bool, rules: &Rules) {
        if self.registered {
            if silence_counts && let Some(change) = self.presence.silent(now, self.window_s(rules))
            {
                self.follow(change, rules);
            }
            // While ingest is behind, what seems missing may be waiting.
            if silence_counts {
                self.open_gaps(now, rules);
            }
        }
        self.due = self.deadline(now, rules).map(|at| round_up(at.max(now.next())));
    }

    /// The device reports every so many seconds from `now` on (none: by default).
    pub fn report_every(&mut self, interval_s: Option<u32>, now: Timestamp, rules: &Rules) {
        self.report_interval_s = interval_s;
        self.arm(now, rules);
    }

    /// Whether the device counts as silent at `now` if its configuration allows no longer silence.
    pub fn seems_silent(&self, now: Timestamp, rules: &Rules) -> bool {
        self.presence.silent_from(rules.offline_after_s).is_some_and(|from| from <= now)
    }

    /// These hours were rolled up at `now` from the points as they were at this state's version `as_of`, or
    /// later.
    pub fn rolled(&mut self, hours: &Range<Hour>, as_of: u64, now: Timestamp, rules: &Rules) {
        self.unrolled.rolled(hours, as_of);
        self.due = self.deadline(now, rules).map(|at| round_up(at.max(now.next())));
    }

    /// Every hour is to be rolled up, from `now` on.
    pub fn roll_all_up(&mut self, now: Timestamp, rules: &Rules) {
        self.unrolled = Unrolled::default();
        if let Some(gap_s) = rules.rollup_gap_s {
            self.unrolled.expect_gap(gap_s, now, self.version + 1);
        }
        self.due = self.deadline(now, rules).map(|at| round_up(at.max(now.next())));
    }

    /// Sees to it that the watchdog looks in time. A deadline that is early only costs a look, so it is
    /// left where it is until it is close: moving it with each message would cost two writes of an index
    /// for each.
    pub(super) fn arm(&mut self, at: Timestamp, rules: &Rules) {
        let wanted = self.deadline(at, rules).map(round_up);
        let close = at.plus_seconds(i64::from(rules.offline_after_s) / 2);
        let keep = match (self.due, wanted) {
            (Some(due), Some(wanted)) => due <= wanted && due > close,
            (Some(due), None) => due > at,
            (None, _) => false,
        };
        if !keep {
            self.due = wanted;
        }
    }

    /// The earliest time at which something may have to be done that no message will do.
    fn deadline(&self, at: Timestamp, rules: &Rules) -> Option<Timestamp> {
        let silence = self.presence.silent_from(self.window_s(rules));
        // A gap that is overdue already stays the reason to look until its alert is open, whatever the
        // device says meanwhile.
        let gap = match self.gap_alert {
            None => self.sequence.first_overdue(rules.gap_grace_s),
            Some(_) => self.sequence.next_overdue(at, rules.gap_grace_s),
        };
        let patience = at.plus_seconds(OUTBOX_PATIENCE_S);
        let waits = |effect: &Effect| effect.not_before().map_or(patience, |t| t.max(patience));
        let outbox = self.outbox.iter().map(waits).min();
        let rollup = self.unrolled.next_due().filter(|_| rules.rollup_gap_s.is_some());
        let sweep = self.sweep.map(|sweep| sweep.since.plus_seconds(OUTBOX_PATIENCE_S));
        let alert_rules = self.evaluation.due;
        let registered = [silence, gap, alert_rules].into_iter().filter(|_| self.registered);
        registered.chain([outbox, rollup, sweep]).flatten().min()
    }

    /// Three of the intervals at which the device reports, in seconds, or the least that the operator
    /// allows.
    fn window_s(&self, rules: &Rules) -> u32 {
        let intervals = self.report_interval_s.unwrap_or(0).saturating_mul(3);
        intervals.max(rules.offline_after_s)
    }

    /// Raises the alert for numbers that are missing for too long, or corrects what it says.
    fn open_gaps(&mut self, now: Timestamp, rules: &Rules) {
        if self.gap_alert.is_some() {
            return self.close_gaps(now, rules);
        }
        let overdue = self.sequence.overdue(now, rules.gap_grace_s);
        if overdue.is_empty() {
            return;
        }
        let ranges = name_ranges(&overdue);
        let alert = Alert::sequence_gap(&self.device_id, now, &gap_message(&ranges));
        let given_up = self.sequence.given_up;
        self.gap_alert =
            Some(GapAlert { alert_id: alert.alert_id, ranges, raised_at: now, given_up });
        self.tell_of_device(&alert, now, rules);
        self.leave(Effect::OpenAlert { alert });
    }

    /// Ends the alert when what it names has come after all, or corrects what it says.
    pub(super) fn close_gaps(&mut self, at: Timestamp, rules: &Rules) {
        let Some(alert) = &mut self.gap_alert else { return };
        let at = at.max(alert.raised_at).max(self.presence.last_seen.unwrap_or(at));
        let overdue = self.sequence.overdue(at, rules.gap_grace_s);
        let alert_id = alert.alert_id;
        if overdue.is_empty() {
            // What was given up never came: the alert stays open, for a person to close.
            let all_came = alert.given_up == self.sequence.given_up;
            self.gap_alert = None;
            if all_came {
                self.revise(alert_id, Some(at), None);
                let message = format!("all messages of {} have arrived after all", self.device_id);
                self.tell_end((alert_id, SEQUENCE_GAP), (at, 0), message, rules);
            }
            return;
        }
        let ranges = name_ranges(&overdue);
        if alert.ranges != ranges {
            alert.ranges.clone_from(&ranges);
            self.revise(alert_id, None, Some(gap_message(&ranges)));
        }
    }
}

fn round_up(at: Timestamp) -> Timestamp {
    let step = i128::from(DUE_STEP_S) * 1_000_000_000;
    let over = at.as_nanos().rem_euclid(step);
    let up = if over == 0 { 0 } else { step - over };
    Timestamp::from_nanos(at.as_nanos() + up).unwrap_or(at)
}

fn name_ranges(missing: &[Missing]) -> String {
    let mut named: Vec<_> = missing.iter().take(NAMED_RANGES).map(ToString::to_string).collect();
    if missing.len() > NAMED_RANGES {
        named.push(format!("and {} more ranges", missing.len() - NAMED_RANGES));
    }
    named.join(", ")
}

fn gap_message(ranges: &str) -> String {
    format!("messages have not arrived; missing sequence numbers: {ranges}")
}
