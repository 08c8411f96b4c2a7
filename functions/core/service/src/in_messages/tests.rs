use meter_domain::aggregate::{Aggregate, Asked, Assembler, Every, Summary, Window, WindowKey};
use meter_domain::archive::Location;
use meter_domain::id::DeviceId;
use meter_domain::message::{Message, Received, parse};
use meter_domain::metric::MetricName;
use meter_domain::parts;
use meter_domain::state::{DeviceState, Rules};
use meter_domain::time::Timestamp;
use meter_store::{CellQuery, Cells, HourRollup, RollupStore};
use meter_testing::memory::{Fault, Memory, Operation};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::lock;
use crate::rollup::{RolledUp, roll_up};

const GAP_S: u32 = 300;

fn rules() -> Rules {
    Rules { rollup_gap_s: Some(GAP_S), ..Rules::default() }
}

fn device() -> DeviceId {
    DeviceId::parse("m").unwrap()
}

fn second(s: i64) -> Timestamp {
    Timestamp::EPOCH.plus_seconds(s)
}

/// A message with samples (metric, second, value), received at a second.
fn message(at: i64, samples: &[(u8, i64, f64)]) -> Message {
    let measurements: Vec<_> = samples
        .iter()
        .map(|(metric, s, val)| json!({"type": format!("m{metric}"), "val": val, "ts": second(*s), "unit": "W"}))
        .collect();
    let payload = json!({"v": 2, "device_id": "m", "seq": 1, "msg_type": "telemetry", "ts": second(at), "measurements": measurements});
    let received = Received {
        topic: "iot/m/telemetry".to_owned(),
        payload: payload.to_string().into(),
        received_at: second(at),
    };
    parse(&received).unwrap()
}

/// Stores messages as ingest does: parts first, then the state.
async fn ingest(memory: &Memory, messages: &[Message], ttl: Option<i64>) {
    let location = Location { object: "o".to_owned(), member: None };
    let parts: Vec<_> =
        messages.iter().flat_map(|m| parts::cut(m, location.clone(), ttl, |_| true)).collect();
    memory.put(&parts).await.unwrap();
    note(memory, messages).await;
}

async fn note(memory: &Memory, messages: &[Message]) {
    let messages: Vec<_> = messages.iter().collect();
    lock::change_state(memory, &device(), |state| state.apply(&messages, &rules())).await.unwrap();
}

async fn roll(memory: &Memory, now: i64) -> RolledUp {
    roll_up(memory, memory, memory, &device(), None, second(now), &rules()).await.unwrap()
}

/// All windows, in pages of `limit`.
async fn windows(memory: &Memory, query: WindowQuery) -> Vec<Window> {
    let store = InMessages::of_one(memory, 300);
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

/// All windows, of the points alone.
async fn reference(memory: &Memory, query: &WindowQuery) -> Vec<Window> {
    let WindowQuery { start, stop, every, aggregate, .. } = *query;
    let asked = Asked { start, stop, every, aggregate, max_gap_s: GAP_S };
    let mut points = PointQuery {
        device_id: device(),
        start: Timestamp::min(),
        stop: Timestamp::max(),
        metric: query.metric.clone(),
        after: None,
        limit: 100_000,
    };
    let mut assembler = Assembler::new(asked);
    loop {
        let page = points::read(memory, &points).await.unwrap();
        for point in &page.points {
            let summary = Summary::of(point.key.time, point.value);
            // A window at the border of the range holds points that are not in it.
            assembler.take(&point.key.metric, &summary, point.unit.as_deref());
        }
        match page.next {
            Some(next) => points.after = Some(next),
            None => return assembler.complete(Timestamp::max()),
        }
    }
}

fn agree(a: &[Window], b: &[Window]) -> Result<(), TestCaseError> {
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
        every: Every::seconds(every_s).unwrap(),
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
    // Some messages hold a run of samples, as devices send them.
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
    fn windows_are_what_the_points_say_whatever_was_rolled_up_when(
        steps in prop::collection::vec(step(), 1..40),
        range in (0..SPAN, 1..SPAN),
        every in prop::sample::select(vec![60u32, 90, 300, 3_600, 7_200, 1]),
        aggregate in prop::sample::select(Aggregate::ALL.to_vec()),
        limit in 1usize..50,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let memory = Memory::new();
            for step in steps {
                match step {
                    Step::Message { at, samples } => ingest(&memory, &[message(at.max(samples.iter().map(|s| s.1).max().unwrap_or(0) - 80_000), &samples)], None).await,
                    Step::Roll { now } => drop(roll(&memory, now).await),
                }
            }
            let every = if every == 1 && range.1 > 2_000 { 60 } else { every };
            let mut query = query(range.0, range.0 + range.1, every, aggregate);
            let expected = reference(&memory, &query).await;
            agree(&windows(&memory, query.clone()).await, &expected)?;
            query.limit = limit;
            if expected.len() < 400 {
                agree(&windows(&memory, query.clone()).await, &expected)?;
            }
            query.metric = MetricName::parse("m1").ok();
            let of_one: Vec<_> = expected.into_iter().filter(|w| Some(&w.key.metric) == query.metric.as_ref()).collect();
            query.limit = 40_000;
            agree(&windows(&memory, query).await, &of_one)
        })?;
    }
}

