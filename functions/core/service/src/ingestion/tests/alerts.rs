//! Alert rules and notifications.

use meter_domain::alert::Severity;
use meter_domain::metric::MetricName;
use meter_domain::notification::NotificationEvent;
use meter_domain::rule::{Condition, Limits, Operator, Rule, Scope};
use meter_domain::state::NotificationPolicy;
use meter_store::RuleStore;

use super::*;

fn rule(metric: &str, for_s: u32) -> Rule {
    Rule {
        rule_id: meter_domain::id::new_id(second(0)),
        name: "high".to_owned(),
        enabled: true,
        scope: Scope::All,
        metric: MetricName::parse(metric).unwrap(),
        condition: Condition::Threshold(Limits::threshold(Operator::Greater, 10.0, None).unwrap()),
        for_s,
        severity: Severity::Critical,
        message: None,
        notify: true,
        created_at: second(0),
        updated_at: second(0),
        version: 1,
    }
}

fn notifying_config() -> IngestionConfig {
    let policy = DevicePolicy {
        notify: NotificationPolicy::All,
        rule_hold_down_s: 0,
        ..test_config().policy
    };
    IngestionConfig { policy, ..test_config() }
}

#[tokio::test]
async fn rule_opens_one_alert_and_notifies_once() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    RuleStore::create(&memory, &rule("pf", 10)).await.unwrap();
    // Two processes in turn ingest each message.
    let functions =
        [ingestion_with(&memory, notifying_config()), ingestion_with(&memory, notifying_config())];
    for (n, value) in [20.0, 20.0, 20.0, 20.0, 1.0].into_iter().enumerate() {
        for function in &functions {
            let batch = [reading("a", n as i64 * 5, "pf", value)];
            assert!(function.ingest(&batch, now()).await.failed.is_empty());
        }
    }
    let alerts = memory.alerts(&id("a"));
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!((alerts[0].created_at, alerts[0].resolved_at), (second(0), Some(second(20))));
    let notified: Vec<_> = memory.notifications().iter().map(|n| (n.event, n.at)).collect();
    assert_eq!(
        notified,
        [(NotificationEvent::Opened, second(10)), (NotificationEvent::Resolved, second(20))]
    );
    assert!(memory.state(&id("a")).unwrap().outbox.is_empty());
}

#[tokio::test]
async fn thousand_rules_add_no_store_call_to_a_batch() {
    let mut writes = Vec::new();
    for rules in [0, 1_000] {
        let memory = MemoryStores::new();
        register(&memory, "a").await;
        for n in 0..rules {
            RuleStore::create(&memory, &rule(&format!("m{n}"), 0)).await.unwrap();
        }
        let ingestion = ingestion(&memory);
        for s in 0..20 {
            ingestion.ingest(&[reading("a", s, "pf", 0.5)], now()).await;
        }
        assert_eq!(memory.calls(Operation::ReadRules), 1);
        ingestion.ingest(&[reading("a", 21, "pf", 0.5)], now().plus_seconds(60)).await;
        assert_eq!(memory.calls(Operation::ReadRules), 2);
        writes.push(memory.calls(Operation::SaveStates));
    }
    assert_eq!(writes[0], writes[1]);
}

#[tokio::test]
async fn cached_rules_are_read_again_when_a_state_has_a_newer_generation() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    let (old, new) = (ingestion(&memory), ingestion(&memory));
    old.ingest(&[reading("a", 1, "pf", 0.5)], now()).await;
    RuleStore::create(&memory, &rule("pf", 0)).await.unwrap();
    new.ingest(&[reading("a", 2, "pf", 11.0)], now()).await;
    old.ingest(&[reading("a", 3, "pf", 12.0)], now()).await;
    let alerts = memory.alerts(&id("a"));
    assert_eq!((alerts.len(), alerts[0].resolved_at), (1, None), "{alerts:?}");
}

