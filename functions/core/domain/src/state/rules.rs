//! How far the alert rules are with a device, and what its samples make of them (docs/alerts.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DeviceState, Effect, Notify, Rules};
use crate::alert::Alert;
use crate::message::{Body, Message};
use crate::metric::{Claim, MetricName, Point};
use crate::notice::{Notice, NoticeEvent};
use crate::rule::{
    Applying, Condition, Line, Patience, Phase, Raised, Reading, Rule, RuleSet, Sample, Told, Turn,
};
use crate::time::Timestamp;

/// Rules that are under way on a device at most: in their `for_s`, open, or in their hold-down. The state holds each of
/// them, and an item of DynamoDB ends at 400 KB.
const MAX_PHASES: usize = 200;

/// Alerts that wait in the outbox at most. The others begin with the next sample.
const MAX_OPENED: usize = 25;

/// The longest text of an alert, in characters.
const MAX_MESSAGE: usize = 1_000;

/// How far the alert rules are with a device. It holds nothing of rules that have nothing to say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The [`RuleSet::generation`] that it was computed with.
    pub generation: u64,
    /// How far the metrics are read on which there are rules.
    lines: BTreeMap<MetricName, Line>,
    /// Rules that are under way.
    phases: BTreeMap<Uuid, Phase>,
    /// When time alone may change something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) due: Option<Timestamp>,
    /// Samples that came after their turn, repeats included.
    #[serde(default)]
    pub late: u64,
}

impl Evaluation {
    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.phases.is_empty()
    }
}

