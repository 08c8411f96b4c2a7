//! How far one rule is with one device: the machine that a series of judgements drives.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::alert::Severity;
use crate::id::{DeviceId, event_id};
use crate::time::Timestamp;

/// What a value is to a rule. Never both; neither is within the hysteresis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConditionResult {
    /// It is what the rule is about.
    pub raises: bool,
    /// It ends an alert.
    pub clears: bool,
}

/// How long a rule waits, in seconds of the device's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleTiming {
    /// From the first value that raises, without one that does not, to the alert.
    pub for_s: u32,
    /// For so long after its end an alert is reopened in place of another.
    pub hold_down_s: u32,
}

/// What a result changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertTransition {
    /// An alert begins; its cause began at this time.
    Opened(Timestamp),
    /// The last alert goes on.
    Reopened,
    /// The alert ends.
    Resolved,
}

/// How far a rule is with a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleState {
    /// Of the rule, when it was judged last.
    pub version: u64,
    /// Every value since this one raised, and there is no alert yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_since: Option<Timestamp>,
    /// The last alert, open or not; the one after it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<ActiveAlert>,
}

/// An alert of a rule on a device. What it was raised as stays, whatever becomes of the rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveAlert {
    /// When its cause began, by the device's clock; for silence, when the last word was received.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
    /// What people were told of its beginning, since they are to be told of its end likewise; set by who tells them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notified: Option<NotifiedAlert>,
}

/// What people were told of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifiedAlert {
    /// Of which type.
    pub alert_type: String,
    /// How bad.
    pub severity: Severity,
    /// The rule's name then.
    pub rule_name: String,
}

impl ActiveAlert {
    /// The alert's id, derived from the cause: the rule, the device, and when it began.
    pub fn alert_id(&self, rule_id: Uuid, device_id: &DeviceId) -> Uuid {
        event_id(self.started_at, &rule_id.to_string(), device_id.as_str())
    }
}

impl RuleState {
    /// That of a rule on a device that it has nothing to say of.
    pub fn new(version: u64) -> Self {
        Self { version, ..Self::default() }
    }

    /// The alert, if it is open.
    pub fn open_alert(&self) -> Option<&ActiveAlert> {
        self.alert.as_ref().filter(|alert| alert.resolved_at.is_none())
    }

    /// Takes in what the value at `at` is to the rule; times never go back. Where `can_open_alert` says no, an alert that is
    /// to begin waits for the next value.
    pub fn step(
        &mut self,
        result: ConditionResult,
        at: Timestamp,
        timing: RuleTiming,
        can_open_alert: impl FnOnce() -> bool,
    ) -> Option<AlertTransition> {
        if self.open_alert().is_some() {
            return if result.clears { self.resolve(at) } else { None };
        }
        if !result.raises {
            self.pending_since = None;
            return None;
        }
        let since = *self.pending_since.get_or_insert(at);
        if at < since.plus_seconds(i64::from(timing.for_s)) {
            return None;
        }
        self.raise(since, at, timing.hold_down_s, can_open_alert)
    }

    /// There is an alert from `at` on, for a cause that began at `began`.
    pub fn raise(
        &mut self,
        started_at: Timestamp,
        at: Timestamp,
        hold_down_s: u32,
        can_open_alert: impl FnOnce() -> bool,
    ) -> Option<AlertTransition> {
        if let Some(alert) = &mut self.alert
            && (alert.resolved_at).is_some_and(|end| at < end.plus_seconds(i64::from(hold_down_s)))
        {
            alert.resolved_at = None;
            self.pending_since = None;
            return Some(AlertTransition::Reopened);
        }
        if !can_open_alert() {
            return None;
        }
        self.pending_since = None;
        self.alert = Some(ActiveAlert { started_at, resolved_at: None, notified: None });
        Some(AlertTransition::Opened(started_at))
    }

    /// The open alert ends at `at`.
    pub fn resolve(&mut self, at: Timestamp) -> Option<AlertTransition> {
        let alert = self.alert.as_mut().filter(|alert| alert.resolved_at.is_none())?;
        alert.resolved_at = Some(at);
        self.pending_since = None;
        Some(AlertTransition::Resolved)
    }

    /// Whether a new rule_state would do as well, at a value at `at` or later.
    pub fn is_idle(&self, at: Timestamp, hold_down_s: u32) -> bool {
        let is_over = |alert: &ActiveAlert| {
            alert.resolved_at.is_some_and(|end| end.plus_seconds(i64::from(hold_down_s)) <= at)
        };
        self.pending_since.is_none() && self.alert.as_ref().is_none_or(is_over)
    }
}
