use meter_domain::aggregate::{
    Aggregate, Assembler, Summary, Window, WindowKey, WindowSize, WindowSpec,
};
use meter_domain::archive::Location;
use meter_domain::id::DeviceId;
use meter_domain::message::{Message, ReceivedMessage, parse};
use meter_domain::metric::MetricName;
use meter_domain::segments;
use meter_domain::state::{DevicePolicy, DeviceState};
use meter_domain::time::Timestamp;
use meter_store::RollupStore;
use meter_testing::memory::{Fault, MemoryStores, Operation};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::optimistic_update;
use crate::rollup::{RollupReport, roll_up};

const GAP_S: u32 = 300;

fn policy() -> DevicePolicy {
    DevicePolicy { rollup_gap_s: Some(GAP_S), ..DevicePolicy::default() }
}

fn device() -> DeviceId {
    DeviceId::parse("m").unwrap()
}

fn second(s: i64) -> Timestamp {
    Timestamp::EPOCH.plus_seconds(s)
}

/// A message with samples (metric, second, value), received at second `at`.
fn message(at: i64, samples: &[(u8, i64, f64)]) -> Message {
    let measurements: Vec<_> = samples
        .iter()
        .map(|(metric, s, val)| json!({"type": format!("m{metric}"), "val": val, "ts": second(*s), "unit": "W"}))
        .collect();
    let payload = json!({"v": 2, "device_id": "m", "seq": 1, "msg_type": "telemetry", "ts": second(at), "measurements": measurements});
    let received = ReceivedMessage {
        topic: "iot/m/telemetry".to_owned(),
        payload: payload.to_string().into(),
        received_at: second(at),
    };
    parse(&received).unwrap()
}

/// Stores the segments of messages, then the state.
async fn ingest(memory: &MemoryStores, messages: &[Message], ttl: Option<i64>) {
    let location = Location { object: "o".to_owned(), member: None };
    let segments: Vec<_> =
        messages.iter().flat_map(|m| segments::split(m, location.clone(), ttl, |_| true)).collect();
    memory.put(&segments).await.unwrap();
    apply_to_state(memory, messages).await;
}

async fn apply_to_state(memory: &MemoryStores, messages: &[Message]) {
    let messages: Vec<_> = messages.iter().collect();
    optimistic_update::update_state(memory, &device(), |state| state.apply(&messages, &policy()))
        .await
        .unwrap();
}

async fn roll_up_device(memory: &MemoryStores, now: i64) -> RollupReport {
    roll_up(memory, &device(), None, second(now), &policy()).await.unwrap()
}

fn metric_store(memory: &MemoryStores) -> MessageBackedMetricStore<MemoryStores, MemoryStores> {
    let (messages, states) = (memory.clone(), memory.clone());
    MessageBackedMetricStore { messages, states, max_gap_s: GAP_S }
}

/// All windows, in pages of `limit`.
async fn windows(memory: &MemoryStores, query: WindowQuery) -> Vec<Window> {
    let store = metric_store(memory);
    let mut query = query;
    let mut windows = Vec::new();
    for _ in 0..10_000 {
        let page = store.windows(&query).await.unwrap();
        assert!(page.windows.len() <= query.limit);
        windows.extend(page.windows);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return windows,
        }
    }
    panic!("pages without end");
}

/// All windows, computed from points only.
async fn reference(memory: &MemoryStores, query: &WindowQuery) -> Vec<Window> {
    let WindowQuery { start, stop, every, aggregate, .. } = *query;
    let spec = WindowSpec { start, stop, every, aggregate, max_gap_s: GAP_S };
    let mut points = PointQuery {
        device_id: device(),
        start: Timestamp::min(),
        stop: Timestamp::max(),
        metric: query.metric.clone(),
        after: None,
        limit: 100_000,
    };
    let mut assembler = Assembler::new(spec);
    loop {
        let page = point_reader::read(memory, &points).await.unwrap();
        for point in &page.points {
            let summary = Summary::of(point.key.time, point.value);
            // A window at the end of the range contains points outside it.
            assembler.add(&point.key.metric, &summary, point.unit.as_deref());
        }
        match page.next {
            Some(next) => points.after = Some(next),
            None => return assembler.take_complete(Timestamp::max()),
        }
    }
}

fn assert_windows_match(a: &[Window], b: &[Window]) -> Result<(), TestCaseError> {
    let keys = |windows: &[Window]| windows.iter().map(|w| w.key.clone()).collect::<Vec<_>>();
    prop_assert_eq!(keys(a), keys(b));
    for (a, b) in a.iter().zip(b) {
        prop_assert!((a.value - b.value).abs() <= 1e-9 * a.value.abs().max(1.0), "{:?} {:?}", a, b);
        prop_assert_eq!(&a.unit, &b.unit);
    }
    Ok(())
}

