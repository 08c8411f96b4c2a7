//! Evaluation of alert rules over the samples of a device (docs/alerts.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DevicePolicy, DeviceState, Effect, NotificationPolicy};
use crate::alert::Alert;
use crate::message::{Body, Message};
use crate::metric::{MetricName, Point, Precedence};
use crate::notification::{Notification, NotificationEvent};
use crate::rule::{
    ActiveAlert, AlertTransition, ApplicableRules, BufferedSample, Condition, NotifiedAlert,
    OrderedSample, ReorderBuffer, Rule, RuleSet, RuleState, RuleTiming,
};
use crate::time::Timestamp;

/// Maximum number of rule states of a device, because an item of DynamoDB is limited to 400 KB.
/// Further rules start when others end.
const MAX_RULE_STATES: usize = 200;

/// Maximum number of new alerts in the outbox. Further alerts open with the next sample.
const MAX_QUEUED_ALERTS: usize = 25;

/// Maximum length of the text of an alert in characters.
const MAX_ALERT_MESSAGE_CHARS: usize = 1_000;

/// Progress of all alert rules on a device. Idle rules have no entry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The [`RuleSet::generation`] of the last evaluation.
    pub generation: u64,
    /// Reorder buffers of the metrics to which rules apply.
    buffers: BTreeMap<MetricName, ReorderBuffer>,
    /// States of the rules that are not idle, by rule id.
    rule_states: BTreeMap<Uuid, RuleState>,
    /// Time at which the evaluation changes without a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next_check: Option<Timestamp>,
    /// Number of late samples, repeats included.
    #[serde(default)]
    pub late: u64,
}

impl Evaluation {
    /// Whether the evaluation is equal to the default.
    pub fn is_empty(&self) -> bool {
        self.buffers.is_empty() && self.rule_states.is_empty()
    }
}

/// Samples of a metric in a batch, and the receipt time of the latest one.
struct ReceivedSamples {
    samples: Vec<BufferedSample>,
    received_at: Timestamp,
}

impl DeviceState {
    /// Evaluates the rules over messages, after [`DeviceState::apply`]. `known` is
    /// [`DeviceState::latest`] before that; samples at or before these points are late for a metric
    /// without a reorder buffer.
    pub fn evaluate(
        &mut self,
        messages: &[&Message],
        known: &BTreeMap<MetricName, Point>,
        set: &RuleSet,
        policy: &DevicePolicy,
    ) {
        let Some(now) = messages.iter().map(|message| message.received.received_at).max() else {
            return;
        };
        if self.has_no_rules(set) {
            return;
        }
        let device_type = self.device_type.clone();
        let applicable = set.applicable_to(&self.device_id, device_type.as_deref());
        let mut evaluation = self.reconcile_rules(applicable, set.generation, now, policy);
        for (metric, received) in samples_by_metric(messages, applicable) {
            // Samples beyond the metric limit are not stored and not judged.
            if !self.has_metric(metric) {
                continue;
            }
            let buffer = evaluation
                .buffers
                .entry(metric.clone())
                .or_insert_with(|| ReorderBuffer::starting_after(known.get(metric), None));
            let (samples, late) = buffer.admit(received.samples, policy.reorder_s);
            buffer.received_at = buffer.received_at.max(Some(received.received_at));
            evaluation.late += late;
            let rule_states = &mut evaluation.rule_states;
            self.evaluate_metric(rule_states, applicable, metric, &samples, now, policy);
            self.resolve_no_data(rule_states, applicable, metric, received.received_at, policy);
        }
        if set.has_no_data_rules {
            for metric in applicable.metrics_with_rules(self.latest.keys()) {
                // The metric was received before the rule existed: silence counts from now on.
                let buffer = evaluation.buffers.entry(metric.clone());
                buffer.or_insert_with(|| {
                    ReorderBuffer::starting_after(self.latest.get(metric), Some(now))
                });
            }
        }
        self.evaluation = evaluation.with_deadline(applicable, policy);
        self.schedule_check(now, policy);
    }

