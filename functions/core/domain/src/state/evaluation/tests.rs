mod model;

use serde_json::json;

use super::*;
use crate::alert::{Alert, Severity};
use crate::id::{DeviceId, new_id};
use crate::message::{ReceivedMessage, parse};
use crate::rule::{Limits, MessageTemplate, Operator, Scope};
use crate::state::{Effect, NotificationPolicy};

fn second(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1_000).unwrap()
}

fn metric(name: &str) -> MetricName {
    MetricName::parse(name).unwrap()
}

/// A rule on `x` that raises above 10 and clears at 5.
fn above_ten(for_s: u32) -> Rule {
    let limits = Limits::threshold(Operator::Greater, 10.0, Some(5.0)).unwrap();
    rule(Condition::Threshold(limits), for_s)
}

fn rule(condition: Condition, for_s: u32) -> Rule {
    Rule {
        rule_id: new_id(second(0)),
        name: "hot".to_owned(),
        enabled: true,
        scope: Scope::All,
        metric: metric("x"),
        condition,
        for_s,
        severity: Severity::Critical,
        message: None,
        notify: true,
        created_at: second(0),
        updated_at: second(0),
        version: 1,
    }
}

/// A message received at second `received` with values of `x` at seconds.
fn message(received: i64, samples: &[(i64, f64)]) -> Message {
    let measurements: Vec<_> =
        samples.iter().map(|(s, v)| json!({"type": "x", "ts": second(*s), "val": v})).collect();
    let payload = json!({"v": 2, "device_id": "m", "ts": second(received), "seq": received,
        "msg_type": "telemetry", "measurements": measurements});
    let topic = "iot/m/telemetry".to_owned();
    let received_at = second(received);
    parse(&ReceivedMessage { topic, payload: payload.to_string().into(), received_at }).unwrap()
}

/// A device, its rules, and the effects that were executed so far.
struct System {
    state: DeviceState,
    set: RuleSet,
    policy: DevicePolicy,
    effects: Vec<Effect>,
}

impl System {
    fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let mut state = DeviceState::new(DeviceId::parse("m").unwrap());
        let policy = DevicePolicy {
            notify: NotificationPolicy::RulesOnly,
            rule_hold_down_s: 60,
            ..DevicePolicy::default()
        };
        state.register(second(0), &policy);
        Self { state, set: RuleSet::new(rules, 1), policy, effects: Vec::new() }
    }

    fn take(&mut self, messages: &[Message]) {
        let messages: Vec<&Message> = messages.iter().collect();
        let known = self.state.latest.clone();
        self.state.apply(&messages, &self.policy);
        self.state.evaluate(&messages, &known, &self.set, &self.policy);
        // The state after a round trip through the store.
        let json = serde_json::to_string(&self.state).unwrap();
        let stored: DeviceState = serde_json::from_str(&json).unwrap();
        assert_eq!(stored.evaluation, self.state.evaluation);
        self.execute_effects(messages.last().map_or(second(0), |last| last.received.received_at));
    }

    fn receive(&mut self, received: i64, samples: &[(i64, f64)]) {
        self.take(&[message(received, samples)]);
    }

    fn check(&mut self, now: i64) {
        self.state.check_rules(second(now), true, &self.set, &self.policy);
        self.state.check(second(now), false, &self.policy);
        self.execute_effects(second(now));
    }

    fn execute_effects(&mut self, now: Timestamp) {
        let is_due = |effect: &&Effect| effect.not_before().is_none_or(|at| at <= now);
        let due: Vec<_> = self.state.outbox.iter().filter(is_due).cloned().collect();
        self.state.outbox.replace(&due, &[]);
        self.effects.extend(due);
        self.state.version += 1;
    }

    /// Alert effects: `+` with the start of the cause, `-` with the end, `~` for a reopening.
    fn alerts(&self) -> Vec<String> {
        let alert_effect = |effect: &Effect| match effect {
            Effect::OpenAlert { alert } => Some(format!("+{}", alert.created_at.as_seconds())),
            Effect::ReviseAlert { revision, .. } => Some(match revision.resolved_at {
                Some(at) => format!("-{}", at.as_seconds()),
                None => "~".to_owned(),
            }),
            _ => None,
        };
        self.effects.iter().filter_map(alert_effect).collect()
    }

    /// The first alert as it was opened.
    fn opened(&self) -> &Alert {
        let mut effects = self.effects.iter();
        let opened = effects.find_map(|effect| match effect {
            Effect::OpenAlert { alert } => Some(alert),
            _ => None,
        });
        opened.unwrap()
    }

    fn notifications(&self) -> Vec<(&'static str, i64)> {
        let notification = |effect: &Effect| match effect {
            Effect::Notify { notification, .. } => {
                Some((notification.event.as_str(), notification.at.as_seconds()))
            }
            _ => None,
        };
        self.effects.iter().filter_map(notification).collect()
    }
}

