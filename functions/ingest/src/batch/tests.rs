use bytes::Bytes;
use meter_domain::alert::Severity;
use meter_domain::metric::MetricName;
use meter_domain::notification::NotificationEvent;
use meter_domain::rule::{Condition, Limits, Operator, Rule, Scope};
use meter_domain::state::NotificationPolicy;
use meter_domain::time::Timestamp;
use meter_service::message_backed_metrics::MessageBackedMetricStore;
use meter_service::point_reader;
use meter_store::{DeviceStore, PointQuery};
use meter_testing::memory::{Fault, MemoryStores, Operation};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn second(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1_000).unwrap()
}

fn id(device: &str) -> DeviceId {
    DeviceId::parse(device).unwrap()
}

fn delivery(topic: &str, payload: impl Into<Bytes>, received_s: i64) -> Delivery {
    let received = ReceivedMessage {
        topic: topic.to_owned(),
        payload: payload.into(),
        received_at: second(received_s),
    };
    Delivery { id: String::new(), received, parse_error: None }
}

/// A reading of device `device` made at second `s` and received a second later.
fn reading(device: &str, s: i64, metric: &str, value: f64) -> Delivery {
    let payload = json!({"v": 2, "device_id": device, "ts": second(s), "seq": s, "msg_type": "telemetry",
        "measurements": [{"type": metric, "val": value}]});
    delivery(&format!("iot/{device}/telemetry"), payload.to_string(), s + 1)
}

fn test_config() -> IngestConfig {
    IngestConfig {
        layout: Layout::Batch,
        policy: DevicePolicy { max_metrics: 2, ..DevicePolicy::default() },
        ttl_days: None,
        require_registration: false,
    }
}

type InMemory = MessageBackedMetricStore<MemoryStores, MemoryStores, MemoryStores>;
type IngestInMemory = Ingest<
    MemoryStores,
    MemoryStores,
    InMemory,
    MemoryStores,
    MemoryStores,
    MemoryStores,
    MemoryStores,
    MemoryStores,
    MemoryStores,
>;

fn ingest(memory: &MemoryStores) -> IngestInMemory {
    ingest_with(memory, test_config())
}

fn ingest_with(memory: &MemoryStores, choices: IngestConfig) -> IngestInMemory {
    let metrics = MessageBackedMetricStore::of_one(memory, 300);
    let alert_rules = RuleCache::new(memory.clone(), 60);
    let outbox = Outbox::of_one(memory);
    Ingest::new(memory.clone(), memory.clone(), metrics, outbox, alert_rules, choices)
}

/// A clock long after every message of these tests.
fn now() -> Timestamp {
    second(100_000)
}

async fn register(memory: &MemoryStores, device: &str) {
    let device = meter_domain::device::Device {
        id: meter_domain::id::new_id(second(0)),
        device_id: id(device),
        device_name: device.to_owned(),
        device_type: None,
        location: None,
        status: meter_domain::device::DeviceStatus::Active,
        metadata: serde_json::Map::new(),
        config: serde_json::Map::new(),
        created_at: second(0),
        updated_at: second(0),
        revision: 1,
        command_key: None,
        claimable: false,
        claimed_by: None,
    };
    let mut state = optimistic_update::read_state(memory, &device.device_id).await.unwrap();
    state.register(second(0), &DevicePolicy::default());
    DeviceStore::create(memory, &device, &state).await.unwrap();
}

async fn values(memory: &MemoryStores, device: &str) -> Vec<f64> {
    let query = PointQuery {
        device_id: id(device),
        start: Timestamp::min(),
        stop: Timestamp::max(),
        metric: None,
        after: None,
        limit: 100_000,
    };
    let page = point_reader::read(memory, &query).await.unwrap();
    assert_eq!(page.next, None);
    page.points.iter().map(|point| point.value).collect()
}

/// Every message of the index is where the index says.
async fn archived(memory: &MemoryStores, device: &str) -> usize {
    let heads: Vec<_> = memory
        .segments(&id(device))
        .into_iter()
        .filter_map(|p| Some((p.message_id, p.index_entry?)))
        .collect();
    for (message_id, index_entry) in &heads {
        let bytes = Archive::get(memory, &index_entry.location).await.unwrap().unwrap();
        archive::find_line(&bytes, &index_entry.location, *message_id).unwrap();
    }
    heads.len()
}

