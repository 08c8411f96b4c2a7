//! The alert for missing sequence numbers.
//!
//! Invariants: a device has at most one open gap alert. Its text lists the overdue gaps. It is
//! resolved when all of them are filled, and left to a person if one was abandoned.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DevicePolicy, DeviceState, Effect};
use crate::alert::{Alert, SEQUENCE_GAP};
use crate::sequence::MissingRange;
use crate::time::Timestamp;

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
    /// Opens the alert for overdue gaps, or updates it.
    pub(super) fn raise_gap_alert(&mut self, now: Timestamp, policy: &DevicePolicy) {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::message::Message;
    use crate::state::fixtures::{POLICY, after, alert_effects, message, registered, second};
    use crate::state::{Connection, Outbox};

    /// A telemetry message with a sequence number, received at second `s`.
    fn numbered(s: i64, seq: i64) -> Message {
        message(s, "telemetry", json!({"seq": seq, "measurements": [{"type": "pf", "val": seq}]}))
    }

    #[test]
    fn overdue_gap_opens_one_alert_that_late_messages_resolve() {
        let mut state = after(&[numbered(0, 1), numbered(1, 5), numbered(2, 9)]);
        state.outbox = Outbox::default();
        state.check(second(61), true, &POLICY);
        let [Effect::OpenAlert { alert }] = &state.outbox[..] else { panic!("{:?}", state.outbox) };
        assert_eq!(alert.alert_type, "sequence_gap");
        assert_eq!(alert.message, "messages have not arrived; missing sequence numbers: 2 to 4");
        state.outbox = Outbox::default();
        state.presence.connection = Connection::Unknown;
        state.check(second(62), true, &POLICY);
        let [Effect::ReviseAlert { revision, .. }] = &state.outbox[..] else {
            panic!("{:?}", state.outbox)
        };
        let text = "messages have not arrived; missing sequence numbers: 2 to 4, 6 to 8";
        assert_eq!(revision.message.as_deref(), Some(text));
        state.outbox = Outbox::default();
        let late: Vec<_> = [3, 8, 2, 7, 4, 6].iter().map(|seq| numbered(90, *seq)).collect();
        state.apply(&late.iter().collect::<Vec<_>>(), &POLICY);
        let [(_, Some(resolved))] = alert_effects(&state)[..] else { panic!("{:?}", state.outbox) };
        assert_eq!((resolved, state.gap_alert.clone()), (Some(second(90)), None));
    }

    #[test]
    fn gap_alert_opens_at_any_message_interval() {
        for interval in [1, 5, 10, 20, 29, 31, 45] {
            let mut state = registered();
            let mut seq = 0;
            let mut opened = 0;
            for s in 0..600_i64 {
                if s % interval == 0 {
                    seq += if s / interval == 3 { 2 } else { 1 };
                    let fields = json!({"seq": seq, "measurements": [{"type": "pf", "val": 1}]});
                    state.apply(&[&message(s, "telemetry", fields)], &POLICY);
                }
                // The watchdog runs once a minute, at second 7.
                if s % 60 == 7 && state.next_check.is_some_and(|due| due <= second(s)) {
                    state.check(second(s), true, &POLICY);
                }
                opened +=
                    alert_effects(&state).iter().filter(|(_, revised)| revised.is_none()).count();
                state.outbox = Outbox::default();
            }
            assert_eq!(opened, 1, "every {interval} s");
        }
    }

    #[test]
    fn message_received_before_the_gap_alert_does_not_resolve_it() {
        let mut state = after(&[numbered(10, 4), numbered(11, 6), numbered(12, 10)]);
        state.check(second(100), true, &POLICY);
        state.outbox = Outbox::default();
        state.apply(&[&numbered(0, 5)], &POLICY);
        let [(_, Some(resolved))] = alert_effects(&state)[..] else { panic!("{:?}", state.outbox) };
        assert_eq!((resolved, state.gap_alert.is_some()), (None, true), "9 is still missing");
    }

    #[test]
    fn gap_alert_does_not_open_while_ingest_is_behind() {
        let mut state = after(&[numbered(0, 1), numbered(1, 5)]);
        state.outbox = Outbox::default();
        state.check(second(100), false, &POLICY);
        assert_eq!((alert_effects(&state), state.next_check), (vec![], Some(second(120))));
    }

    #[test]
    fn alert_for_an_abandoned_gap_is_not_resolved() {
        let booted = |s: i64, seq: i64, boot: i64| {
            let fields =
                json!({"seq": seq, "boot": boot, "measurements": [{"type": "pf", "val": 1}]});
            message(s, "telemetry", fields)
        };
        let mut state = after(&[booted(0, 1, 0), booted(1, 5, 0)]);
        state.presence.connection = Connection::Unknown;
        state.check(second(61), true, &POLICY);
        assert!(state.gap_alert.is_some());
        state.outbox = Outbox::default();
        let reboots: Vec<_> = (1..=4).map(|boot| booted(70 + boot, 0, boot)).collect();
        state.apply(&reboots.iter().collect::<Vec<_>>(), &POLICY);
        assert_eq!((alert_effects(&state), state.gap_alert.clone()), (vec![], None));
    }
}
