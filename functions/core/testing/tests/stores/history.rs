//! Benchmark of queries over the history: items read and time. It asserts nothing, so it runs on
//! demand: `make bench-history`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures::{StreamExt, stream};
use jiff::civil::Date;
use meter_aws::Clients;
use meter_domain::aggregate::{Aggregate, WindowSize};
use meter_domain::id::{DeviceId, MessageId};
use meter_domain::message::{Message, ReceivedMessage, parse};
use meter_domain::segments::{IndexEntry, MessageSegment, SegmentPosition};
use meter_domain::state::{DevicePolicy, DeviceState};
use meter_domain::time::Timestamp;
use meter_runtime::{AwsStores, StoreSettings, settings};
use meter_service::message_backed_metrics::MessageBackedMetricStore;
use meter_service::optimistic_update;
use meter_service::rollup::roll_up;
use meter_store::{
    BatchWriteError, BucketPage, BucketQuery, HourRollup, MessageStore, MetricStore, PointQuery,
    RollupStore, SegmentQuery, StoreError, Stores, WindowQuery,
};
use meter_testing::fixtures::{first_segment, id, sample, second};
use serde_json::json;

use crate::emulator::Emulator;

const DAY_S: i64 = 24 * 3_600;
const DAYS: i64 = 30;

/// Samples of each metric in a message, which is sent once a minute with a sample for each second.
const SAMPLES_PER_MESSAGE: i64 = 60;

/// Counts the items that are read from a store.
#[derive(Clone)]
struct CountingStore<M> {
    store: M,
    items: Arc<AtomicUsize>,
}

impl<M: MessageStore> MessageStore for CountingStore<M> {
    async fn put(&self, segments: &[MessageSegment]) -> Result<(), BatchWriteError> {
        self.store.put(segments).await
    }

    async fn days(&self, device_id: &DeviceId) -> Result<Vec<Date>, StoreError> {
        let days = self.store.days(device_id).await?;
        self.items.fetch_add(days.len(), Ordering::Relaxed);
        Ok(days)
    }

    async fn read(&self, query: &SegmentQuery) -> Result<(Vec<MessageSegment>, bool), StoreError> {
        let read = self.store.read(query).await?;
        self.items.fetch_add(read.0.len(), Ordering::Relaxed);
        Ok(read)
    }

    async fn remove(
        &self,
        device_id: &DeviceId,
        segments: &[SegmentPosition],
    ) -> Result<(), StoreError> {
        self.store.remove(device_id, segments).await
    }

    async fn get_index_entry(
        &self,
        device_id: &DeviceId,
        ts: Timestamp,
        message_id: MessageId,
    ) -> Result<Option<IndexEntry>, StoreError> {
        self.store.get_index_entry(device_id, ts, message_id).await
    }
}

impl<M: RollupStore> RollupStore for CountingStore<M> {
    async fn put_rollup(&self, rollup: &HourRollup, now: Timestamp) -> Result<(), StoreError> {
        self.store.put_rollup(rollup, now).await
    }

    async fn buckets(&self, query: &BucketQuery) -> Result<BucketPage, StoreError> {
        let buckets = self.store.buckets(query).await?;
        self.items.fetch_add(buckets.items_read, Ordering::Relaxed);
        Ok(buckets)
    }

    async fn delete_rollups_for_device(&self, device_id: &DeviceId) -> Result<bool, StoreError> {
        self.store.delete_rollups_for_device(device_id).await
    }
}