    /// Evaluates the rules over the passing of time, before [`DeviceState::check`].
    /// `offline_detection_enabled` is false while ingest is behind.
    pub fn check_rules(
        &mut self,
        now: Timestamp,
        offline_detection_enabled: bool,
        set: &RuleSet,
        policy: &DevicePolicy,
    ) {
        if self.has_no_rules(set) {
            return;
        }
        let device_type = self.device_type.clone();
        let applicable = set.applicable_to(&self.device_id, device_type.as_deref());
        let mut evaluation = self.reconcile_rules(applicable, set.generation, now, policy);
        if offline_detection_enabled {
            let Evaluation { buffers, rule_states, .. } = &mut evaluation;
            for (metric, buffer) in buffers {
                let Some(received_at) = buffer.received_at else { continue };
                let waits_until = received_at.plus_seconds(i64::from(policy.reorder_s));
                if buffer.is_waiting() && waits_until <= now {
                    let samples = buffer.flush();
                    self.evaluate_metric(rule_states, applicable, metric, &samples, now, policy);
                }
                self.raise_no_data(rule_states, applicable, metric, received_at, now, policy);
            }
        }
        self.evaluation = evaluation.with_deadline(applicable, policy);
    }

    fn has_no_rules(&mut self, set: &RuleSet) -> bool {
        if !self.registered {
            self.evaluation = Evaluation::default();
        }
        !self.registered || (set.is_empty() && self.evaluation.is_empty())
    }

    /// Returns the evaluation without the states of rules that no longer apply, whose alerts are
    /// resolved, and with restarted states of changed rules.
    fn reconcile_rules(
        &mut self,
        applicable: ApplicableRules<'_>,
        generation: u64,
        now: Timestamp,
        policy: &DevicePolicy,
    ) -> Evaluation {
        let mut evaluation = std::mem::take(&mut self.evaluation);
        evaluation.generation = generation;
        evaluation.buffers.retain(|metric, _| applicable.has_rules_for(metric));
        evaluation.rule_states.retain(|rule_id, rule_state| match applicable.find(*rule_id) {
            Some(rule) => {
                if rule_state.version != rule.version {
                    rule_state.version = rule.version;
                    rule_state.pending_since = None;
                }
                true
            }
            None => {
                if rule_state.resolve(now).is_some()
                    && let Some(alert) = &rule_state.alert
                {
                    self.resolve_rule_alert(
                        *rule_id,
                        alert,
                        now,
                        now,
                        "the rule no longer applies",
                        policy,
                    );
                }
                false
            }
        });
        evaluation
    }

    /// Judges released samples by the rules on their metric.
    fn evaluate_metric(
        &mut self,
        rule_states: &mut BTreeMap<Uuid, RuleState>,
        applicable: ApplicableRules<'_>,
        metric: &MetricName,
        samples: &[OrderedSample],
        now: Timestamp,
        policy: &DevicePolicy,
    ) {
        for rule in applicable.for_metric(metric) {
            let timing = RuleTiming { for_s: rule.for_s, hold_down_s: policy.rule_hold_down_s };
            let mut rule_state = rule_states.remove(&rule.rule_id);
            for sample in samples {
                let Some((value, result)) = rule.condition.evaluate(sample) else { continue };
                if rule_state.is_none() && (!result.raises || rule_states.len() >= MAX_RULE_STATES)
                {
                    continue;
                }
                let rule_state = rule_state.get_or_insert_with(|| RuleState::new(rule.version));
                let can_open_alert = || self.can_open_alert();
                if let Some(transition) = rule_state.step(result, sample.at, timing, can_open_alert)
                {
                    self.apply_transition(
                        transition,
                        rule,
                        rule_state,
                        (sample.at, now),
                        Some(value),
                        policy,
                    );
                }
            }
            let end = samples.last().map_or(Timestamp::min(), |sample| sample.at);
            let rule_state =
                rule_state.filter(|rule_state| !rule_state.is_idle(end, policy.rule_hold_down_s));
            rule_states.extend(rule_state.map(|rule_state| (rule.rule_id, rule_state)));
        }
    }