#[tokio::test]
async fn a_message_is_archived_indexed_and_in_the_metrics() {
    let memory = MemoryStores::new();
    let outcome = ingest(&memory)
        .handle(&[reading("a", 5, "pf", 0.5), reading("b", 5, "pf", 0.7)], now())
        .await;
    assert_eq!(outcome.failed, BTreeSet::new());
    assert_eq!((outcome.counts.stored, outcome.counts.unregistered), (2, 2));
    assert_eq!(memory.objects().len(), 1);
    assert_eq!((archived(&memory, "a").await, values(&memory, "a").await), (1, vec![0.5]));
    assert_eq!(
        memory.state(&id("a")).unwrap().presence.connection,
        meter_domain::state::Connection::Online
    );
}

#[tokio::test]
async fn the_same_messages_again_in_other_groups_store_nothing_new() {
    let memory = MemoryStores::new();
    let ingest = ingest(&memory);
    let all: Vec<_> = (0..20).map(|s| reading("a", s, "pf", s as f64)).collect();
    ingest.handle(&all, now()).await;
    for group in all.chunks(3) {
        let mut group = group.to_vec();
        group.push(group[0].clone());
        let outcome = ingest.handle(&group, now()).await;
        assert_eq!((outcome.failed.len(), outcome.counts.redelivered), (0, 1));
    }
    assert_eq!(archived(&memory, "a").await, 20);
    assert_eq!(values(&memory, "a").await, (0..20).map(f64::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_cannot_be_read_is_in_quarantine_with_its_reason_and_holds_nobody_up() {
    let memory = MemoryStores::new();
    let batch = [
        delivery("iot/a/telemetry", "nonsense", 1),
        reading("a", 5, "pf", 0.5),
        delivery("other", "{}", 2),
    ];
    let outcome = ingest(&memory).handle(&batch, now()).await;
    assert_eq!(
        (outcome.failed.len(), outcome.counts.quarantined, outcome.counts.stored),
        (0, 2, 1)
    );
    let entries = memory.quarantined();
    assert!(entries[0].reason.starts_with("payload: is not JSON"), "{}", entries[0].reason);
    let bytes = Archive::get(&memory, &entries[0].location).await.unwrap().unwrap();
    let found =
        archive::find_quarantined(&bytes, &entries[0].location, entries[0].message_id).unwrap();
    assert_eq!(found, "nonsense");
}

#[tokio::test]
async fn where_registration_is_required_strangers_go_to_quarantine() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    let ingest = ingest_with(&memory, IngestConfig { require_registration: true, ..test_config() });
    let outcome =
        ingest.handle(&[reading("a", 5, "pf", 0.5), reading("b", 5, "pf", 0.7)], now()).await;
    assert_eq!((outcome.counts.stored, outcome.counts.quarantined), (1, 1));
    assert_eq!(memory.quarantined()[0].reason, "device_id: is not registered");
}

#[tokio::test]
async fn a_message_that_is_not_stored_fails_alone_and_is_complete_when_it_comes_again() {
    let memory = MemoryStores::new();
    let batch =
        [reading("a", 1, "pf", 0.1), reading("a", 2, "pf", 0.2), reading("b", 1, "pf", 0.3)];
    memory.fail_messages([MessageId::of(&batch[1].received.topic, &batch[1].received.payload)]);
    let outcome = ingest(&memory).handle(&batch, now()).await;
    assert_eq!(outcome.failed, BTreeSet::from([1]));
    let latest = |memory: &MemoryStores| {
        memory.state(&id("a")).unwrap().latest[&MetricName::parse("pf").unwrap()].value
    };
    assert_eq!(latest(&memory), 0.1, "the state knows only what is stored");
    memory.clear_faults();
    assert_eq!(ingest(&memory).handle(&batch[1..2], now()).await.failed, BTreeSet::new());
    assert_eq!((values(&memory, "a").await, latest(&memory)), (vec![0.1, 0.2], 0.2));
}

#[tokio::test]
async fn a_store_that_is_away_fails_the_messages_and_not_the_quarantine() {
    for operation in
        [Operation::PutObject, Operation::PutSegments, Operation::GetStates, Operation::SaveStates]
    {
        let memory = MemoryStores::new();
        memory.fail_always(operation);
        let batch = [reading("a", 1, "pf", 0.1), delivery("other", "{}", 2)];
        let outcome = ingest(&memory).handle(&batch, now()).await;
        assert!(outcome.failed.contains(&0), "{operation:?}");
        assert_eq!(outcome.failed.contains(&1), operation == Operation::PutObject, "{operation:?}");
        memory.clear_faults();
        assert!(ingest(&memory).handle(&batch, now()).await.failed.is_empty());
        assert_eq!((archived(&memory, "a").await, memory.quarantined().len()), (1, 1));
    }
}

#[tokio::test]
async fn who_loses_the_lock_decides_again() {
    let memory = MemoryStores::new();
    memory.conflict_next(&id("a"));
    let outcome = ingest(&memory).handle(&[reading("a", 1, "pf", 0.1)], now()).await;
    assert_eq!((outcome.failed.len(), outcome.counts.conflicts, outcome.counts.stored), (0, 1, 1));
    assert_eq!(values(&memory, "a").await, [0.1]);
}

#[tokio::test]
async fn metrics_beyond_the_limit_are_refused_and_the_message_is_kept() {
    let memory = MemoryStores::new();
    let batch = [reading("a", 1, "x", 1.0), reading("a", 2, "y", 2.0), reading("a", 3, "z", 3.0)];
    let outcome = ingest(&memory).handle(&batch, now()).await;
    assert_eq!(outcome.counts.samples_rejected, 1);
    assert_eq!(values(&memory, "a").await, [1.0, 2.0]);
    assert_eq!(archived(&memory, "a").await, 3);
}

/// The metrics that a device has by its state, and those of its points.
async fn metrics(memory: &MemoryStores, device: &str) -> (Vec<String>, Vec<String>) {
    let query = PointQuery {
        device_id: id(device),
        start: Timestamp::min(),
        stop: Timestamp::max(),
        metric: None,
        after: None,
        limit: 100_000,
    };
    let points = point_reader::read(memory, &query).await.unwrap().points;
    let stored: BTreeSet<_> = points.iter().map(|p| p.key.metric.to_string()).collect();
    let state = memory.state(&id(device)).unwrap();
    let known = state.latest.keys().map(ToString::to_string).collect();
    (known, stored.into_iter().collect())
}

#[tokio::test]
async fn the_place_of_a_metric_whose_message_was_not_stored_is_another_ones_and_its_points_are_stored()
 {
    let memory = MemoryStores::new();
    // The fourth is of the metric that the first one had the place for.
    let batch = [
        reading("a", 1, "x", 1.0),
        reading("a", 2, "y", 2.0),
        reading("a", 3, "z", 3.0),
        reading("a", 4, "x", 4.0),
    ];
    memory.fail_messages([MessageId::of(&batch[0].received.topic, &batch[0].received.payload)]);
    let outcome = ingest(&memory).handle(&batch, now()).await;
    assert_eq!(outcome.failed, BTreeSet::from([0]));
    assert_eq!(values(&memory, "a").await, [2.0, 3.0]);
    memory.clear_faults();
    assert!(ingest(&memory).handle(&batch[..1], now()).await.failed.is_empty());
    assert_eq!(values(&memory, "a").await, [2.0, 3.0]);
    let (known, stored) = metrics(&memory, "a").await;
    assert_eq!(known, stored);
}

#[tokio::test]
async fn of_functions_that_fill_the_last_places_for_metrics_at_once_each_stores_what_was_admitted()
{
    for n in 0..20 {
        let memory = MemoryStores::new();
        let of = |metrics: [&str; 3], s: i64| -> Vec<_> {
            let readings = metrics.iter().zip(s..);
            readings.map(|(metric, s)| reading("a", s, metric, s as f64)).collect()
        };
        let batches =
            [of(["x", "y", "z"], n), of(["z", "v", "w"], 50), of(["y", "w", "x"], 100 - n)];
        let functions = batches.iter().map(|_| ingest(&memory)).collect::<Vec<_>>();
        let handled =
            functions.iter().zip(&batches).map(|(ingest, batch)| ingest.handle(batch, now()));
        for outcome in futures::future::join_all(handled).await {
            assert!(outcome.failed.is_empty());
        }
        let (known, stored) = metrics(&memory, "a").await;
        assert_eq!((known.len(), &known), (2, &stored));
    }
}

#[tokio::test]
async fn what_is_noted_of_progress_is_the_worst_since_the_last_note() {
    let memory = MemoryStores::new();
    let ingest = ingest(&memory);
    let noted = async |at: i64| memory.ingest_lag(second(at)).await.unwrap().map(|note| note.lag_s);
    ingest.handle(&[reading("a", 1_000, "pf", 1.0)], second(1_002)).await;
    assert_eq!(noted(1_002).await, Some(1));
    ingest.handle(&[reading("a", 900, "pf", 1.0)], second(1_005)).await;
    assert_eq!(noted(1_005).await, Some(1), "it is too soon for another note");
    ingest.handle(&[reading("a", 1_010, "pf", 1.0)], second(1_012)).await;
    assert_eq!(noted(1_012).await, Some(104));
    ingest.handle(&[reading("a", 1_020, "pf", 1.0)], second(1_022)).await;
    assert_eq!(noted(1_022).await, Some(1));
}

#[tokio::test]
async fn a_device_that_goes_and_comes_has_one_alert_that_is_resolved() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    let status = |status: &str, s: i64| {
        let payload = json!({"v": 2, "device_id": "a", "ts": second(s), "status": status});
        delivery("iot/a/status", payload.to_string(), s)
    };
    let batches =
        [vec![status("online", 1)], vec![status("offline", 2)], vec![reading("a", 3, "pf", 1.0)]];
    for batch in batches.iter().chain(&batches) {
        assert!(ingest(&memory).handle(batch, now()).await.failed.is_empty());
    }
    let alerts = memory.alerts(&id("a"));
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0].resolved_at, Some(second(4)));
    assert!(memory.state(&id("a")).unwrap().outbox.is_empty());
    let counts = memory.counts().await.unwrap();
    assert_eq!(counts.by_connection.get(&meter_domain::state::Connection::Online), Some(&1));
}