#[test]
fn threshold_opens_one_alert_and_clear_level_resolves_it() {
    let mut system = System::new([above_ten(0)]);
    system.receive(1, &[(1, 9.0)]);
    system.receive(2, &[(2, 11.0)]);
    system.receive(3, &[(3, 12.0), (4, 7.0)]);
    assert_eq!(system.alerts(), ["+2"]);
    system.receive(5, &[(5, 5.0)]);
    assert_eq!(system.alerts(), ["+2", "-5"]);
    let alert = system.opened();
    assert_eq!(alert.message, "hot: x of m is 11 (> 10), since 1970-01-01T00:00:02Z");
    assert_eq!((alert.alert_type.as_str(), alert.severity), ("threshold", Severity::Critical));
}

#[test]
fn condition_must_hold_at_every_sample_for_the_duration() {
    let mut system = System::new([above_ten(10)]);
    system.receive(1, &[(1, 11.0), (6, 11.0)]);
    system.receive(8, &[(8, 10.0), (9, 11.0)]);
    system.receive(11, &[(11, 11.0), (18, 11.0)]);
    assert!(system.alerts().is_empty());
    system.receive(19, &[(19, 11.0)]);
    system.receive(40, &[(40, 11.0)]);
    assert_eq!(system.alerts(), ["+9"]);
}

#[test]
fn late_and_repeated_samples_change_no_verdict() {
    let mut system = System::new([above_ten(0)]);
    let high = message(10, &[(10, 11.0)]);
    system.take(&[message(12, &[(12, 4.0)]), high.clone()]);
    assert_eq!(system.alerts(), ["+10", "-12"]);
    system.take(&[high.clone(), message(5, &[(5, 99.0)])]);
    assert_eq!(system.alerts(), ["+10", "-12"]);
    assert_eq!(system.state.evaluation.late, 2);
}

#[test]
fn samples_older_than_the_latest_point_at_rule_creation_are_late() {
    let mut system = System::new([]);
    system.receive(10, &[(10, 1.0)]);
    system.set = RuleSet::new([above_ten(0)], 2);
    system.receive(11, &[(9, 50.0)]);
    assert!(system.alerts().is_empty());
}

#[test]
fn reopened_alert_sends_no_resolve_notification() {
    let mut system = System::new([above_ten(0)]);
    system.receive(1, &[(1, 11.0)]);
    system.receive(2, &[(2, 1.0)]);
    system.receive(30, &[(30, 11.0)]);
    assert_eq!(system.alerts(), ["+1", "-2", "~"]);
    assert_eq!(system.notifications(), [("opened", 1)]);
    system.receive(40, &[(40, 1.0)]);
    system.check(99);
    assert_eq!(system.notifications(), [("opened", 1)]);
    assert_eq!(system.state.next_check, Some(second(120)));
    system.check(120);
    assert_eq!(system.notifications(), [("opened", 1), ("resolved", 40)]);
    system.receive(130, &[(130, 11.0)]);
    assert_eq!(system.alerts(), ["+1", "-2", "~", "-40", "+130"]);
    assert_eq!(system.notifications().last(), Some(&("opened", 130)));
}

#[test]
fn reopening_after_resolve_notification_notifies_again() {
    let mut system = System::new([above_ten(0)]);
    system.receive(1, &[(1, 11.0)]);
    system.receive(2, &[(2, 1.0)]);
    // More time passed at the broker than on the clock of the device.
    system.check(70);
    system.receive(80, &[(30, 11.0)]);
    assert_eq!(system.alerts(), ["+1", "-2", "~"]);
    assert_eq!(system.notifications(), [("opened", 1), ("resolved", 2), ("opened", 30)]);
}

#[test]
fn disabled_rule_resolves_its_alert_and_changed_rule_restarts() {
    let rule = above_ten(10);
    let mut system = System::new([rule.clone()]);
    system.receive(1, &[(1, 11.0)]);
    system.set = RuleSet::new([Rule { version: 2, ..rule.clone() }], 2);
    system.receive(11, &[(11, 11.0)]);
    assert!(system.alerts().is_empty(), "the changed rule has seen one value");
    system.receive(21, &[(21, 11.0)]);
    assert_eq!(system.alerts(), ["+11"]);
    system.set = RuleSet::new([Rule { version: 3, enabled: false, ..rule }], 3);
    system.receive(22, &[(22, 11.0)]);
    assert_eq!(system.alerts(), ["+11", "-22"]);
    assert!(system.state.evaluation.is_empty());
}

