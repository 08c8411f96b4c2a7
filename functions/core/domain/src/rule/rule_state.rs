//! The progress of one rule on one device, as a state machine over judged samples.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::alert::Severity;
use crate::id::{DeviceId, event_id};
use crate::time::Timestamp;

/// Judgement of a value by a rule. Never both; neither within the hysteresis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConditionResult {
    /// The value meets the condition of the rule.
    pub raises: bool,
    /// The value ends an alert.
    pub clears: bool,
}

/// Duration and hold-down of a rule, in seconds of device time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleTiming {
    /// Seconds for which the condition must hold before an alert opens.
    pub for_s: u32,
    /// Seconds after the end of an alert in which a new cause reopens it.
    pub hold_down_s: u32,
}

/// A change of the alert of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertTransition {
    /// A new alert opens; its cause started at this time.
    Opened(Timestamp),
    /// The last alert is reopened.
    Reopened,
    /// The open alert is resolved.
    Resolved,
}

/// The progress of a rule on a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleState {
    /// Version of the rule at its last evaluation.
    pub version: u64,
    /// Time of the first sample of an unbroken series that meets the condition, while no alert is
    /// open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_since: Option<Timestamp>,
    /// The last alert, open or resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<ActiveAlert>,
}

/// An alert of a rule on a device. Later changes of the rule do not change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveAlert {
    /// Start of the cause in device time; for `no_data`, the last receipt of a sample.
    pub started_at: Timestamp,
    /// End of the alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
    /// Content of the notification about the opening; `None` if none was sent. The resolve
    /// notification repeats it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notified: Option<NotifiedAlert>,
}

/// The parts of an opening notification that the resolve notification repeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifiedAlert {
    /// Type of the alert.
    pub alert_type: String,
    /// Severity of the alert.
    pub severity: Severity,
    /// Name of the rule at the opening.
    pub rule_name: String,
}

impl ActiveAlert {
    /// Id of the alert, derived from rule, device and start of the cause.
    pub fn alert_id(&self, rule_id: Uuid, device_id: &DeviceId) -> Uuid {
        event_id(self.started_at, &rule_id.to_string(), device_id.as_str())
    }
}

impl RuleState {
    /// The state of a rule that has not judged a sample that meets its condition.
    pub fn new(version: u64) -> Self {
        Self { version, ..Self::default() }
    }

    /// The alert, if it is open.
    pub fn open_alert(&self) -> Option<&ActiveAlert> {
        self.alert.as_ref().filter(|alert| alert.resolved_at.is_none())
    }

    /// Advances the state by the judgement of the sample at `at`; times never decrease. If
    /// `can_open_alert` returns false, a due alert waits for the next sample.
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

    /// Opens or reopens an alert at `at` whose cause started at `started_at`.
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

    /// Resolves the open alert at `at`.
    pub fn resolve(&mut self, at: Timestamp) -> Option<AlertTransition> {
        let alert = self.alert.as_mut().filter(|alert| alert.resolved_at.is_none())?;
        alert.resolved_at = Some(at);
        self.pending_since = None;
        Some(AlertTransition::Resolved)
    }

    /// Whether the state equals a new one for all samples at or after `at`, so that it can be
    /// dropped.
    pub fn is_idle(&self, at: Timestamp, hold_down_s: u32) -> bool {
        let is_over = |alert: &ActiveAlert| {
            alert.resolved_at.is_some_and(|end| end.plus_seconds(i64::from(hold_down_s)) <= at)
        };
        self.pending_since.is_none() && self.alert.as_ref().is_none_or(is_over)
    }
}
