//! Effects of alert transitions: the alert, its revisions and notifications.

use uuid::Uuid;

use super::Context;
use crate::alert::Alert;
use crate::notification::{Notification, NotificationEvent};
use crate::rule::{ActiveAlert, AlertTransition, NotifiedAlert, Rule, RuleState};
use crate::state::{DeviceState, Effect, NotificationPolicy};
use crate::time::Timestamp;

/// Maximum length of the text of an alert in characters.
const MAX_ALERT_MESSAGE_CHARS: usize = 1_000;

impl DeviceState {
    /// Enqueues the effects of a transition at `at`, caused by `value` or, for `None`, by receipt.
    pub(super) fn apply_transition(
        &mut self,
        context: Context<'_>,
        transition: AlertTransition,
        rule: &Rule,
        rule_state: &mut RuleState,
        at: Timestamp,
        value: Option<f64>,
    ) {
        let Some(active) = &mut rule_state.alert else { return };
        match transition {
            AlertTransition::Opened(_) => self.open_rule_alert(context, rule, active, at, value),
            AlertTransition::Reopened => self.reopen_rule_alert(context, rule, active, at, value),
            AlertTransition::Resolved => {
                let reason = match value {
                    Some(value) => format!("{} is {value}", rule.metric),
                    None => format!("{} is received again", rule.metric),
                };
                self.resolve_rule_alert(context, rule.rule_id, active, at, &reason);
            }
        }
    }

    fn open_rule_alert(
        &mut self,
        context: Context<'_>,
        rule: &Rule,
        active: &mut ActiveAlert,
        at: Timestamp,
        value: Option<f64>,
    ) {
        let message = rule.alert_message(&self.device_id, active.started_at, value);
        let alert = Alert {
            alert_id: active.alert_id(rule.rule_id, &self.device_id),
            device_id: self.device_id.clone(),
            alert_type: rule.condition.kind().to_owned(),
            severity: rule.severity,
            message: message.chars().take(MAX_ALERT_MESSAGE_CHARS).collect(),
            acknowledged: false,
            acknowledged_at: None,
            acknowledged_by: None,
            resolved_at: None,
            created_at: active.started_at,
            rule_id: Some(rule.rule_id),
        };
        let is_notified = rule.notify && context.policy.notify != NotificationPolicy::Disabled;
        active.notified = is_notified.then(|| NotifiedAlert {
            alert_type: alert.alert_type.clone(),
            severity: alert.severity,
            rule_name: rule.name.clone(),
        });
        let notification = is_notified.then(|| Notification::opened(&alert, at));
        self.enqueue_effect(Effect::OpenAlert { alert });
        if let Some(notification) = notification {
            self.enqueue_notification(notification, context.now);
        }
    }

    fn reopen_rule_alert(
        &mut self,
        context: Context<'_>,
        rule: &Rule,
        active: &ActiveAlert,
        at: Timestamp,
        value: Option<f64>,
    ) {
        let alert_id = active.alert_id(rule.rule_id, &self.device_id);
        self.enqueue_alert_revision(alert_id, None, None);
        if let Some(notified) = &active.notified
            && !self.outbox.cancel_resolve_notification(alert_id)
        {
            let message = rule.alert_message(&self.device_id, active.started_at, value);
            let event = NotificationEvent::Opened;
            let notification = self.rule_notification(alert_id, notified, event, at, message);
            self.enqueue_notification(notification, context.now);
        }
    }

    /// Enqueues the end at `at` of an alert of a rule.
    pub(super) fn resolve_rule_alert(
        &mut self,
        context: Context<'_>,
        rule_id: Uuid,
        alert: &ActiveAlert,
        at: Timestamp,
        reason: &str,
    ) {
        let alert_id = alert.alert_id(rule_id, &self.device_id);
        self.enqueue_alert_revision(alert_id, Some(at), None);
        if let Some(notified) = &alert.notified {
            let message =
                format!("{} on {} is resolved: {reason}", notified.rule_name, self.device_id);
            let event = NotificationEvent::Resolved;
            let notification = self.rule_notification(alert_id, notified, event, at, message);
            let hold_down_s = i64::from(context.policy.rule_hold_down_s);
            self.enqueue_notification(notification, context.now.plus_seconds(hold_down_s));
        }
    }

    fn rule_notification(
        &self,
        alert_id: Uuid,
        notified: &NotifiedAlert,
        event: NotificationEvent,
        at: Timestamp,
        message: String,
    ) -> Notification {
        Notification {
            alert_id,
            device_id: self.device_id.clone(),
            alert_type: notified.alert_type.clone(),
            severity: notified.severity,
            event,
            at,
            message,
        }
    }
}