    /// Opens `no_data` alerts for a metric that was last received at `received_at`.
    fn raise_no_data(
        &mut self,
        rule_states: &mut BTreeMap<Uuid, RuleState>,
        applicable: ApplicableRules<'_>,
        metric: &MetricName,
        received_at: Timestamp,
        now: Timestamp,
        policy: &DevicePolicy,
    ) {
        for rule in no_data_rules(applicable, metric) {
            let due = received_at.plus_seconds(i64::from(rule.for_s));
            let is_known = rule_states.contains_key(&rule.rule_id);
            if now < due || (!is_known && rule_states.len() >= MAX_RULE_STATES) {
                continue;
            }
            let rule_state =
                rule_states.entry(rule.rule_id).or_insert_with(|| RuleState::new(rule.version));
            if rule_state.open_alert().is_some() {
                continue;
            }
            let hold_down_s = policy.rule_hold_down_s;
            let alert = rule_state.raise(received_at, now, hold_down_s, || self.can_open_alert());
            if let Some(transition) = alert {
                self.apply_transition(transition, rule, rule_state, (now, now), None, policy);
            }
        }
    }

    /// Resolves `no_data` alerts for a metric that was received at `received_at`.
    fn resolve_no_data(
        &mut self,
        rule_states: &mut BTreeMap<Uuid, RuleState>,
        applicable: ApplicableRules<'_>,
        metric: &MetricName,
        received_at: Timestamp,
        policy: &DevicePolicy,
    ) {
        for rule in no_data_rules(applicable, metric) {
            let Some(rule_state) = rule_states.get_mut(&rule.rule_id) else { continue };
            // A sample that was received before the alert opened, and is only processed now, does
            // not end it.
            if rule_state.open_alert().is_some_and(|alert| alert.started_at < received_at)
                && let Some(transition) = rule_state.resolve(received_at)
            {
                self.apply_transition(
                    transition,
                    rule,
                    rule_state,
                    (received_at, received_at),
                    None,
                    policy,
                );
            }
            if rule_state.is_idle(received_at, policy.rule_hold_down_s) {
                rule_states.remove(&rule.rule_id);
            }
        }
    }

    fn can_open_alert(&self) -> bool {
        let opens = |effect: &&Effect| matches!(effect, Effect::OpenAlert { .. });
        self.outbox.iter().filter(opens).count() < MAX_QUEUED_ALERTS
    }

    /// Enqueues the effects of a transition at `at` that was decided at `now`.
    fn apply_transition(
        &mut self,
        transition: AlertTransition,
        rule: &Rule,
        rule_state: &mut RuleState,
        (at, now): (Timestamp, Timestamp),
        value: Option<f64>,
        policy: &DevicePolicy,
    ) {
        let Some(active) = &mut rule_state.alert else { return };
        let alert_id = active.alert_id(rule.rule_id, &self.device_id);
        let text = || rule.alert_message(&self.device_id, active.started_at, value);
        match transition {
            AlertTransition::Opened(started_at) => {
                let alert = Alert {
                    alert_id,
                    device_id: self.device_id.clone(),
                    alert_type: rule.condition.kind().to_owned(),
                    severity: rule.severity,
                    message: text().chars().take(MAX_ALERT_MESSAGE_CHARS).collect(),
                    acknowledged: false,
                    acknowledged_at: None,
                    acknowledged_by: None,
                    resolved_at: None,
                    created_at: started_at,
                    rule_id: Some(rule.rule_id),
                };
                if rule.notify && policy.notify != NotificationPolicy::Disabled {
                    active.notified = Some(NotifiedAlert {
                        alert_type: alert.alert_type.clone(),
                        severity: alert.severity,
                        rule_name: rule.name.clone(),
                    });
                }
                let notification =
                    active.notified.as_ref().map(|_| Notification::opened(&alert, at));
                self.enqueue_effect(Effect::OpenAlert { alert });
                if let Some(notification) = notification {
                    self.enqueue_notification(notification, now);
                }
            }
            AlertTransition::Reopened => {
                let message = text();
                let notified = active.notified.clone();
                self.enqueue_alert_revision(alert_id, None, None);
                if let Some(notified) = notified
                    && !self.cancel_resolved_notification(alert_id)
                {
                    let event = NotificationEvent::Opened;
                    self.enqueue_notification(
                        self.build_notification(alert_id, notified, event, at, message),
                        now,
                    );
                }
            }
            AlertTransition::Resolved => {
                let active = active.clone();
                let reason = match value {
                    Some(value) => format!("{} is {value}", rule.metric),
                    None => format!("{} is received again", rule.metric),
                };
                self.resolve_rule_alert(rule.rule_id, &active, at, now, &reason, policy);
            }
        }
    }