#[test]
fn rule_applies_to_registered_devices_in_its_scope() {
    for (scope, alerts) in [
        (Scope::All, 1),
        (Scope::DeviceId(DeviceId::parse("m").unwrap()), 1),
        (Scope::DeviceId(DeviceId::parse("n").unwrap()), 0),
        (Scope::DeviceType("meter".to_owned()), 1),
        (Scope::DeviceType("pump".to_owned()), 0),
    ] {
        let mut system = System::new([Rule { scope: scope.clone(), ..above_ten(0) }]);
        system.state.device_type = Some("meter".to_owned());
        system.receive(1, &[(1, 11.0)]);
        assert_eq!(system.alerts().len(), alerts, "{scope:?}");
    }
    let mut unregistered = System::new([above_ten(0)]);
    unregistered.state.registered = false;
    unregistered.receive(1, &[(1, 11.0)]);
    assert!(unregistered.alerts().is_empty() && unregistered.state.evaluation.is_empty());
}

#[test]
fn rate_of_change_spans_messages() {
    let limits = Limits::threshold(Operator::Less, -2.0, None).unwrap();
    let mut system = System::new([rule(Condition::RateOfChange(limits), 0)]);
    system.receive(1, &[(10, 100.0)]);
    system.receive(2, &[(20, 85.0)]);
    assert!(system.alerts().is_empty());
    system.receive(3, &[(22, 80.0)]);
    assert_eq!(system.alerts(), ["+22"]);
}

#[test]
fn missing_data_opens_an_alert_and_a_sample_resolves_it() {
    let mut system = System::new([rule(Condition::NoData, 100)]);
    // A metric that was never received does not open an alert.
    system.check(1_000);
    assert!(system.alerts().is_empty());
    system.receive(1_000, &[(5, 1.0)]);
    system.check(1_099);
    assert!(system.alerts().is_empty());
    assert_eq!(
        system.state.next_check,
        Some(second(1_140)),
        "to the minute, and late rather than early"
    );
    system.check(1_140);
    system.check(1_200);
    assert_eq!(system.alerts(), ["+1000"]);
    // Received before the alert opened, and applied after it.
    system.receive(1_000, &[(6, 1.0)]);
    assert_eq!(system.alerts(), ["+1000"]);
    system.receive(1_230, &[(7, 1.0)]);
    assert_eq!(system.alerts(), ["+1000", "-1230"]);
}

#[test]
fn no_data_alert_does_not_open_while_ingest_is_behind() {
    let mut system = System::new([rule(Condition::NoData, 100)]);
    system.receive(1, &[(1, 1.0)]);
    system.state.check_rules(second(500), false, &system.set, &system.policy);
    system.state.check(second(500), false, &system.policy);
    assert!(system.state.outbox.is_empty() && system.state.next_check.is_some());
}

#[test]
fn no_data_counts_from_the_first_evaluation_of_the_rule() {
    let mut system = System::new([]);
    system.receive(1, &[(1, 1.0)]);
    system.set = RuleSet::new([rule(Condition::NoData, 100)], 1);
    let payload = json!({"v": 2, "device_id": "m", "ts": second(50), "status": "online"});
    let received_at = second(50);
    let status = ReceivedMessage {
        topic: "iot/m/status".to_owned(),
        payload: payload.to_string().into(),
        received_at,
    };
    system.take(&[parse(&status).unwrap()]);
    system.check(149);
    assert!(system.alerts().is_empty());
    system.check(150);
    assert_eq!(system.alerts(), ["+50"]);
}

#[test]
fn held_samples_are_judged_after_the_reorder_window() {
    let mut system = System::new([above_ten(0)]);
    system.policy.reorder_s = 30;
    system.receive(100, &[(10, 11.0)]);
    assert!(system.alerts().is_empty());
    assert_eq!(system.state.next_check, Some(second(180)));
    system.check(180);
    assert_eq!(system.alerts(), ["+10"]);
}

#[test]
fn state_size_is_bounded_for_hundreds_of_rules() {
    let mut system = System::new((0..400).map(|_| above_ten(0)));
    system.policy.rule_hold_down_s = 0;
    let mut largest = 0;
    for n in 0..10 {
        let samples: Vec<_> =
            (0..100).map(|i| (n * 200 + i, if i % 2 == 0 { 11.0 } else { 1.0 })).collect();
        let message = message(n * 200, &samples);
        let known = system.state.latest.clone();
        system.state.apply(&[&message], &system.policy);
        // No effect is executed in between, as during an outage of the stores.
        system.state.evaluate(&[&message], &known, &system.set, &system.policy);
        largest = largest.max(serde_json::to_string(&system.state).unwrap().len());
    }
    assert!(largest < 200_000, "{largest} bytes");
}

#[test]
fn alert_text_of_a_rule_replaces_placeholders() {
    let template = "{severity}: {metric} {value} {limit} on {device_id} since {since}, {{{rule}}}";
    let message = Some(MessageTemplate::parse(template).unwrap());
    let mut system = System::new([Rule { message, ..above_ten(0) }]);
    system.receive(2, &[(2, 11.5)]);
    let alert = system.opened();
    assert_eq!(alert.message, "critical: x 11.5 > 10 on m since 1970-01-01T00:00:02Z, {hot}");
}
