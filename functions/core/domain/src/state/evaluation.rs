//! How far the alert rules are with a device, and what its samples make of them (docs/alerts.md).

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

/// Rules that are under way on a device at most: in their `for_s`, open, or in their hold-down. The state holds each of
/// them, and an item of DynamoDB ends at 400 KB.
const MAX_RULE_STATES: usize = 200;

/// Alerts that wait in the outbox at most. The others begin with the next sample.
const MAX_QUEUED_ALERTS: usize = 25;

/// The longest text of an alert, in characters.
const MAX_ALERT_MESSAGE_CHARS: usize = 1_000;

/// How far the alert rules are with a device. It holds nothing of rules that have nothing to say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The [`RuleSet::generation`] that it was computed with.
    pub generation: u64,
    /// How far the metrics are read on which there are rules.
    buffers: BTreeMap<MetricName, ReorderBuffer>,
    /// Rules that are under way.
    rule_states: BTreeMap<Uuid, RuleState>,
    /// When time alone may change something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next_check: Option<Timestamp>,
    /// Samples that came after their turn, repeats included.
    #[serde(default)]
    pub late: u64,
}

impl Evaluation {
    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        self.buffers.is_empty() && self.rule_states.is_empty()
    }
}

/// The samples of a metric in some messages, and the last receipt of one.
struct ReceivedSamples {
    samples: Vec<BufferedSample>,
    received_at: Timestamp,
}

