//! Compares the result of a replay with the result of ingestion.

use anyhow::Result;
use meter_domain::archive::Layout;
use meter_domain::id::DeviceId;
use meter_domain::message::ReceivedMessage;
use meter_domain::metric::Point;
use meter_domain::state::{DevicePolicy, LatestPoints};
use meter_domain::time::Timestamp;
use meter_service::ingestion::{Delivery, Ingestion, IngestionConfig};
use meter_service::point_reader;
use meter_service::replay::{ArchiveCursor, Replay, ReplayProgress, ReplayScope};
use meter_service::rule_cache::RuleCache;
use meter_store::{Archive, PointQuery};
use meter_testing::memory::MemoryStores;
use proptest::prelude::*;
use serde_json::json;

const DEVICES: [&str; 3] = ["a", "b", "archive"];

fn second(s: i64) -> Timestamp {
    Timestamp::EPOCH.plus_seconds(s)
}

fn now() -> Timestamp {
    second(100_000)
}

/// A message of one of the devices, with two samples. Several messages contain the same point.
fn reading(device: usize, s: i64, value: i64) -> Delivery {
    let device = DEVICES[device];
    let payload = json!({"v": 2, "device_id": device, "ts": second(s), "seq": s, "msg_type": "telemetry",
        "measurements": [{"type": "pf", "val": value}, {"type": "pf", "val": value, "ts": second(s / 7 * 7)}]});
    let received = ReceivedMessage {
        topic: format!("iot/{device}/telemetry"),
        payload: payload.to_string().into(),
        received_at: second(s + 1),
    };
    Delivery { id: String::new(), received, parse_error: None }
}

/// The stored data of a device.
#[derive(Debug, PartialEq)]
struct Stored {
    points: Vec<Point>,
    latest: LatestPoints,
    messages: Vec<String>,
}

async fn stored(memory: &MemoryStores) -> Result<Vec<Stored>> {
    let mut all = Vec::new();
    for device in DEVICES {
        let device_id = DeviceId::parse(device)?;
        let query = PointQuery {
            device_id: device_id.clone(),
            start: Timestamp::min(),
            stop: Timestamp::max(),
            metric: None,
            after: None,
            limit: 100_000,
        };
        let points = point_reader::read(memory, &query).await?.points;
        let indexed =
            memory.segments(&device_id).into_iter().filter(|segment| segment.index_entry.is_some());
        let messages =
            indexed.map(|segment| format!("{} {}", segment.ts, segment.message_id)).collect();
        let latest = memory.state(&device_id).map(|state| state.latest).unwrap_or_default();
        all.push(Stored { points, latest, messages });
    }
    Ok(all)
}

async fn ingested(deliveries: &[Delivery], size: usize, layout: Layout) -> MemoryStores {
    let memory = MemoryStores::new();
    let config = IngestionConfig {
        layout,
        policy: DevicePolicy::default(),
        ttl_days: None,
        require_registration: false,
    };
    let ingestion = Ingestion::new(memory.clone(), RuleCache::new(60), config);
    for batch in deliveries.chunks(size) {
        assert!(ingestion.ingest(batch, now()).await.failed.is_empty());
    }
    memory
}

/// Replays a copy of the archive into empty stores.
async fn replayed(from: &MemoryStores) -> Result<MemoryStores> {
    let memory = MemoryStores::new();
    for (key, body) in from.objects() {
        Archive::put(&memory, &key, "x", body).await?;
    }
    let replay = Replay { stores: memory.clone(), policy: DevicePolicy::default(), ttl_days: None };
    let scope = ReplayScope { device: None, start: Timestamp::EPOCH, stop: now() };
    let mut progress = ReplayProgress::default();
    while progress.cursor != ArchiveCursor::Done {
        progress = replay.step(&scope, &progress, now()).await?;
    }
    Ok(memory)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn replay_restores_what_ingestion_stored(
        readings in prop::collection::vec((0usize..3, 0i64..9_000, 0i64..100), 1..80),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        size in 1usize..20,
        plain in any::<bool>(),
    ) {
        let mut deliveries: Vec<_> =
            readings.iter().map(|(device, s, value)| reading(*device, *s, *value)).collect();
        for index in again {
            deliveries.push(deliveries[index.index(deliveries.len())].clone());
        }
        let layout = if plain { Layout::Message } else { Layout::Batch };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let before = ingested(&deliveries, size, layout).await;
            let after = replayed(&before).await.unwrap();
            prop_assert_eq!(stored(&after).await.unwrap(), stored(&before).await.unwrap());
            Ok(())
        })?;
    }
}