#[tokio::test]
async fn what_comes_while_an_hour_is_rolled_up_is_not_missed() {
    let memory = Memory::new();
    ingest(&memory, &[message(100, &[(0, 60, 1.0)])], None).await;
    // Its parts are stored, its state is not: the function died, and the message comes again.
    let late = message(200, &[(0, 61, 2.0)]);
    let location = Location { object: "o".to_owned(), member: None };
    roll(&memory, 10_000).await;
    memory.put(&parts::cut(&late, location, None, |_| true)).await.unwrap();
    note(&memory, &[late]).await;
    let sums = || async {
        let windows = windows(&memory, query(0, 3_600, 3_600, Aggregate::Sum)).await;
        windows.iter().map(|w| w.value).collect::<Vec<_>>()
    };
    assert_eq!(sums().await, [3.0]);
    roll(&memory, 20_000).await;
    assert_eq!(sums().await, [3.0]);
}

#[tokio::test]
async fn a_rollup_that_comes_too_late_does_not_undo_a_later_one() {
    let memory = Memory::new();
    ingest(&memory, &[message(100, &[(0, 60, 1.0)])], None).await;
    // One dies after its first write, before it takes the hour out.
    memory.fail_nth(Operation::SaveStates, 1, Fault::Refuse);
    let died = roll_up(&memory, &memory, &memory, &device(), None, second(10_000), &rules()).await;
    assert!(died.is_err());
    let stale = lock::read_state(&memory, &device()).await.unwrap().version;
    ingest(&memory, &[message(200, &[(0, 61, 2.0)])], None).await;
    assert_eq!(roll(&memory, 20_000).await, RolledUp { hours: 1, more: false });
    let cells = memory.cells(&cell_query()).await.unwrap().cells;
    let mut rollup = meter_store::HourRollup {
        device_id: device(),
        metric: MetricName::parse("m0").unwrap(),
        hour: cells[0].clone(),
        minutes: vec![],
        generation: stale,
        points_until: None,
        ttl: None,
    };
    rollup.hour.summary.count = 1;
    memory.put_rollup(&rollup, second(20_000)).await.unwrap();
    assert_eq!(memory.cells(&cell_query()).await.unwrap().cells, cells);
}

/// Rollups of a device that is purged, and heard again, while the first of them is on its way.
struct PurgedMeanwhile(Memory);

impl RollupStore for PurgedMeanwhile {
    async fn put_rollup(&self, rollup: &HourRollup, now: Timestamp) -> Result<(), StoreError> {
        if self.0.calls(Operation::PutRollup) == 0 {
            let parts = self.0.parts(&device());
            let parts: Vec<_> = parts.iter().map(meter_domain::parts::Part::position).collect();
            self.0.remove(&device(), &parts).await?;
            let purge = |state: &mut DeviceState| {
                state.bury(now, true, &rules());
                state.purged(now, Timestamp::min());
                state.swept(now, true);
            };
            lock::change_state(&self.0, &device(), purge).await?;
            ingest(&self.0, &[message(20_100, &[(1, 20_000, 5.0)])], None).await;
        }
        self.0.put_rollup(rollup, now).await
    }