fn query(start: i64, stop: i64, every_s: u32, aggregate: Aggregate) -> WindowQuery {
    WindowQuery {
        device_id: device(),
        start: second(start),
        stop: second(stop),
        metric: None,
        every: WindowSize::from_seconds(every_s).unwrap(),
        aggregate,
        after: None,
        limit: 40_000,
    }
}

#[derive(Debug, Clone)]
enum Step {
    Message { at: i64, samples: Vec<(u8, i64, f64)> },
    Roll { now: i64 },
}

const SPAN: i64 = 40_000;

fn step() -> impl Strategy<Value = Step> {
    let sample = (0u8..3, 0..SPAN, -1e3f64..1e3);
    // Some messages contain a series of samples.
    let run = (0..SPAN, 1i64..400, 1usize..60, 0u8..3).prop_map(|(first, step, n, metric)| {
        (0..n as i64).map(|i| (metric, (first + i * step).min(SPAN), (i * 7 % 13) as f64)).collect()
    });
    let samples = prop_oneof![prop::collection::vec(sample, 1..6), run];
    prop_oneof![
        5 => (0..SPAN, samples).prop_map(|(at, samples)| Step::Message { at, samples }),
        2 => (0..2 * SPAN).prop_map(|now| Step::Roll { now }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn windows_from_rollups_equal_windows_from_points(
        steps in prop::collection::vec(step(), 1..40),
        range in (0..SPAN, 1..SPAN),
        every in prop::sample::select(vec![60u32, 90, 300, 3_600, 7_200, 1]),
        aggregate in prop::sample::select(Aggregate::ALL.to_vec()),
        limit in 1usize..50,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let memory = MemoryStores::new();
            for step in steps {
                match step {
                    Step::Message { at, samples } => ingest(&memory, &[message(at.max(samples.iter().map(|s| s.1).max().unwrap_or(0) - 80_000), &samples)], None).await,
                    Step::Roll { now } => drop(roll_up_device(&memory, now).await),
                }
            }
            let every = if every == 1 && range.1 > 2_000 { 60 } else { every };
            let mut query = query(range.0, range.0 + range.1, every, aggregate);
            let expected = reference(&memory, &query).await;
            assert_windows_match(&windows(&memory, query.clone()).await, &expected)?;
            query.limit = limit;
            if expected.len() < 400 {
                assert_windows_match(&windows(&memory, query.clone()).await, &expected)?;
            }
            query.metric = MetricName::parse("m1").ok();
            let of_one: Vec<_> = expected.into_iter().filter(|w| Some(&w.key.metric) == query.metric.as_ref()).collect();
            query.limit = 40_000;
            assert_windows_match(&windows(&memory, query).await, &of_one)
        })?;
    }
}

#[tokio::test]
async fn samples_stored_during_a_rollup_are_in_the_windows() {
    let memory = MemoryStores::new();
    ingest(&memory, &[message(100, &[(0, 60, 1.0)])], None).await;
    // The segments are stored, the state is not: the batch failed, and the message is redelivered.
    let late = message(200, &[(0, 61, 2.0)]);
    let location = Location { object: "o".to_owned(), member: None };
    roll_up_device(&memory, 10_000).await;
    memory.put(&segments::split(&late, location, None, |_| true)).await.unwrap();
    apply_to_state(&memory, &[late]).await;
    let sums = || async {
        let windows = windows(&memory, query(0, 3_600, 3_600, Aggregate::Sum)).await;
        windows.iter().map(|w| w.value).collect::<Vec<_>>()
    };
    assert_eq!(sums().await, [3.0]);
    roll_up_device(&memory, 20_000).await;
    assert_eq!(sums().await, [3.0]);
}

#[tokio::test]
async fn stale_rollup_does_not_replace_a_newer_one() {
    let memory = MemoryStores::new();
    ingest(&memory, &[message(100, &[(0, 60, 1.0)])], None).await;
    // A run fails after its first write, before it clears the hour.
    memory.fail_nth(Operation::SaveStates, 1, Fault::Reject);
    let failed = roll_up(&memory, &device(), None, second(10_000), &policy()).await;
    assert!(failed.is_err());
    let stale = optimistic_update::read_state(&memory, &device()).await.unwrap().version;
    ingest(&memory, &[message(200, &[(0, 61, 2.0)])], None).await;
    assert_eq!(roll_up_device(&memory, 20_000).await, RollupReport { hours: 1, more: false });
    let buckets = memory.buckets(&bucket_query()).await.unwrap().buckets;
    let mut rollup = meter_store::HourRollup {
        device_id: device(),
        metric: MetricName::parse("m0").unwrap(),
        hour: buckets[0].clone(),
        minutes: vec![],
        generation: stale,
        points_expire_at: None,
        ttl: None,
    };
    rollup.hour.summary.count = 1;
    memory.put_rollup(&rollup, second(20_000)).await.unwrap();
    assert_eq!(memory.buckets(&bucket_query()).await.unwrap().buckets, buckets);
}