#[tokio::test]
async fn a_last_will_of_the_same_bytes_counts_each_time_it_is_received() {
    let memory = MemoryStores::new();
    let will = json!({"v": 2, "device_id": "a", "ts": "1970-01-01T00:00:00Z", "status": "offline"});
    let will = |s| delivery("iot/a/status", will.to_string(), s);
    let batch = [will(1), reading("a", 2, "pf", 1.0), will(5)];
    assert!(ingest(&memory).handle(&batch, now()).await.failed.is_empty());
    let state = memory.state(&id("a")).unwrap();
    assert_eq!(state.presence.connection, meter_domain::state::Connection::Offline);
    assert_eq!(archived(&memory, "a").await, 2);
}

#[tokio::test]
async fn answers_to_too_many_commands_come_again_and_hold_nobody_up() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    let mut batch: Vec<_> = (0..60_i64)
        .map(|n| {
            let ack = json!({"v": 2, "device_id": "a", "ts": second(n), "seq": n, "msg_type": "command_ack",
                "cmd_id": meter_domain::id::new_id(second(n)), "result": "accepted",
                "detail": "\u{1}".repeat(1_000)});
            delivery("iot/a/command/ack", ack.to_string(), n)
        })
        .collect();
    batch.push(reading("a", 5, "pf", 1.0));
    let mut rounds = 0;
    while !batch.is_empty() {
        let outcome = ingest(&memory).handle(&batch, now()).await;
        batch = outcome.failed.iter().map(|index| batch[*index].clone()).collect();
        assert_eq!(values(&memory, "a").await, [1.0]);
        rounds += 1;
    }
    assert_eq!((rounds, archived(&memory, "a").await), (3, 61));
}