impl DeviceState {
    /// What messages are to the alert rules, after [`DeviceState::apply`]. `known` are the newest points as they were
    /// before: what is older is no news.
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
        for (metric, arrived) in samples_by_metric(messages, applicable) {
            // What is not stored is not judged.
            if !self.has_metric(metric) {
                continue;
            }
            let buffer = evaluation
                .buffers
                .entry(metric.clone())
                .or_insert_with(|| ReorderBuffer::starting_after(known.get(metric), None));
            let (readings, late) = buffer.admit(arrived.samples, policy.reorder_s);
            buffer.received_at = buffer.received_at.max(Some(arrived.received_at));
            evaluation.late += late;
            let rule_states = &mut evaluation.rule_states;
            self.evaluate_metric(rule_states, applicable, metric, &readings, now, policy);
            self.resolve_no_data(rule_states, applicable, metric, arrived.received_at, policy);
        }
        if set.has_no_data_rules {
            for metric in applicable.metrics_with_rules(self.latest.keys()) {
                // It was received before there was a rule: silence counts from now on.
                let buffer = evaluation.buffers.entry(metric.clone());
                buffer.or_insert_with(|| {
                    ReorderBuffer::starting_after(self.latest.get(metric), Some(now))
                });
            }
        }
        self.evaluation = evaluation.with_deadline(applicable, policy);
        self.schedule_check(now, policy);
    }

    /// What the passing of time is to the alert rules, before [`DeviceState::check`]. While ingest is behind, nobody
    /// knows what did not come.
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
                    let readings = buffer.flush();
                    self.evaluate_metric(rule_states, applicable, metric, &readings, now, policy);
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

    /// The evaluation without the rules that are gone, whose alerts end, and with those that were changed begun anew.
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
                    && let Some(raised) = &rule_state.alert
                {
                    self.resolve_rule_alert(
                        *rule_id,
                        raised,
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

    /// What readings in their turn are to the rules on their metric.
    fn evaluate_metric(
        &mut self,
        rule_states: &mut BTreeMap<Uuid, RuleState>,
        applicable: ApplicableRules<'_>,
        metric: &MetricName,
        readings: &[OrderedSample],
        now: Timestamp,
        policy: &DevicePolicy,
    ) {
        for rule in applicable.for_metric(metric) {
            let timing = RuleTiming { for_s: rule.for_s, hold_down_s: policy.rule_hold_down_s };
            let mut rule_state = rule_states.remove(&rule.rule_id);
            for reading in readings {
                let Some((value, result)) = rule.condition.evaluate(reading) else { continue };
                if rule_state.is_none() && (!result.raises || rule_states.len() >= MAX_RULE_STATES)
                {
                    continue;
                }
                let rule_state = rule_state.get_or_insert_with(|| RuleState::new(rule.version));
                let can_open_alert = || self.can_open_alert();
                if let Some(transition) =
                    rule_state.step(result, reading.at, timing, can_open_alert)
                {
                    self.apply_transition(
                        transition,
                        rule,
                        rule_state,
                        (reading.at, now),
                        Some(value),
                        policy,
                    );
                }
            }
            let end = readings.last().map_or(Timestamp::min(), |reading| reading.at);
            let rule_state =
                rule_state.filter(|rule_state| !rule_state.is_idle(end, policy.rule_hold_down_s));
            rule_states.extend(rule_state.map(|rule_state| (rule.rule_id, rule_state)));
        }
    }

    /// Nothing of a metric was received since `received_at`.
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
            let raised = rule_state.raise(received_at, now, hold_down_s, || self.can_open_alert());
            if let Some(transition) = raised {
                self.apply_transition(transition, rule, rule_state, (now, now), None, policy);
            }
        }
    }

    /// Something of a metric was received.
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
            // What was received before the silence began, and is handled only now, does not break it.
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

    /// What follows from a turn at `at` that was found out at `now`.
    fn apply_transition(
        &mut self,
        transition: AlertTransition,
        rule: &Rule,
        rule_state: &mut RuleState,
        (at, now): (Timestamp, Timestamp),
        value: Option<f64>,
        policy: &DevicePolicy,
    ) {
        let Some(raised) = &mut rule_state.alert else { return };
        let alert_id = raised.alert_id(rule.rule_id, &self.device_id);
        let says = || rule.alert_message(&self.device_id, raised.started_at, value);
        match transition {
            AlertTransition::Opened(started_at) => {
                let alert = Alert {
                    alert_id,
                    device_id: self.device_id.clone(),
                    alert_type: rule.condition.kind().to_owned(),
                    severity: rule.severity,
                    message: says().chars().take(MAX_ALERT_MESSAGE_CHARS).collect(),
                    acknowledged: false,
                    acknowledged_at: None,
                    acknowledged_by: None,
                    resolved_at: None,
                    created_at: started_at,
                    rule_id: Some(rule.rule_id),
                };
                if rule.notify && policy.notify != NotificationPolicy::Disabled {
                    raised.notified = Some(NotifiedAlert {
                        alert_type: alert.alert_type.clone(),
                        severity: alert.severity,
                        rule_name: rule.name.clone(),
                    });
                }
                let notification =
                    raised.notified.as_ref().map(|_| Notification::opened(&alert, at));
                self.enqueue_effect(Effect::OpenAlert { alert });
                if let Some(notification) = notification {
                    self.enqueue_notification(notification, now);
                }
            }
            AlertTransition::Reopened => {
                let message = says();
                let notified = raised.notified.clone();
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
                let raised = raised.clone();
                let reason = match value {
                    Some(value) => format!("{} is {value}", rule.metric),
                    None => format!("{} is received again", rule.metric),
                };
                self.resolve_rule_alert(rule.rule_id, &raised, at, now, &reason, policy);
            }
        }
    }

    /// An alert of a rule ended at `at`, which was found out at `now`.
    fn resolve_rule_alert(
        &mut self,
        rule_id: Uuid,
        raised: &ActiveAlert,
        at: Timestamp,
        now: Timestamp,
        reason: &str,
        policy: &DevicePolicy,
    ) {
        let alert_id = raised.alert_id(rule_id, &self.device_id);
        self.enqueue_alert_revision(alert_id, Some(at), None);
        if let Some(notified) = raised.notified.clone() {
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

/// The samples in messages by their metrics, of those on which there are rules.
fn samples_by_metric<'m>(
    messages: &[&'m Message],
    applicable: ApplicableRules<'_>,
) -> BTreeMap<&'m MetricName, ReceivedSamples> {
    let mut arrivals: BTreeMap<&MetricName, ReceivedSamples> = BTreeMap::new();
    for message in messages {
        let Body::Telemetry(measurements) = &message.body else { continue };
        let received_at = message.received.received_at;
        for m in measurements {
            let arrived = match arrivals.get_mut(&m.metric) {
                Some(arrived) => arrived,
                None if applicable.has_rules_for(&m.metric) => arrivals
                    .entry(&m.metric)
                    .or_insert_with(|| ReceivedSamples { samples: Vec::new(), received_at }),
                None => continue,
            };
            arrived.received_at = arrived.received_at.max(received_at);
            arrived.samples.push(BufferedSample {
                at: m.time,
                sample_index: m.sample_index,
                value: m.value,
                precedence: Precedence { ts: message.ts, message_id: message.message_id },
            });
        }
    }
    arrivals
}

/// The rules about a metric that does not come.
fn no_data_rules<'a>(
    applicable: ApplicableRules<'a>,
    metric: &MetricName,
) -> impl Iterator<Item = &'a Rule> {
    applicable.for_metric(metric).filter(|rule| rule.condition == Condition::NoData)
}

impl Evaluation {
    /// As it is kept: nothing, if there is nothing to remember.
    fn with_deadline(self, applicable: ApplicableRules<'_>, policy: &DevicePolicy) -> Self {
        match self.is_empty() {
            true => Self::default(),
            false => Self { next_check: self.deadline(applicable, policy), ..self },
        }
    }

    /// When time alone may change something next.
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