/// The samples of a metric in some messages, and the last receipt of one.
struct Arrived {
    samples: Vec<Sample>,
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
        rules: &Rules,
    ) {
        let Some(now) = messages.iter().map(|message| message.received.received_at).max() else {
            return;
        };
        if self.has_no_rules(set) {
            return;
        }
        let device_type = self.device_type.clone();
        let applying = set.applying(&self.device_id, device_type.as_deref());
        let mut evaluation = self.renewed(applying, set.generation, now, rules);
        for (metric, arrived) in arrivals(messages, applying) {
            // What is not stored is not judged.
            if !self.has_metric(metric) {
                continue;
            }
            let line = evaluation
                .lines
                .entry(metric.clone())
                .or_insert_with(|| Line::after(known.get(metric), None));
            let (readings, late) = line.admit(arrived.samples, rules.reorder_s);
            line.received_at = line.received_at.max(Some(arrived.received_at));
            evaluation.late += late;
            let phases = &mut evaluation.phases;
            self.judge(phases, applying, metric, &readings, now, rules);
            self.end_silence(phases, applying, metric, arrived.received_at, rules);
        }
        if set.watches_silence {
            for metric in applying.among(self.latest.keys()) {
                // It was received before there was a rule: silence counts from now on.
                let line = evaluation.lines.entry(metric.clone());
                line.or_insert_with(|| Line::after(self.latest.get(metric), Some(now)));
            }
        }
        self.evaluation = evaluation.with_deadline(applying, rules);
        self.arm(now, rules);
    }

    /// What the passing of time is to the alert rules, before [`DeviceState::watch`]. While ingest is behind, nobody
    /// knows what did not come.
    pub fn watch_rules(
        &mut self,
        now: Timestamp,
        silence_counts: bool,
        set: &RuleSet,
        rules: &Rules,
    ) {
        if self.has_no_rules(set) {
            return;
        }
        let device_type = self.device_type.clone();
        let applying = set.applying(&self.device_id, device_type.as_deref());
        let mut evaluation = self.renewed(applying, set.generation, now, rules);
        if silence_counts {
            let Evaluation { lines, phases, .. } = &mut evaluation;
            for (metric, line) in lines {
                let Some(received_at) = line.received_at else { continue };
                let waits_until = received_at.plus_seconds(i64::from(rules.reorder_s));
                if line.holds() && waits_until <= now {
                    let readings = line.flush();
                    self.judge(phases, applying, metric, &readings, now, rules);
                }
                self.begin_silence(phases, applying, metric, received_at, now, rules);
            }
        }
        self.evaluation = evaluation.with_deadline(applying, rules);
    }

    fn has_no_rules(&mut self, set: &RuleSet) -> bool {
        if !self.registered {
            self.evaluation = Evaluation::default();
        }
        !self.registered || (set.is_empty() && self.evaluation.is_empty())
    }

    /// The evaluation without the rules that are gone, whose alerts end, and with those that were changed begun anew.
    fn renewed(
        &mut self,
        applying: Applying<'_>,
        generation: u64,
        now: Timestamp,
        rules: &Rules,
    ) -> Evaluation {
        let mut evaluation = std::mem::take(&mut self.evaluation);
        evaluation.generation = generation;
        evaluation.lines.retain(|metric, _| applying.is_on(metric));
        evaluation.phases.retain(|rule_id, phase| match applying.find(*rule_id) {
            Some(rule) => {
                if phase.version != rule.version {
                    phase.version = rule.version;
                    phase.since = None;
                }
                true
            }
            None => {
                if phase.resolve(now).is_some()
                    && let Some(raised) = &phase.alert
                {
                    self.end(*rule_id, raised, now, now, "the rule does not apply any more", rules);
                }
                false
            }
        });
        evaluation
    }

    /// What readings in their turn are to the rules on their metric.
    fn judge(
        &mut self,
        phases: &mut BTreeMap<Uuid, Phase>,
        applying: Applying<'_>,
        metric: &MetricName,
        readings: &[Reading],
        now: Timestamp,
        rules: &Rules,
    ) {
        for rule in applying.on(metric) {
            let patience = Patience { for_s: rule.for_s, hold_down_s: rules.rule_hold_down_s };
            let mut phase = phases.remove(&rule.rule_id);
            for reading in readings {
                let Some((value, judgement)) = rule.condition.judge(reading) else { continue };
                if phase.is_none() && (!judgement.raises || phases.len() >= MAX_PHASES) {
                    continue;
                }
                let phase = phase.get_or_insert_with(|| Phase::new(rule.version));
                let may_open = || self.may_open();
                if let Some(turn) = phase.step(judgement, reading.at, patience, may_open) {
                    self.follow_turn(turn, rule, phase, (reading.at, now), Some(value), rules);
                }
            }
            let end = readings.last().map_or(Timestamp::min(), |reading| reading.at);
            let phase = phase.filter(|phase| !phase.is_idle(end, rules.rule_hold_down_s));
            phases.extend(phase.map(|phase| (rule.rule_id, phase)));
        }
    }

    /// Nothing of a metric was received since `received_at`.
    fn begin_silence(
        &mut self,
        phases: &mut BTreeMap<Uuid, Phase>,
        applying: Applying<'_>,
        metric: &MetricName,
        received_at: Timestamp,
        now: Timestamp,
        rules: &Rules,
    ) {
        for rule in silences(applying, metric) {
            let due = received_at.plus_seconds(i64::from(rule.for_s));
            let is_known = phases.contains_key(&rule.rule_id);
            if now < due || (!is_known && phases.len() >= MAX_PHASES) {
                continue;
            }
            let phase = phases.entry(rule.rule_id).or_insert_with(|| Phase::new(rule.version));
            if phase.open().is_some() {
                continue;
            }
            let hold_down_s = rules.rule_hold_down_s;
            let raised = phase.raise(received_at, now, hold_down_s, || self.may_open());
            if let Some(turn) = raised {
                self.follow_turn(turn, rule, phase, (now, now), None, rules);
            }
        }
    }

    /// Something of a metric was received.
    fn end_silence(
        &mut self,
        phases: &mut BTreeMap<Uuid, Phase>,
        applying: Applying<'_>,
        metric: &MetricName,
        received_at: Timestamp,
        rules: &Rules,
    ) {
        for rule in silences(applying, metric) {
            let Some(phase) = phases.get_mut(&rule.rule_id) else { continue };
            // What was received before the silence began, and is handled only now, does not break it.
            if phase.open().is_some_and(|alert| alert.began < received_at)
                && let Some(turn) = phase.resolve(received_at)
            {
                self.follow_turn(turn, rule, phase, (received_at, received_at), None, rules);
            }
            if phase.is_idle(received_at, rules.rule_hold_down_s) {
                phases.remove(&rule.rule_id);
            }
        }
    }

    fn may_open(&self) -> bool {
        let opens = |effect: &&Effect| matches!(effect, Effect::OpenAlert { .. });
        self.outbox.iter().filter(opens).count() < MAX_OPENED
    }

    /// What follows from a turn at `at` that was found out at `now`.
    fn follow_turn(
        &mut self,
        turn: Turn,
        rule: &Rule,
        phase: &mut Phase,
        (at, now): (Timestamp, Timestamp),
        value: Option<f64>,
        rules: &Rules,
    ) {
        let Some(raised) = &mut phase.alert else { return };
        let alert_id = raised.alert_id(rule.rule_id, &self.device_id);
        let says = || rule.says(&self.device_id, raised.began, value);
        match turn {
            Turn::Opened(began) => {
                let alert = Alert {
                    alert_id,
                    device_id: self.device_id.clone(),
                    alert_type: rule.condition.kind().to_owned(),
                    severity: rule.severity,
                    message: says().chars().take(MAX_MESSAGE).collect(),
                    acknowledged: false,
                    acknowledged_at: None,
                    acknowledged_by: None,
                    resolved_at: None,
                    created_at: began,
                    rule_id: Some(rule.rule_id),
                };
                if rule.notify && rules.notify != Notify::Nobody {
                    raised.told = Some(Told {
                        alert_type: alert.alert_type.clone(),
                        severity: alert.severity,
                        rule: rule.name.clone(),
                    });
                }
                let notice = raised.told.as_ref().map(|_| Notice::opened(&alert, at));
                self.leave(Effect::OpenAlert { alert });
                if let Some(notice) = notice {
                    self.tell(notice, now);
                }
            }
            Turn::Reopened => {
                let message = says();
                let told = raised.told.clone();
                self.revise(alert_id, None, None);
                if let Some(told) = told
                    && !self.take_back_end(alert_id)
                {
                    let event = NoticeEvent::Opened;
                    self.tell(self.notice(alert_id, told, event, at, message), now);
                }
            }
            Turn::Resolved => {
                let raised = raised.clone();
                let how = match value {
                    Some(value) => format!("{} is {value}", rule.metric),
                    None => format!("{} is received again", rule.metric),
                };
                self.end(rule.rule_id, &raised, at, now, &how, rules);
            }
        }
    }

    /// An alert of a rule ended at `at`, which was found out at `now`.
    fn end(
        &mut self,
        rule_id: Uuid,
        raised: &Raised,
        at: Timestamp,
        now: Timestamp,
        how: &str,
        rules: &Rules,
    ) {
        let alert_id = raised.alert_id(rule_id, &self.device_id);
        self.revise(alert_id, Some(at), None);
        if let Some(told) = raised.told.clone() {
            let message = format!("{} of {} is over: {how}", told.rule, self.device_id);
            let notice = self.notice(alert_id, told, NoticeEvent::Resolved, at, message);
            self.tell(notice, now.plus_seconds(i64::from(rules.rule_hold_down_s)));
        }
    }

    fn notice(
        &self,
        alert_id: Uuid,
        told: Told,
        event: NoticeEvent,
        at: Timestamp,
        message: String,
    ) -> Notice {
        let Told { alert_type, severity, .. } = told;
        let device_id = self.device_id.clone();
        Notice { alert_id, device_id, alert_type, severity, event, at, message }
    }
}

