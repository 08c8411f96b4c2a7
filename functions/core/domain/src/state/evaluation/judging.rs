//! Judgement of samples, and of their absence, by the rules on their metric.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{Context, MAX_RULE_STATES};
use crate::metric::MetricName;
use crate::rule::{OrderedSample, Rule, RuleState, RuleTiming};
use crate::state::{DeviceState, Effect};
use crate::time::Timestamp;

/// Maximum number of new alerts in the outbox. Further alerts open with the next sample.
const MAX_QUEUED_ALERTS: usize = 25;

impl DeviceState {
    /// Judges released samples by each rule on their metric.
    pub(super) fn judge_samples(
        &mut self,
        rule_states: &mut BTreeMap<Uuid, RuleState>,
        context: Context<'_>,
        metric: &MetricName,
        samples: &[OrderedSample],
    ) {
        let end = samples.last().map_or(Timestamp::min(), |sample| sample.at);
        for rule in context.rules.for_metric(metric) {
            let rule_state = rule_states.remove(&rule.rule_id);
            let can_start = rule_states.len() < MAX_RULE_STATES;
            let rule_state = self.judge_by_rule(context, rule, rule_state, can_start, samples);
            let rule_state = rule_state
                .filter(|rule_state| !rule_state.is_idle(end, context.policy.rule_hold_down_s));
            rule_states.extend(rule_state.map(|rule_state| (rule.rule_id, rule_state)));
        }
    }

    /// Judges samples by one rule. Returns its state, which is created by the first sample that
    /// raises, if `can_start` allows it.
    fn judge_by_rule(
        &mut self,
        context: Context<'_>,
        rule: &Rule,
        mut rule_state: Option<RuleState>,
        can_start: bool,
        samples: &[OrderedSample],
    ) -> Option<RuleState> {
        let hold_down_s = context.policy.rule_hold_down_s;
        let timing = RuleTiming { for_s: rule.for_s, hold_down_s };
        for sample in samples {
            let Some((value, result)) = rule.condition.evaluate(sample) else { continue };
            if rule_state.is_none() && !(result.raises && can_start) {
                continue;
            }
            let rule_state = rule_state.get_or_insert_with(|| RuleState::new(rule.version));
            let transition = rule_state.step(result, sample.at, timing, || self.can_open_alert());
            if let Some(transition) = transition {
                let value = Some(value);
                self.apply_transition(context, transition, rule, rule_state, sample.at, value);
            }
        }
        rule_state
    }

    /// Opens `no_data` alerts for a metric that was last received at `received_at`.
    pub(super) fn raise_no_data(
        &mut self,
        rule_states: &mut BTreeMap<Uuid, RuleState>,
        context: Context<'_>,
        metric: &MetricName,
        received_at: Timestamp,
    ) {
        let Context { now, policy, .. } = context;
        for rule in context.no_data_rules(metric) {
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
            let can_open_alert = || self.can_open_alert();
            let transition =
                rule_state.raise(received_at, now, policy.rule_hold_down_s, can_open_alert);
            if let Some(transition) = transition {
                self.apply_transition(context, transition, rule, rule_state, now, None);
            }
        }
    }

    /// Resolves `no_data` alerts for a metric that was received at `received_at`.
    pub(super) fn resolve_no_data(
        &mut self,
        rule_states: &mut BTreeMap<Uuid, RuleState>,
        context: Context<'_>,
        metric: &MetricName,
        received_at: Timestamp,
    ) {
        // The resolve notification is due a hold-down after the receipt, not after the batch.
        let context = Context { now: received_at, ..context };
        for rule in context.no_data_rules(metric) {
            let Some(rule_state) = rule_states.get_mut(&rule.rule_id) else { continue };
            // A sample that was received before the alert opened, and is only processed now, does
            // not end it.
            if rule_state.open_alert().is_some_and(|alert| alert.started_at < received_at)
                && let Some(transition) = rule_state.resolve(received_at)
            {
                self.apply_transition(context, transition, rule, rule_state, received_at, None);
            }
            if rule_state.is_idle(received_at, context.policy.rule_hold_down_s) {
                rule_states.remove(&rule.rule_id);
            }
        }
    }

    fn can_open_alert(&self) -> bool {
        let opens = |effect: &&Effect| matches!(effect, Effect::OpenAlert { .. });
        self.outbox.iter().filter(opens).count() < MAX_QUEUED_ALERTS
    }
}
