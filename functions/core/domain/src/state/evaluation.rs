//! Evaluation of alert rules over the samples of a device (docs/alerts.md).
//!
//! Invariants: there is a reorder buffer only for metrics to which rules apply, and a rule state
//! only for rules that are not idle, at most [`MAX_RULE_STATES`]. A sample is judged at most once,
//! in the order of device time.

mod effects;
mod judging;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DevicePolicy, DeviceState};
use crate::message::{Body, Message};
use crate::metric::{MetricName, Point};
use crate::rule::{
    ApplicableRules, BufferedSample, Condition, ReorderBuffer, Rule, RuleSet, RuleState,
};
use crate::time::Timestamp;

/// Maximum number of rule states of a device, because an item of DynamoDB is limited to 400 KB.
/// Further rules start when others end.
const MAX_RULE_STATES: usize = 200;

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

/// The rules of a device, the policy, and the time of a decision.
#[derive(Clone, Copy)]
struct Context<'a> {
    rules: ApplicableRules<'a>,
    policy: &'a DevicePolicy,
    now: Timestamp,
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
        let Some(context) = self.evaluation_context(set, now, policy) else { return };
        let mut evaluation = self.reconcile_rules(context, set.generation);
        for (metric, received) in samples_by_metric(messages, context.rules) {
            // Samples beyond the metric limit are not stored and not judged.
            if self.has_metric(metric) {
                self.evaluate_samples(&mut evaluation, context, metric, received, known);
            }
        }
        if set.has_no_data_rules {
            self.start_no_data_timers(&mut evaluation, context);
        }
        self.evaluation = evaluation.with_deadline(context);
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
        let Some(context) = self.evaluation_context(set, now, policy) else { return };
        let mut evaluation = self.reconcile_rules(context, set.generation);
        if offline_detection_enabled {
            let Evaluation { buffers, rule_states, .. } = &mut evaluation;
            for (metric, buffer) in buffers {
                let Some(received_at) = buffer.received_at else { continue };
                let waits_until = received_at.plus_seconds(i64::from(policy.reorder_s));
                if buffer.is_waiting() && waits_until <= now {
                    self.judge_samples(rule_states, context, metric, &buffer.flush());
                }
                self.raise_no_data(rule_states, context, metric, received_at);
            }
        }
        self.evaluation = evaluation.with_deadline(context);
    }

    /// The context of an evaluation at `now`; `None` if there is nothing to evaluate.
    fn evaluation_context<'a>(
        &mut self,
        set: &'a RuleSet,
        now: Timestamp,
        policy: &'a DevicePolicy,
    ) -> Option<Context<'a>> {
        if !self.registered {
            self.evaluation = Evaluation::default();
            return None;
        }
        if set.is_empty() && self.evaluation.is_empty() {
            return None;
        }
        let rules = set.applicable_to(&self.device_id, self.device_type.as_deref());
        Some(Context { rules, policy, now })
    }

    /// Returns the evaluation without the states of rules that no longer apply, whose alerts are
    /// resolved, and with restarted states of changed rules.
    fn reconcile_rules(&mut self, context: Context<'_>, generation: u64) -> Evaluation {
        let Context { rules, now, .. } = context;
        let mut evaluation = std::mem::take(&mut self.evaluation);
        evaluation.generation = generation;
        evaluation.buffers.retain(|metric, _| rules.has_rules_for(metric));
        evaluation.rule_states.retain(|rule_id, rule_state| {
            let Some(rule) = rules.find(*rule_id) else {
                if rule_state.resolve(now).is_some()
                    && let Some(alert) = &rule_state.alert
                {
                    let reason = "the rule no longer applies";
                    self.resolve_rule_alert(context, *rule_id, alert, now, reason);
                }
                return false;
            };
            if rule_state.version != rule.version {
                rule_state.version = rule.version;
                rule_state.pending_since = None;
            }
            true
        });
        evaluation
    }

    /// Orders the samples of a metric in a batch, and judges those that are due.
    fn evaluate_samples(
        &mut self,
        evaluation: &mut Evaluation,
        context: Context<'_>,
        metric: &MetricName,
        received: ReceivedSamples,
        known: &BTreeMap<MetricName, Point>,
    ) {
        let buffer = evaluation
            .buffers
            .entry(metric.clone())
            .or_insert_with(|| ReorderBuffer::starting_after(known.get(metric), None));
        let (samples, late) = buffer.admit(received.samples, context.policy.reorder_s);
        buffer.received_at = buffer.received_at.max(Some(received.received_at));
        evaluation.late += late;
        let rule_states = &mut evaluation.rule_states;
        self.judge_samples(rule_states, context, metric, &samples);
        self.resolve_no_data(rule_states, context, metric, received.received_at);
    }

    /// Starts a buffer for each metric that was received before a `no_data` rule existed: silence
    /// counts from now on.
    fn start_no_data_timers(&self, evaluation: &mut Evaluation, context: Context<'_>) {
        for metric in context.rules.metrics_with_rules(self.latest.keys()) {
            evaluation.buffers.entry(metric.clone()).or_insert_with(|| {
                ReorderBuffer::starting_after(self.latest.get(metric), Some(context.now))
            });
        }
    }
}