#[tokio::test]
async fn plain_objects_are_under_the_names_that_the_api_gives_them() {
    let memory = MemoryStores::new();
    let ingest = ingest_with(&memory, IngestConfig { layout: Layout::Message, ..test_config() });
    ingest.handle(&[reading("a", 1, "pf", 0.1)], now()).await;
    let key = memory.objects().into_keys().next().unwrap();
    assert!(key.starts_with("a/telemetry/19700101T000001.000000000Z-"), "{key}");
    assert_eq!(archived(&memory, "a").await, 1);
}

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

fn notifying_config() -> IngestConfig {
    let policy = DevicePolicy {
        notify: NotificationPolicy::All,
        rule_hold_down_s: 0,
        ..test_config().policy
    };
    IngestConfig { policy, ..test_config() }
}

#[tokio::test]
async fn a_rule_whose_condition_held_long_enough_raises_one_alert_and_tells_people_once() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    RuleStore::create(&memory, &rule("pf", 10)).await.unwrap();
    // Two functions in turn, and each message twice.
    let functions =
        [ingest_with(&memory, notifying_config()), ingest_with(&memory, notifying_config())];
    for (n, value) in [20.0, 20.0, 20.0, 20.0, 1.0].into_iter().enumerate() {
        for function in &functions {
            let batch = [reading("a", n as i64 * 5, "pf", value)];
            assert!(function.handle(&batch, now()).await.failed.is_empty());
        }
    }
    let alerts = memory.alerts(&id("a"));
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!((alerts[0].created_at, alerts[0].resolved_at), (second(0), Some(second(20))));
    let told: Vec<_> = memory.notifications().iter().map(|n| (n.event, n.at)).collect();
    assert_eq!(
        told,
        [(NotificationEvent::Opened, second(10)), (NotificationEvent::Resolved, second(20))]
    );
    assert!(memory.state(&id("a")).unwrap().outbox.is_empty());
}

