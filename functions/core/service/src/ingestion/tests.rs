mod alerts;
mod faults;

use bytes::Bytes;
use meter_domain::metric::MetricName;
use meter_domain::time::Timestamp;
use meter_store::{Archive, DeviceStore, PointQuery};
use meter_testing::memory::{Fault, MemoryStores, Operation};
use serde_json::json;

use super::*;
use crate::{optimistic_update, point_reader};

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

/// A telemetry message of a device, created at second `s` and received a second later.
fn reading(device: &str, s: i64, metric: &str, value: f64) -> Delivery {
    let payload = json!({"v": 2, "device_id": device, "ts": second(s), "seq": s, "msg_type": "telemetry",
        "measurements": [{"type": metric, "val": value}]});
    delivery(&format!("iot/{device}/telemetry"), payload.to_string(), s + 1)
}

fn test_config() -> IngestionConfig {
    IngestionConfig {
        layout: Layout::Batch,
        policy: DevicePolicy { max_metrics: 2, ..DevicePolicy::default() },
        ttl_days: None,
        require_registration: false,
    }
}

fn ingestion(memory: &MemoryStores) -> Ingestion<MemoryStores> {
    ingestion_with(memory, test_config())
}

fn ingestion_with(memory: &MemoryStores, config: IngestionConfig) -> Ingestion<MemoryStores> {
    Ingestion::new(memory.clone(), RuleCache::new(60), config)
}

/// A time after all messages of these tests.
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

/// Checks that the archive contains all messages of the index. Returns their number.
async fn archived(memory: &MemoryStores, device: &str) -> usize {
    let indexed: Vec<_> = memory
        .segments(&id(device))
        .into_iter()
        .filter_map(|p| Some((p.message_id, p.index_entry?)))
        .collect();
    for (message_id, index_entry) in &indexed {
        let bytes = Archive::get(memory, &index_entry.location).await.unwrap().unwrap();
        archive::find_line(&bytes, &index_entry.location, *message_id).unwrap();
    }
    indexed.len()
}

