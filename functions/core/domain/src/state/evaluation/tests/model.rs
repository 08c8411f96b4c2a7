//! Comparison with a reference model: the definition of docs/alerts.md over all samples, without
//! state.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::notification::NotificationEvent;

/// Transitions of a rule over all judged samples, in the format of [`System::alerts`].
fn transitions(rule: &Rule, judged: &[(i64, f64)], hold_down_s: i64) -> Vec<String> {
    let raises = |value: f64| value > 10.0;
    let clears = |value: f64| value <= 5.0;
    let for_s = i64::from(rule.for_s);
    let mut transitions = Vec::new();
    // `begin` is the index after the sample that ended the last alert.
    let (mut open, mut begin, mut ended): (bool, usize, Option<i64>) = (false, 0, None);
    for now in 0..judged.len() {
        let (at, value) = judged[now];
        if open {
            if clears(value) {
                transitions.push(format!("-{at}"));
                (open, begin, ended) = (false, now + 1, Some(at));
            }
            continue;
        }
        // The longest suffix of samples that raise.
        let raising = judged[begin..=now].iter().rev().take_while(|(_, v)| raises(*v)).last();
        let Some((since, _)) = raising else { continue };
        if at - since < for_s {
            continue;
        }
        open = true;
        match ended {
            Some(ended) if at < ended + hold_down_s => transitions.push("~".to_owned()),
            _ => transitions.push(format!("+{since}")),
        }
    }
    transitions
}

/// The judged samples in the order of judgement: each sample once, in the order of time, unless
/// a newer one was judged before. Samples less than `reorder_s` older than the newest are held
/// back.
fn judged(batches: &[Vec<(i64, f64)>], reorder_s: i64) -> Vec<(i64, f64)> {
    let mut judged: Vec<(i64, f64)> = Vec::new();
    let mut waiting: BTreeMap<i64, f64> = BTreeMap::new();
    for batch in batches {
        for (at, value) in batch {
            if judged.last().is_none_or(|(last, _)| last < at) {
                waiting.insert(*at, *value);
            }
        }
        let newest = waiting.keys().max().copied();
        let held = waiting.iter().map(|(at, value)| (*at, *value));
        judged.extend(held.filter(|(at, _)| Some(at + reorder_s) <= newest));
        waiting.retain(|at, _| Some(*at + reorder_s) > newest);
    }
    judged
}

/// Samples at increasing seconds.
fn series() -> impl Strategy<Value = Vec<(i64, f64)>> {
    let value = prop::sample::select(vec![1.0, 5.0, 7.0, 10.0, 11.0, 12.0]);
    prop::collection::vec((1_i64..6, value), 1..60).prop_map(|steps| {
        let mut at = 0;
        steps
            .into_iter()
            .map(|(step, value)| {
                at += step;
                (at, value)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// The effects on alerts equal those of the reference model for any split into messages and
    /// batches, any repeats and any disorder.
    #[test]
    fn alerts_match_the_reference_model(
        series in series(), for_s in 0_u32..15, hold_down_s in 0_u32..30, reorder_s in 0_u32..12,
        cuts in prop::collection::vec((1_usize..6, 1_usize..4), 1..30),
        jumps in prop::collection::vec(0_i64..20, 60),
        repeats in prop::collection::vec(0_usize..60, 0..20),
    ) {
        // Some of the disorder exceeds the reorder window.
        let mut arrivals: Vec<_> = series.iter().enumerate().map(|(i, s)| (s.0 + jumps[i], *s)).collect();
        for i in repeats.into_iter().filter(|i| *i < series.len()) {
            arrivals.push((series[i].0 + 20, series[i]));
        }
        arrivals.sort_by_key(|(arrives, _)| *arrives);
        let mut rest: Vec<_> = arrivals.into_iter().map(|(_, sample)| sample).collect();
        let rule = above_ten(for_s);
        let mut system = System::new([rule.clone()]);
        system.policy.reorder_s = reorder_s;
        system.policy.rule_hold_down_s = hold_down_s;
        let mut batches: Vec<Vec<(i64, f64)>> = Vec::new();
        let mut cuts = cuts.into_iter().cycle();
        let mut received = 0;
        while !rest.is_empty() {
            let (size, messages) = cuts.next().unwrap();
            let mut batch = Vec::new();
            for _ in 0..messages {
                let samples: Vec<_> = rest.drain(..size.min(rest.len())).collect();
                received += 1;
                if !samples.is_empty() { batch.push(message(received, &samples)); }
            }
            system.take(&batch);
            batches.push(batch.iter().flat_map(|m| match &m.body {
                Body::Telemetry(measurements) => measurements.iter().map(|m| (m.time.as_seconds(), m.value)).collect(),
                _ => Vec::new(),
            }).collect());
        }
        let judged = judged(&batches, i64::from(reorder_s));
        let expected = transitions(&rule, &judged, i64::from(hold_down_s));
        // Of the changes of one alert in one batch, only the last one is executed.
        prop_assert_eq!(actual_alerts(&system.effects), expected_alerts(&expected));
        // Notifications about an alert alternate between opened and resolved.
        let mut last_event = BTreeMap::new();
        for effect in &system.effects {
            if let Effect::Notify { notification, .. } = effect {
                let before = last_event.insert(notification.alert_id, notification.event);
                prop_assert_ne!(before.unwrap_or(NotificationEvent::Resolved), notification.event);
            }
        }
    }
}

/// Start and end of each alert.
fn actual_alerts(effects: &[Effect]) -> Vec<(i64, Option<i64>)> {
    let mut alerts: Vec<(Uuid, i64, Option<i64>)> = Vec::new();
    for effect in effects {
        match effect {
            Effect::OpenAlert { alert } => {
                alerts.push((alert.alert_id, alert.created_at.as_seconds(), None));
            }
            Effect::ReviseAlert { alert_id, revision } => {
                let alert = alerts.iter_mut().find(|(id, ..)| id == alert_id).unwrap();
                alert.2 = revision.resolved_at.map(Timestamp::as_seconds);
            }
            _ => {}
        }
    }
    alerts.into_iter().map(|(_, began, ended)| (began, ended)).collect()
}

fn expected_alerts(transitions: &[String]) -> Vec<(i64, Option<i64>)> {
    let mut alerts: Vec<(i64, Option<i64>)> = Vec::new();
    for transition in transitions {
        let (kind, at) = transition.split_at(1);
        match (kind, alerts.last_mut()) {
            ("+", _) => alerts.push((at.parse().unwrap(), None)),
            ("-", Some(last)) => last.1 = Some(at.parse().unwrap()),
            (_, Some(last)) => last.1 = None,
            (_, None) => panic!("{transitions:?}"),
        }
    }
    alerts
}