    async fn cells(&self, query: &CellQuery) -> Result<Cells, StoreError> {
        self.0.cells(query).await
    }

    async fn sweep_rollups(&self, device_id: &DeviceId) -> Result<bool, StoreError> {
        self.0.sweep_rollups(device_id).await
    }
}

#[tokio::test]
async fn a_watchdog_that_slept_over_a_purge_leaves_nothing_of_what_was_purged() {
    let memory = Memory::new();
    ingest(&memory, &[message(100, &[(0, 60, 1.0), (0, 7_200, 1.0)])], None).await;
    let slow = PurgedMeanwhile(memory.clone());
    roll_up(&memory, &memory, &slow, &device(), None, second(20_200), &rules()).await.unwrap();
    let cells = async || memory.cells(&cell_query()).await.unwrap().cells;
    assert_eq!(cells().await, []);
    let all = query(0, 86_400, 3_600, Aggregate::Sum);
    let values = async || {
        let windows = windows(&memory, all.clone()).await;
        windows.iter().map(|w| w.value).collect::<Vec<_>>()
    };
    assert_eq!(values().await, [5.0]);
    while roll(&memory, 90_000).await.more {}
    assert_eq!((values().await, cells().await), (vec![5.0], vec![]));
}

fn cell_query() -> meter_store::CellQuery {
    meter_store::CellQuery {
        device_id: device(),
        metric: MetricName::parse("m0").unwrap(),
        level: meter_store::Level::Hour,
        from: second(0),
        to: second(86_400),
        limit: 10,
    }
}

#[tokio::test]
async fn an_hour_whose_points_have_begun_to_expire_is_not_rolled_up_again() {
    let memory = Memory::new();
    ingest(&memory, &[message(100, &[(0, 60, 1.0)])], Some(50_000)).await;
    roll(&memory, 10_000).await;
    let parts: Vec<_> =
        memory.parts(&device()).iter().map(meter_domain::parts::Part::position).collect();
    memory.remove(&device(), &parts).await.unwrap();
    ingest(&memory, &[message(60_000, &[(0, 61, 2.0)])], Some(99_000)).await;
    roll(&memory, 70_000).await;
    let windows = windows(&memory, query(0, 3_600, 3_600, Aggregate::Sum)).await;
    assert_eq!(windows[0].value, 1.0, "what is forgotten cannot be added to");
}

#[tokio::test]
async fn a_month_of_hours_reads_a_hundred_items_at_most() {
    let memory = Memory::new();
    // Two metrics, a message a minute: how many there are in an hour does not matter to the rollups.
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
    while roll(&memory, now).await.more {
        now += 60;
    }
    let before = memory.calls(Operation::ReadParts);
    let mut query = query(0, 30 * 86_400, 3_600, Aggregate::Mean);
    let windows = windows(&memory, query.clone()).await;
    assert_eq!(windows.len(), 2 * 720);
    assert_eq!(memory.calls(Operation::ReadParts), before, "no message was read");
    let items = |metric: &str| {
        let metric = MetricName::parse(metric).unwrap();
        meter_store::CellQuery { metric, to: second(30 * 86_400), limit: 1_000, ..cell_query() }
    };
    let read = memory.cells(&items("m0")).await.unwrap().items
        + memory.cells(&items("m1")).await.unwrap().items;
    assert!(read <= 100, "{read} items");
    // A page of points of the same range ends where its budget does.
    query.every = Every::seconds(7).unwrap();
    let page = InMessages::of_one(&memory, 300).windows(&query).await.unwrap();
    assert!(
        page.windows.len() < 40_000
            && page.next.is_none_or(|next: WindowKey| next.start > second(0))
    );
}