    /// Enqueues the end at `at` of an alert of a rule, decided at `now`.
    fn resolve_rule_alert(
        &mut self,
        rule_id: Uuid,
        alert: &ActiveAlert,
        at: Timestamp,
        now: Timestamp,
        reason: &str,
        policy: &DevicePolicy,
    ) {
        let alert_id = alert.alert_id(rule_id, &self.device_id);
        self.enqueue_alert_revision(alert_id, Some(at), None);
        if let Some(notified) = alert.notified.clone() {
            let message =
                format!("{} on {} is resolved: {reason}", notified.rule_name, self.device_id);
            let notification = self.build_notification(
                alert_id,
                notified,
                NotificationEvent::Resolved,
                at,
                message,
            );
            self.enqueue_notification(
                notification,
                now.plus_seconds(i64::from(policy.rule_hold_down_s)),
            );
        }
    }

    fn build_notification(
        &self,
        alert_id: Uuid,
        notified: NotifiedAlert,
        event: NotificationEvent,
        at: Timestamp,
        message: String,
    ) -> Notification {
        let NotifiedAlert { alert_type, severity, .. } = notified;
        let device_id = self.device_id.clone();
        Notification { alert_id, device_id, alert_type, severity, event, at, message }
    }
}

/// The samples of messages by metric, for the metrics to which rules apply.
fn samples_by_metric<'m>(
    messages: &[&'m Message],
    applicable: ApplicableRules<'_>,
) -> BTreeMap<&'m MetricName, ReceivedSamples> {
    let mut by_metric: BTreeMap<&MetricName, ReceivedSamples> = BTreeMap::new();
    for message in messages {
        let Body::Telemetry(measurements) = &message.body else { continue };
        let received_at = message.received.received_at;
        for m in measurements {
            let received = match by_metric.get_mut(&m.metric) {
                Some(received) => received,
                None if applicable.has_rules_for(&m.metric) => by_metric
                    .entry(&m.metric)
                    .or_insert_with(|| ReceivedSamples { samples: Vec::new(), received_at }),
                None => continue,
            };
            received.received_at = received.received_at.max(received_at);
            received.samples.push(BufferedSample {
                at: m.time,
                sample_index: m.sample_index,
                value: m.value,
                precedence: Precedence { ts: message.ts, message_id: message.message_id },
            });
        }
    }
    by_metric
}

/// The `no_data` rules on a metric.
fn no_data_rules<'a>(
    applicable: ApplicableRules<'a>,
    metric: &MetricName,
) -> impl Iterator<Item = &'a Rule> {
    applicable.for_metric(metric).filter(|rule| rule.condition == Condition::NoData)
}

impl Evaluation {
    /// Sets the deadline; an empty evaluation becomes the default.
    fn with_deadline(self, applicable: ApplicableRules<'_>, policy: &DevicePolicy) -> Self {
        match self.is_empty() {
            true => Self::default(),
            false => Self { next_check: self.deadline(applicable, policy), ..self },
        }
    }

    /// The earliest time at which the evaluation changes without a message.
    fn deadline(
        &self,
        applicable: ApplicableRules<'_>,
        policy: &DevicePolicy,
    ) -> Option<Timestamp> {
        let mut deadline: Option<Timestamp> = None;
        let mut may_be = |at: Timestamp| deadline = Some(deadline.map_or(at, |held| held.min(at)));
        for (metric, buffer) in &self.buffers {
            let Some(received_at) = buffer.received_at else { continue };
            if buffer.is_waiting() {
                may_be(received_at.plus_seconds(i64::from(policy.reorder_s)));
            }
            for rule in no_data_rules(applicable, metric) {
                let rule_state = self.rule_states.get(&rule.rule_id);
                if rule_state.is_none_or(|rule_state| rule_state.open_alert().is_none()) {
                    may_be(received_at.plus_seconds(i64::from(rule.for_s)));
                }
            }
        }
        deadline
    }
}

#[cfg(test)]
mod tests;