/// The samples in messages by their metrics, of those on which there are rules.
fn arrivals<'m>(
    messages: &[&'m Message],
    applying: Applying<'_>,
) -> BTreeMap<&'m MetricName, Arrived> {
    let mut arrivals: BTreeMap<&MetricName, Arrived> = BTreeMap::new();
    for message in messages {
        let Body::Telemetry(measurements) = &message.body else { continue };
        let received_at = message.received.received_at;
        for m in measurements {
            let arrived = match arrivals.get_mut(&m.metric) {
                Some(arrived) => arrived,
                None if applying.is_on(&m.metric) => arrivals
                    .entry(&m.metric)
                    .or_insert_with(|| Arrived { samples: Vec::new(), received_at }),
                None => continue,
            };
            arrived.received_at = arrived.received_at.max(received_at);
            arrived.samples.push(Sample {
                at: m.ts,
                ordinal: m.ordinal,
                value: m.value,
                claim: Claim { ts: message.ts, mid: message.mid },
            });
        }
    }
    arrivals
}

/// The rules about a metric that does not come.
fn silences<'a>(applying: Applying<'a>, metric: &MetricName) -> impl Iterator<Item = &'a Rule> {
    applying.on(metric).filter(|rule| rule.condition == Condition::NoData)
}

impl Evaluation {
    /// As it is kept: nothing, if there is nothing to remember.
    fn with_deadline(self, applying: Applying<'_>, rules: &Rules) -> Self {
        match self.is_empty() {
            true => Self::default(),
            false => Self { due: self.deadline(applying, rules), ..self },
        }
    }

    /// When time alone may change something next.
    fn deadline(&self, applying: Applying<'_>, rules: &Rules) -> Option<Timestamp> {
        let mut deadline: Option<Timestamp> = None;
        let mut may_be = |at: Timestamp| deadline = Some(deadline.map_or(at, |held| held.min(at)));
        for (metric, line) in &self.lines {
            let Some(received_at) = line.received_at else { continue };
            if line.holds() {
                may_be(received_at.plus_seconds(i64::from(rules.reorder_s)));
            }
            for rule in silences(applying, metric) {
                let phase = self.phases.get(&rule.rule_id);
                if phase.is_none_or(|phase| phase.open().is_none()) {
                    may_be(received_at.plus_seconds(i64::from(rule.for_s)));
                }
            }
        }
        deadline
    }
}

#[cfg(test)]
mod tests;