#[tokio::test]
#[ignore = "benchmark"]
async fn history_on_ministack() {
    let emulator = Emulator::ministack().await;
    let tables = crate::tables::create(&emulator.url, "history").await;
    let clients = Clients::for_emulator(&emulator.url).await;
    let unused = |name: &str| {
        let required = ["_TABLE", "_BUCKET", "_QUEUE_URL"];
        required.iter().any(|end| name.ends_with(end)).then(|| "unused".to_owned())
    };
    let settings: StoreSettings = settings::load_from(&unused).unwrap();
    let stores = AwsStores::new(&clients, &StoreSettings { tables, ..settings });
    let (messages, states) = (stores.messages(), stores.states());

    let since = Instant::now();
    let segments: Vec<MessageSegment> =
        (0..DAYS * DAY_S / SAMPLES_PER_MESSAGE).map(message).collect();
    let batches = segments.chunks(500).map(|batch| messages.put(batch));
    let batches: Vec<_> = batches.collect();
    let written: Vec<_> = stream::iter(batches).buffer_unordered(4).collect().await;
    assert!(written.iter().all(Result::is_ok));
    println!(
        "{} messages of {SAMPLES_PER_MESSAGE} samples of 2 metrics written in {:.0?}",
        segments.len(),
        since.elapsed()
    );

    // The first message of a device marks all of its hours as pending.
    let (now, rules) = (second((DAYS + 2) * DAY_S), DevicePolicy::default());
    let first = first_message();
    let apply = |state: &mut DeviceState| state.apply(&[&first], &rules);
    optimistic_update::update_state(states, &id("m"), apply).await.unwrap();
    let since = Instant::now();
    let mut hours = 0;
    loop {
        let rolled = roll_up(&stores, &id("m"), None, now, &rules).await.unwrap();
        hours += rolled.hours;
        if !rolled.more {
            break;
        }
    }
    println!("{hours} hours rolled up in {:.0?}", since.elapsed());

    let items = Arc::<AtomicUsize>::default();
    let store = MessageBackedMetricStore {
        messages: CountingStore { store: messages.clone(), items: items.clone() },
        states: states.clone(),
        max_gap_s: 300,
    };
    println!("{:<34}{:>10}{:>10}{:>10}{:>12}", "", "results", "pages", "items", "time");
    for (what, range_s, every) in [
        ("1 hour, points", 3_600, None),
        ("1 hour, every minute", 3_600, Some("1m")),
        ("1 day, points", DAY_S, None),
        ("1 day, every minute", DAY_S, Some("1m")),
        ("1 day, every 5 minutes", DAY_S, Some("5m")),
        ("30 days, points", DAYS * DAY_S, None),
        ("30 days, every hour", DAYS * DAY_S, Some("1h")),
        ("30 days, every day", DAYS * DAY_S, Some("1d")),
    ] {
        items.store(0, Ordering::Relaxed);
        let since = Instant::now();
        let (start, stop) = (second(DAYS * DAY_S - range_s), second(DAYS * DAY_S));
        let (results, pages) = match every {
            None => all_points(&store, start, stop).await,
            Some(every) => {
                all_windows(&store, start, stop, WindowSize::parse(every).unwrap()).await
            }
        };
        let items = items.load(Ordering::Relaxed);
        println!("{what:<34}{results:>10}{pages:>10}{items:>10}{:>12.0?}", since.elapsed());
    }
}

fn first_message() -> Message {
    let sample = |metric: &str| json!({"type": metric, "val": 1_500});
    let payload = json!({"v": 2, "device_id": "m", "seq": 0, "msg_type": "telemetry", "ts": second(0),
        "measurements": [sample("voltage_dc"), sample("current_dc")]});
    let received = ReceivedMessage {
        topic: "iot/m/telemetry".to_owned(),
        payload: payload.to_string().into(),
        received_at: second(DAYS * DAY_S),
    };
    parse(&received).unwrap()
}

fn message(number: i64) -> MessageSegment {
    let first = number * SAMPLES_PER_MESSAGE;
    let mut segment = first_segment("m", second(first), usize::try_from(number).unwrap());
    for s in first..first + SAMPLES_PER_MESSAGE {
        segment.samples.push(sample("voltage_dc", second(s), 0, 1_500.0 + (s % 97) as f64));
        segment.samples.push(sample("current_dc", second(s), 0, (s % 89) as f64));
    }
    segment
}

async fn all_points(store: &impl MetricStore, start: Timestamp, stop: Timestamp) -> (usize, usize) {
    let device_id = id("m");
    let mut query = PointQuery { device_id, start, stop, metric: None, after: None, limit: 40_000 };
    let (mut points, mut pages) = (0, 0);
    loop {
        let page = store.points(&query).await.unwrap();
        points += page.points.len();
        pages += 1;
        match page.next {
            Some(next) => query.after = Some(next),
            None => return (points, pages),
        }
    }
}

async fn all_windows(
    store: &impl MetricStore,
    start: Timestamp,
    stop: Timestamp,
    every: WindowSize,
) -> (usize, usize) {
    let mut query = WindowQuery {
        device_id: id("m"),
        start,
        stop,
        metric: None,
        every,
        aggregate: Aggregate::Mean,
        after: None,
        limit: 40_000,
    };
    let (mut windows, mut pages) = (0, 0);
    loop {
        let page = store.windows(&query).await.unwrap();
        windows += page.windows.len();
        pages += 1;
        match page.next {
            Some(next) => query.after = Some(next),
            None => return (windows, pages),
        }
    }
}