#[tokio::test]
async fn expired_rules_are_used_if_unreadable_and_messages_fail_without_rules() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    let ingestion = ingestion(&memory);
    memory.fail_always(Operation::ReadRules);
    let batch = [reading("a", 1, "pf", 0.5)];
    assert_eq!(ingestion.ingest(&batch, now()).await.failed, BTreeSet::from([0]));
    memory.clear_faults();
    assert!(ingestion.ingest(&batch, now()).await.failed.is_empty());
    memory.fail_always(Operation::ReadRules);
    let later = now().plus_seconds(600);
    assert!(ingestion.ingest(&[reading("a", 2, "pf", 0.5)], later).await.failed.is_empty());
}

#[tokio::test]
async fn notification_is_sent_when_the_topic_is_available_again() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    RuleStore::create(&memory, &rule("pf", 0)).await.unwrap();
    let ingestion = ingestion_with(&memory, notifying_config());
    memory.fail_always(Operation::Notify);
    assert!(ingestion.ingest(&[reading("a", 1, "pf", 11.0)], now()).await.failed.is_empty());
    assert!(ingestion.ingest(&[reading("a", 2, "pf", 12.0)], now()).await.failed.is_empty());
    assert_eq!(
        memory.calls(Operation::Notify),
        1,
        "a failed notification is not retried with every batch"
    );
    memory.clear_faults();
    let later = now().plus_seconds(60);
    assert!(ingestion.ingest(&[reading("a", 3, "pf", 12.0)], later).await.failed.is_empty());
    assert_eq!(memory.notifications().len(), 1);
    assert!(memory.state(&id("a")).unwrap().outbox.is_empty());
}

#[tokio::test]
async fn late_sample_is_counted() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    RuleStore::create(&memory, &rule("pf", 0)).await.unwrap();
    let ingestion = ingestion_with(&memory, notifying_config());
    let outcome = ingestion.ingest(&[reading("a", 10, "pf", 11.0)], now()).await;
    assert_eq!(outcome.counts.late_samples, 0);
    let outcome = ingestion.ingest(&[reading("a", 5, "pf", 12.0)], now()).await;
    assert_eq!(outcome.counts.late_samples, 1);
}

#[tokio::test]
async fn notification_is_given_up_after_a_day() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    RuleStore::create(&memory, &rule("pf", 0)).await.unwrap();
    let ingestion = ingestion_with(&memory, notifying_config());
    memory.fail_always(Operation::Notify);
    ingestion.ingest(&[reading("a", 1, "pf", 11.0)], now()).await;
    assert_eq!(memory.state(&id("a")).unwrap().outbox.len(), 1);
    let next_day = now().plus_seconds(24 * 3_600);
    ingestion.ingest(&[reading("a", 3, "pf", 12.0)], next_day).await;
    assert!(memory.state(&id("a")).unwrap().outbox.is_empty());
}

#[tokio::test]
async fn failed_effect_does_not_repeat_notifications() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    RuleStore::create(&memory, &rule("pf", 0)).await.unwrap();
    let ingestion = ingestion_with(&memory, notifying_config());
    memory.fail_next(Operation::OpenAlert, Fault::LoseResponse);
    let batch = [reading("a", 1, "pf", 11.0)];
    assert_eq!(ingestion.ingest(&batch, now()).await.failed, BTreeSet::from([0]));
    assert!(ingestion.ingest(&batch, now()).await.failed.is_empty());
    assert_eq!((memory.alerts(&id("a")).len(), memory.notifications().len()), (1, 1));
}

#[tokio::test]
async fn device_notifications_wait_for_the_hold_down() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    let ingestion = ingestion_with(&memory, notifying_config());
    let status = |status: &str, s: i64| {
        let payload = json!({"v": 2, "device_id": "a", "ts": second(s), "status": status});
        delivery("iot/a/status", payload.to_string(), s)
    };
    for (word, s) in [("online", 1), ("offline", 2), ("online", 3), ("offline", 4), ("online", 5)] {
        ingestion.ingest(&[status(word, s)], second(s)).await;
    }
    let notified = || memory.notifications().iter().map(|n| (n.event, n.at)).collect::<Vec<_>>();
    assert_eq!(notified(), [(NotificationEvent::Opened, second(2))]);
    ingestion.ingest(&[reading("a", 400, "pf", 1.0)], second(401)).await;
    assert_eq!(
        notified(),
        [(NotificationEvent::Opened, second(2)), (NotificationEvent::Resolved, second(5))]
    );
}