/// Purges the device, then stores a message of it.
async fn purge_and_ingest(memory: &MemoryStores, now: Timestamp) {
    let segments = memory.segments(&device());
    let positions: Vec<_> = segments.iter().map(segments::MessageSegment::position).collect();
    memory.remove(&device(), &positions).await.unwrap();
    let purge = |state: &mut DeviceState| {
        state.mark_deleted(now, true, &policy());
        state.record_purged_before(now, Timestamp::min());
        state.complete_cleanup(now, true);
    };
    optimistic_update::update_state(memory, &device(), purge).await.unwrap();
    ingest(memory, &[message(20_100, &[(1, 20_000, 5.0)])], None).await;
}

#[tokio::test]
async fn rollups_of_points_purged_during_the_run_are_discarded() {
    let memory = MemoryStores::new();
    ingest(&memory, &[message(100, &[(0, 60, 1.0), (0, 7_200, 1.0)])], None).await;
    let (id, policy, now) = (device(), policy(), second(20_200));
    let mut run = std::pin::pin!(roll_up(&memory, &id, None, now, &policy));
    // The points of the first hour are read, its rollup is not written.
    while memory.calls(Operation::ReadSegments) == 0 {
        assert!(futures::poll!(run.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(memory.calls(Operation::PutRollup), 0);
    purge_and_ingest(&memory, now).await;
    run.await.unwrap();
    let buckets = async || memory.buckets(&bucket_query()).await.unwrap().buckets;
    assert_eq!(buckets().await, []);
    let all = query(0, 86_400, 3_600, Aggregate::Sum);
    let values = async || {
        let windows = windows(&memory, all.clone()).await;
        windows.iter().map(|w| w.value).collect::<Vec<_>>()
    };
    assert_eq!(values().await, [5.0]);
    while roll_up_device(&memory, 90_000).await.more {}
    assert_eq!((values().await, buckets().await), (vec![5.0], vec![]));
}

fn bucket_query() -> meter_store::BucketQuery {
    meter_store::BucketQuery {
        device_id: device(),
        metric: MetricName::parse("m0").unwrap(),
        level: meter_store::RollupLevel::Hour,
        from: second(0),
        to: second(86_400),
        limit: 10,
    }
}

#[tokio::test]
async fn hour_with_expired_points_is_not_rolled_up_again() {
    let memory = MemoryStores::new();
    ingest(&memory, &[message(100, &[(0, 60, 1.0)])], Some(50_000)).await;
    roll_up_device(&memory, 10_000).await;
    let segments: Vec<_> = memory
        .segments(&device())
        .iter()
        .map(meter_domain::segments::MessageSegment::position)
        .collect();
    memory.remove(&device(), &segments).await.unwrap();
    ingest(&memory, &[message(60_000, &[(0, 61, 2.0)])], Some(99_000)).await;
    roll_up_device(&memory, 70_000).await;
    let windows = windows(&memory, query(0, 3_600, 3_600, Aggregate::Sum)).await;
    assert_eq!(windows[0].value, 1.0, "expired points cannot be read again");
}

#[tokio::test]
async fn windows_of_a_month_read_at_most_a_hundred_items() {
    let memory = MemoryStores::new();
    // Two metrics, four messages an hour. The number of messages has no effect on the rollups.
    for day in 0..30 {
        for hour in 0..24 {
            let at = (day * 24 + hour) * 3_600;
            let messages: Vec<_> = (0..4)
                .map(|i| message(at + i * 900, &[(0, at + i * 900, 1.0), (1, at + i * 900, 2.0)]))
                .collect();
            ingest(&memory, &messages, None).await;
        }
    }
    let mut now = 31 * 86_400;
    while roll_up_device(&memory, now).await.more {
        now += 60;
    }
    let before = memory.calls(Operation::ReadSegments);
    let mut query = query(0, 30 * 86_400, 3_600, Aggregate::Mean);
    let windows = windows(&memory, query.clone()).await;
    assert_eq!(windows.len(), 2 * 720);
    assert_eq!(memory.calls(Operation::ReadSegments), before, "no message was read");
    let items = |metric: &str| {
        let metric = MetricName::parse(metric).unwrap();
        meter_store::BucketQuery { metric, to: second(30 * 86_400), limit: 1_000, ..bucket_query() }
    };
    let read = memory.buckets(&items("m0")).await.unwrap().items_read
        + memory.buckets(&items("m1")).await.unwrap().items_read;
    assert!(read <= 100, "{read} items");
    // A page of the same range that is read from points ends at its item budget.
    query.every = WindowSize::from_seconds(7).unwrap();
    let page = metric_store(&memory).windows(&query).await.unwrap();
    assert!(
        page.windows.len() < 40_000
            && page.next.is_none_or(|next: WindowKey| next.start > second(0))
    );
}