#[tokio::test]
async fn a_thousand_rules_cost_a_batch_no_call() {
    let mut writes = Vec::new();
    for rules in [0, 1_000] {
        let memory = MemoryStores::new();
        register(&memory, "a").await;
        for n in 0..rules {
            RuleStore::create(&memory, &rule(&format!("m{n}"), 0)).await.unwrap();
        }
        let ingest = ingest(&memory);
        for s in 0..20 {
            ingest.handle(&[reading("a", s, "pf", 0.5)], now()).await;
        }
        assert_eq!(memory.calls(Operation::ReadRules), 1);
        ingest.handle(&[reading("a", 21, "pf", 0.5)], now().plus_seconds(60)).await;
        assert_eq!(memory.calls(Operation::ReadRules), 2);
        writes.push(memory.calls(Operation::SaveStates));
    }
    assert_eq!(writes[0], writes[1]);
}

#[tokio::test]
async fn a_function_that_holds_old_rules_reads_them_anew_when_another_has_used_newer_ones() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    let (old, new) = (ingest(&memory), ingest(&memory));
    old.handle(&[reading("a", 1, "pf", 0.5)], now()).await;
    RuleStore::create(&memory, &rule("pf", 0)).await.unwrap();
    new.handle(&[reading("a", 2, "pf", 11.0)], now()).await;
    old.handle(&[reading("a", 3, "pf", 12.0)], now()).await;
    let alerts = memory.alerts(&id("a"));
    assert_eq!((alerts.len(), alerts[0].resolved_at), (1, None), "{alerts:?}");
}

#[tokio::test]
async fn rules_that_cannot_be_read_are_used_on_and_without_any_the_messages_come_again() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    let ingest = ingest(&memory);
    memory.fail_always(Operation::ReadRules);
    let batch = [reading("a", 1, "pf", 0.5)];
    assert_eq!(ingest.handle(&batch, now()).await.failed, BTreeSet::from([0]));
    memory.clear_faults();
    assert!(ingest.handle(&batch, now()).await.failed.is_empty());
    memory.fail_always(Operation::ReadRules);
    let later = now().plus_seconds(600);
    assert!(ingest.handle(&[reading("a", 2, "pf", 0.5)], later).await.failed.is_empty());
}

#[tokio::test]
async fn a_topic_that_is_away_holds_nothing_up_and_people_hear_of_it_when_it_is_back() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    RuleStore::create(&memory, &rule("pf", 0)).await.unwrap();
    let ingest = ingest_with(&memory, notifying_config());
    memory.fail_always(Operation::Notify);
    assert!(ingest.handle(&[reading("a", 1, "pf", 11.0)], now()).await.failed.is_empty());
    assert!(ingest.handle(&[reading("a", 2, "pf", 12.0)], now()).await.failed.is_empty());
    assert_eq!(memory.calls(Operation::Notify), 1, "it is not tried with every batch");
    memory.clear_faults();
    let later = now().plus_seconds(60);
    assert!(ingest.handle(&[reading("a", 3, "pf", 12.0)], later).await.failed.is_empty());
    assert_eq!(memory.notifications().len(), 1);
    assert!(memory.state(&id("a")).unwrap().outbox.is_empty());
}

#[tokio::test]
async fn a_sample_that_rules_have_gone_beyond_is_counted() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    RuleStore::create(&memory, &rule("pf", 0)).await.unwrap();
    let ingest = ingest_with(&memory, notifying_config());
    let outcome = ingest.handle(&[reading("a", 10, "pf", 11.0)], now()).await;
    assert_eq!(outcome.counts.late_samples, 0);
    let outcome = ingest.handle(&[reading("a", 5, "pf", 12.0)], now()).await;
    assert_eq!(outcome.counts.late_samples, 1);
}