#[tokio::test]
async fn message_is_archived_indexed_and_stored_as_points() {
    let memory = MemoryStores::new();
    let outcome = ingestion(&memory)
        .ingest(&[reading("a", 5, "pf", 0.5), reading("b", 5, "pf", 0.7)], now())
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
async fn redelivery_in_other_batches_stores_nothing_new() {
    let memory = MemoryStores::new();
    let ingestion = ingestion(&memory);
    let all: Vec<_> = (0..20).map(|s| reading("a", s, "pf", s as f64)).collect();
    ingestion.ingest(&all, now()).await;
    for group in all.chunks(3) {
        let mut group = group.to_vec();
        group.push(group[0].clone());
        let outcome = ingestion.ingest(&group, now()).await;
        assert_eq!((outcome.failed.len(), outcome.counts.redelivered), (0, 1));
    }
    assert_eq!(archived(&memory, "a").await, 20);
    assert_eq!(values(&memory, "a").await, (0..20).map(f64::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn invalid_message_is_quarantined_with_its_reason() {
    let memory = MemoryStores::new();
    let batch = [
        delivery("iot/a/telemetry", "nonsense", 1),
        reading("a", 5, "pf", 0.5),
        delivery("other", "{}", 2),
    ];
    let outcome = ingestion(&memory).ingest(&batch, now()).await;
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
async fn message_of_an_unregistered_device_is_quarantined_if_registration_is_required() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    let ingestion =
        ingestion_with(&memory, IngestionConfig { require_registration: true, ..test_config() });
    let outcome =
        ingestion.ingest(&[reading("a", 5, "pf", 0.5), reading("b", 5, "pf", 0.7)], now()).await;
    assert_eq!((outcome.counts.stored, outcome.counts.quarantined), (1, 1));
    assert_eq!(memory.quarantined()[0].reason, "device_id: is not registered");
}

#[tokio::test]
async fn message_that_is_not_stored_fails_alone_and_is_stored_when_redelivered() {
    let memory = MemoryStores::new();
    let batch =
        [reading("a", 1, "pf", 0.1), reading("a", 2, "pf", 0.2), reading("b", 1, "pf", 0.3)];
    memory.fail_messages([MessageId::of(&batch[1].received.topic, &batch[1].received.payload)]);
    let outcome = ingestion(&memory).ingest(&batch, now()).await;
    assert_eq!(outcome.failed, BTreeSet::from([1]));
    let latest = |memory: &MemoryStores| {
        memory.state(&id("a")).unwrap().latest[&MetricName::parse("pf").unwrap()].value
    };
    assert_eq!(latest(&memory), 0.1, "the state contains stored points only");
    memory.clear_faults();
    assert_eq!(ingestion(&memory).ingest(&batch[1..2], now()).await.failed, BTreeSet::new());
    assert_eq!((values(&memory, "a").await, latest(&memory)), (vec![0.1, 0.2], 0.2));
}

#[tokio::test]
async fn unavailable_state_store_fails_messages_but_not_the_quarantine() {
    for operation in
        [Operation::PutObject, Operation::PutSegments, Operation::GetStates, Operation::SaveStates]
    {
        let memory = MemoryStores::new();
        memory.fail_always(operation);
        let batch = [reading("a", 1, "pf", 0.1), delivery("other", "{}", 2)];
        let outcome = ingestion(&memory).ingest(&batch, now()).await;
        assert!(outcome.failed.contains(&0), "{operation:?}");
        assert_eq!(outcome.failed.contains(&1), operation == Operation::PutObject, "{operation:?}");
        memory.clear_faults();
        assert!(ingestion(&memory).ingest(&batch, now()).await.failed.is_empty());
        assert_eq!((archived(&memory, "a").await, memory.quarantined().len()), (1, 1));
    }
}

#[tokio::test]
async fn message_that_cannot_be_stored_is_quarantined_with_the_reason() {
    let memory = MemoryStores::new();
    let batch =
        [reading("a", 1, "pf", 0.1), reading("a", 2, "pf", 0.2), reading("b", 1, "pf", 0.3)];
    let large = MessageId::of(&batch[0].received.topic, &batch[0].received.payload);
    memory.reject_messages([large]);
    let outcome = ingestion(&memory).ingest(&batch, now()).await;
    assert_eq!(outcome.failed, BTreeSet::new());
    let counts = outcome.counts;
    assert_eq!((counts.stored, counts.quarantined, counts.misconfigured), (2, 1, 0));
    let [entry] = &memory.quarantined()[..] else { panic!("one entry") };
    assert_eq!(entry.message_id, large);
    assert!(entry.reason.starts_with("cannot be stored: "), "{}", entry.reason);
    assert!(entry.reason.ends_with("too large"), "{}", entry.reason);
    assert_eq!((values(&memory, "a").await, values(&memory, "b").await), (vec![0.2], vec![0.3]));
}

#[tokio::test]
async fn message_that_cannot_be_quarantined_fails() {
    let memory = MemoryStores::new();
    let batch = [reading("a", 1, "pf", 0.1)];
    memory.reject_messages([MessageId::of(&batch[0].received.topic, &batch[0].received.payload)]);
    memory.fail_always(Operation::PutQuarantined);
    let outcome = ingestion(&memory).ingest(&batch, now()).await;
    assert_eq!((outcome.failed, outcome.counts.quarantined), (BTreeSet::from([0]), 0));
}

#[tokio::test]
async fn denied_store_operation_fails_messages_and_is_counted() {
    for operation in
        [Operation::PutObject, Operation::PutSegments, Operation::GetStates, Operation::SaveStates]
    {
        let memory = MemoryStores::new();
        memory.fail_next(operation, Fault::Deny);
        let batch = [reading("a", 1, "pf", 0.1)];
        let outcome = ingestion(&memory).ingest(&batch, now()).await;
        assert_eq!(outcome.failed, BTreeSet::from([0]), "{operation:?}");
        assert_eq!(outcome.counts.misconfigured, 1, "{operation:?}");
        assert_eq!(memory.quarantined().len(), 0, "{operation:?}");
    }
}

#[tokio::test]
async fn version_conflict_applies_messages_to_the_new_state() {
    let memory = MemoryStores::new();
    memory.conflict_next(&id("a"));
    let outcome = ingestion(&memory).ingest(&[reading("a", 1, "pf", 0.1)], now()).await;
    assert_eq!((outcome.failed.len(), outcome.counts.conflicts, outcome.counts.stored), (0, 1, 1));
    assert_eq!(values(&memory, "a").await, [0.1]);
}

#[tokio::test]
async fn samples_beyond_the_metric_limit_are_rejected_and_the_message_is_archived() {
    let memory = MemoryStores::new();
    let batch = [reading("a", 1, "x", 1.0), reading("a", 2, "y", 2.0), reading("a", 3, "z", 3.0)];
    let outcome = ingestion(&memory).ingest(&batch, now()).await;
    assert_eq!(outcome.counts.samples_rejected, 1);
    assert_eq!(values(&memory, "a").await, [1.0, 2.0]);
    assert_eq!(archived(&memory, "a").await, 3);
}

/// The metrics in the state of a device, and the metrics of its points.
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
async fn failed_message_frees_its_metric_for_another_message() {
    let memory = MemoryStores::new();
    // The fourth message has the same metric as the first one.
    let batch = [
        reading("a", 1, "x", 1.0),
        reading("a", 2, "y", 2.0),
        reading("a", 3, "z", 3.0),
        reading("a", 4, "x", 4.0),
    ];
    memory.fail_messages([MessageId::of(&batch[0].received.topic, &batch[0].received.payload)]);
    let outcome = ingestion(&memory).ingest(&batch, now()).await;
    assert_eq!(outcome.failed, BTreeSet::from([0]));
    assert_eq!(values(&memory, "a").await, [2.0, 3.0]);
    memory.clear_faults();
    assert!(ingestion(&memory).ingest(&batch[..1], now()).await.failed.is_empty());
    assert_eq!(values(&memory, "a").await, [2.0, 3.0]);
    let (known, stored) = metrics(&memory, "a").await;
    assert_eq!(known, stored);
}

#[tokio::test]
async fn concurrent_ingestion_respects_the_metric_limit() {
    for n in 0..20 {
        let memory = MemoryStores::new();
        let of = |metrics: [&str; 3], s: i64| -> Vec<_> {
            let readings = metrics.iter().zip(s..);
            readings.map(|(metric, s)| reading("a", s, metric, s as f64)).collect()
        };
        let batches =
            [of(["x", "y", "z"], n), of(["z", "v", "w"], 50), of(["y", "w", "x"], 100 - n)];
        let functions = batches.iter().map(|_| ingestion(&memory)).collect::<Vec<_>>();
        let handled =
            functions.iter().zip(&batches).map(|(ingestion, batch)| ingestion.ingest(batch, now()));
        for outcome in futures::future::join_all(handled).await {
            assert!(outcome.failed.is_empty());
        }
        let (known, stored) = metrics(&memory, "a").await;
        assert_eq!((known.len(), &known), (2, &stored));
    }
}

#[tokio::test]
async fn lag_report_contains_the_greatest_lag_since_the_last_report() {
    let memory = MemoryStores::new();
    let ingestion = ingestion(&memory);
    let reported_lag =
        async |at: i64| memory.ingest_lag(second(at)).await.unwrap().map(|lag| lag.lag_s);
    ingestion.ingest(&[reading("a", 1_000, "pf", 1.0)], second(1_002)).await;
    assert_eq!(reported_lag(1_002).await, Some(1));
    ingestion.ingest(&[reading("a", 900, "pf", 1.0)], second(1_005)).await;
    assert_eq!(reported_lag(1_005).await, Some(1), "the report interval is not over");
    ingestion.ingest(&[reading("a", 1_010, "pf", 1.0)], second(1_012)).await;
    assert_eq!(reported_lag(1_012).await, Some(104));
    ingestion.ingest(&[reading("a", 1_020, "pf", 1.0)], second(1_022)).await;
    assert_eq!(reported_lag(1_022).await, Some(1));
}

#[tokio::test]
async fn device_that_returns_has_one_resolved_alert() {
    let memory = MemoryStores::new();
    register(&memory, "a").await;
    let status = |status: &str, s: i64| {
        let payload = json!({"v": 2, "device_id": "a", "ts": second(s), "status": status});
        delivery("iot/a/status", payload.to_string(), s)
    };
    let batches =
        [vec![status("online", 1)], vec![status("offline", 2)], vec![reading("a", 3, "pf", 1.0)]];
    for batch in batches.iter().chain(&batches) {
        assert!(ingestion(&memory).ingest(batch, now()).await.failed.is_empty());
    }
    let alerts = memory.alerts(&id("a"));
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0].resolved_at, Some(second(4)));
    assert!(memory.state(&id("a")).unwrap().outbox.is_empty());
    let counts = memory.counts().await.unwrap();
    assert_eq!(counts.by_connection.get(&meter_domain::state::Connection::Online), Some(&1));
}

#[tokio::test]
async fn repeated_last_will_sets_the_device_offline_each_time() {
    let memory = MemoryStores::new();
    let will = json!({"v": 2, "device_id": "a", "ts": "1970-01-01T00:00:00Z", "status": "offline"});
    let will = |s| delivery("iot/a/status", will.to_string(), s);
    let batch = [will(1), reading("a", 2, "pf", 1.0), will(5)];
    assert!(ingestion(&memory).ingest(&batch, now()).await.failed.is_empty());
    let state = memory.state(&id("a")).unwrap();
    assert_eq!(state.presence.connection, meter_domain::state::Connection::Offline);
    assert_eq!(archived(&memory, "a").await, 2);
}

#[tokio::test]
async fn excess_acknowledgements_are_redelivered() {
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
        let outcome = ingestion(&memory).ingest(&batch, now()).await;
        batch = outcome.failed.iter().map(|index| batch[*index].clone()).collect();
        assert_eq!(values(&memory, "a").await, [1.0]);
        rounds += 1;
    }
    assert_eq!((rounds, archived(&memory, "a").await), (3, 61));
}

#[tokio::test]
async fn message_layout_uses_the_file_names_of_the_api() {
    let memory = MemoryStores::new();
    let ingestion =
        ingestion_with(&memory, IngestionConfig { layout: Layout::Message, ..test_config() });
    ingestion.ingest(&[reading("a", 1, "pf", 0.1)], now()).await;
    let key = memory.objects().into_keys().next().unwrap();
    assert!(key.starts_with("a/telemetry/19700101T000001.000000000Z-"), "{key}");
    assert_eq!(archived(&memory, "a").await, 1);
}