/// The samples of messages by metric, for the metrics to which rules apply.
fn samples_by_metric<'m>(
    messages: &[&'m Message],
    rules: ApplicableRules<'_>,
) -> BTreeMap<&'m MetricName, ReceivedSamples> {
    let mut by_metric: BTreeMap<&MetricName, ReceivedSamples> = BTreeMap::new();
    for message in messages {
        let Body::Telemetry(samples) = &message.body else { continue };
        let received_at = message.received.received_at;
        for sample in samples {
            let received = match by_metric.get_mut(&sample.metric) {
                Some(received) => received,
                None if rules.has_rules_for(&sample.metric) => by_metric
                    .entry(&sample.metric)
                    .or_insert_with(|| ReceivedSamples { samples: Vec::new(), received_at }),
                None => continue,
            };
            received.received_at = received.received_at.max(received_at);
            received.samples.push(BufferedSample {
                at: sample.time,
                sample_index: sample.sample_index,
                value: sample.value,
                precedence: message.precedence(),
            });
        }
    }
    by_metric
}

impl<'a> Context<'a> {
    /// The `no_data` rules on a metric.
    fn no_data_rules(&self, metric: &MetricName) -> impl Iterator<Item = &'a Rule> + use<'a> {
        self.rules.for_metric(metric).filter(|rule| rule.condition == Condition::NoData)
    }
}

impl Evaluation {
    /// Whether the evaluation is equal to the default.
    pub fn is_empty(&self) -> bool {
        self.buffers.is_empty() && self.rule_states.is_empty()
    }

    /// Sets the deadline; an empty evaluation becomes the default.
    fn with_deadline(self, context: Context<'_>) -> Self {
        match self.is_empty() {
            true => Self::default(),
            false => Self { next_check: self.deadline(context), ..self },
        }
    }

    /// The earliest time at which the evaluation changes without a message.
    fn deadline(&self, context: Context<'_>) -> Option<Timestamp> {
        let deadlines = self.buffers.iter().flat_map(|(metric, buffer)| {
            let after = |seconds| Some(buffer.received_at?.plus_seconds(i64::from(seconds)));
            let reorder = after(context.policy.reorder_s).filter(|_| buffer.is_waiting());
            let no_data = context.no_data_rules(metric).filter(|rule| {
                let rule_state = self.rule_states.get(&rule.rule_id);
                rule_state.is_none_or(|rule_state| rule_state.open_alert().is_none())
            });
            no_data.map(move |rule| after(rule.for_s)).chain([reorder])
        });
        deadlines.flatten().min()
    }
}

#[cfg(test)]
mod tests;