#[tokio::test]
async fn what_nobody_could_be_told_for_a_day_is_given_up() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    RuleStore::create(&memory, &rule("pf", 0)).await.unwrap();
    let ingest = ingest_with(&memory, notifying_config());
    memory.fail_always(Operation::Notify);
    ingest.handle(&[reading("a", 1, "pf", 11.0)], now()).await;
    assert_eq!(memory.state(&id("a")).unwrap().outbox.len(), 1);
    let next_day = now().plus_seconds(DAY_S);
    ingest.handle(&[reading("a", 3, "pf", 12.0)], next_day).await;
    assert!(memory.state(&id("a")).unwrap().outbox.is_empty());
}

#[tokio::test]
async fn an_effect_that_fails_does_not_tell_people_twice() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    RuleStore::create(&memory, &rule("pf", 0)).await.unwrap();
    let ingest = ingest_with(&memory, notifying_config());
    memory.fail_next(Operation::OpenAlert, Fault::LoseResponse);
    let batch = [reading("a", 1, "pf", 11.0)];
    assert_eq!(ingest.handle(&batch, now()).await.failed, BTreeSet::from([0]));
    assert!(ingest.handle(&batch, now()).await.failed.is_empty());
    assert_eq!((memory.alerts(&id("a")).len(), memory.notifications().len()), (1, 1));
}

#[tokio::test]
async fn people_hear_of_a_device_that_goes_and_of_its_return_when_it_stays() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    let ingest = ingest_with(&memory, notifying_config());
    let status = |status: &str, s: i64| {
        let payload = json!({"v": 2, "device_id": "a", "ts": second(s), "status": status});
        delivery("iot/a/status", payload.to_string(), s)
    };
    for (word, s) in [("online", 1), ("offline", 2), ("online", 3), ("offline", 4), ("online", 5)] {
        ingest.handle(&[status(word, s)], second(s)).await;
    }
    let told = || memory.notifications().iter().map(|n| (n.event, n.at)).collect::<Vec<_>>();
    assert_eq!(told(), [(NotificationEvent::Opened, second(2))]);
    ingest.handle(&[reading("a", 400, "pf", 1.0)], second(401)).await;
    assert_eq!(
        told(),
        [(NotificationEvent::Opened, second(2)), (NotificationEvent::Resolved, second(5))]
    );
}

/// What a run of the property test does to the stores.
fn faults() -> impl Strategy<Value = Vec<(usize, bool)>> {
    prop::collection::vec((1_usize..12, any::<bool>()), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The function dies after any call, or a call's answer is lost; what failed comes again, grouped
    /// in another way, and in the end everything is there once.
    #[test]
    fn whatever_fails_in_between_the_end_is_the_same(
        readings in prop::collection::vec((0_u8..3, 0_i64..2_000), 1..40),
        faults in faults(),
        sizes in prop::collection::vec(1_usize..10, 1..10),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let memory = MemoryStores::new();
            register(&memory, "d0").await;
            let all: Vec<_> = readings.iter().map(|(d, s)| reading(&format!("d{d}"), *s, "pf", *s as f64)).collect();
            let mut queue = all.clone();
            let mut faults = faults.into_iter();
            let mut sizes = sizes.into_iter().cycle();
            let mut rounds = 0;
            while !queue.is_empty() {
                rounds += 1;
                prop_assert!(rounds < 1_000, "it never ends");
                let size = sizes.next().unwrap().min(queue.len());
                let batch: Vec<_> = queue.drain(..size).collect();
                match faults.next() {
                    Some((calls, true)) => memory.fail_all_after(calls),
                    Some((nth, false)) => {
                        memory.fail_nth(Operation::PutSegments, nth, Fault::LoseResponse);
                        memory.fail_nth(Operation::SaveStates, nth, Fault::LoseResponse);
                    }
                    None => memory.clear_faults(),
                }
                let outcome = ingest(&memory).handle(&batch, now()).await;
                memory.clear_faults();
                queue.extend(outcome.failed.iter().map(|index| batch[*index].clone()));
            }
            for device in ["d0", "d1", "d2"] {
                let mut expected: Vec<_> = readings.iter().filter(|(d, _)| format!("d{d}") == device).map(|(_, s)| *s as f64).collect();
                expected.sort_by(f64::total_cmp);
                expected.dedup();
                prop_assert_eq!(archived(&memory, device).await, expected.len());
                prop_assert_eq!(values(&memory, device).await, expected);
            }
            Ok(())
        })?;
    }
}
