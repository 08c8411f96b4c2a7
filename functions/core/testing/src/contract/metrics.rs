use std::sync::LazyLock;

use meter_domain::aggregate::{Aggregate, Assembler, Summary, Window, WindowSize, WindowSpec};
use meter_domain::archive::Location;
use meter_domain::message::{Message, ReceivedMessage, parse};
use meter_domain::metric::{MetricName, Point};
use meter_domain::state::DevicePolicy;
use meter_domain::time::Timestamp;
use meter_service::optimistic_update;
use meter_store::{MessageStore, MetricStore, PointQuery, WindowQuery};
use serde_json::{Value, json};

use super::{Ports, contracts};
use crate::fixtures::id;

contracts! {
    points_read_back_by_time_and_metric_with_units
    point_with_precedence_is_returned_in_any_order_of_arrival
    metrics_of_several_messages_at_one_instant_are_merged
    samples_of_one_metric_and_instant_are_all_kept
    pages_contain_each_point_once
    device_without_messages_has_no_points
    windows_equal_the_aggregates_of_the_points
}

/// A full hour in the recent past, since a store may reject older and future times; constant during
/// a run.
fn base() -> Timestamp {
    static BASE: LazyLock<Timestamp> =
        LazyLock::new(|| Timestamp::now().floor(3_600).plus_seconds(-3 * 3_600));
    *BASE
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(base().as_millis() + ms).unwrap()
}

/// A message of `device` with envelope time `ts_ms` and samples (metric, time in ms, value).
fn message(device: &str, ts_ms: i64, samples: &[(&str, i64, f64)]) -> Message {
    let samples: Vec<Value> = samples
        .iter()
        .map(|(metric, ms, value)| json!({"type": metric, "val": value, "ts": at(*ms)}))
        .collect();
    message_of(device, ts_ms, json!(samples))
}

fn message_of(device: &str, ts_ms: i64, measurements: Value) -> Message {
    let payload = json!({"v": 2, "device_id": device, "seq": 1, "msg_type": "telemetry", "ts": at(ts_ms),
        "measurements": measurements});
    let received = ReceivedMessage {
        topic: format!("iot/{device}/telemetry"),
        payload: payload.to_string().into(),
        received_at: Timestamp::now(),
    };
    parse(&received).unwrap()
}

/// Stores messages as ingest does.
async fn store(ports: &impl Ports, messages: &[Message]) {
    let location = Location { object: "o".to_owned(), member: None };
    for message in messages {
        let (segments, points) =
            ports.metrics().split_message(message, location.clone(), None, |_| true);
        ports.messages().put(&segments).await.unwrap();
        let written = ports.metrics().put_points(&points).await.unwrap();
        assert_eq!(written.outside_retention, 0);
    }
    for message in messages {
        let apply = |state: &mut meter_domain::state::DeviceState| {
            state.apply(&[message], &DevicePolicy::default());
        };
        optimistic_update::update_state(ports.states(), &message.device_id, apply).await.unwrap();
    }
}

fn range(device: &str) -> PointQuery {
    PointQuery {
        device_id: id(device),
        start: at(0),
        stop: at(3 * 3_600_000),
        metric: None,
        after: None,
        limit: 1_000,
    }
}

/// Converts points to metric, time in ms, sample index and value.
fn to_tuples(points: &[Point]) -> Vec<(String, i64, u16, f64)> {
    let since = |t: Timestamp| t.as_millis() - base().as_millis();
    points
        .iter()
        .map(|p| (p.key.metric.to_string(), since(p.key.time), p.key.sample_index, p.value))
        .collect()
}

async fn read(ports: &impl Ports, query: &PointQuery) -> Vec<(String, i64, u16, f64)> {
    let page = ports.metrics().points(query).await.unwrap();
    assert_eq!(page.next, None);
    to_tuples(&page.points)
}

fn point(metric: &str, ms: i64, sample_index: u16, value: f64) -> (String, i64, u16, f64) {
    (metric.to_owned(), ms, sample_index, value)
}

async fn points_read_back_by_time_and_metric_with_units(ports: &impl Ports) {
    let samples = json!([
        {"type": "temperature", "val": 300.5, "unit": "K", "ts": at(2)},
        {"type": "voltage_dc", "val": 1500, "unit": "V", "ts": at(1)},
        {"type": "a.b-C_9", "val": -1e300, "unit": "m/s", "ts": at(1)},
        {"type": "time", "val": 0.1, "ts": at(1)},
        {"type": "measure_name", "val": 5e-324, "ts": at(1)},
        {"type": "pf", "val": 0.98, "ts": at(7_199_999)},
    ]);
    store(ports, &[message_of("m", 0, samples), message("n", 0, &[("pf", 1, 1.0)])]).await;
    let page = ports.metrics().points(&range("m")).await.unwrap();
    assert_eq!(
        to_tuples(&page.points),
        [
            point("a.b-C_9", 1, 0, -1e300),
            point("measure_name", 1, 0, 5e-324),
            point("time", 1, 0, 0.1),
            point("voltage_dc", 1, 0, 1_500.0),
            point("temperature", 2, 0, 300.5),
            point("pf", 7_199_999, 0, 0.98),
        ]
    );
    let unit = |name: &str| {
        let of = |p: &&Point| p.key.metric.as_str() == name;
        page.points.iter().find(of).unwrap().unit.clone().unwrap_or_default()
    };
    assert_eq!((unit("a.b-C_9").as_str(), unit("temperature").as_str()), ("m/s", "K"));
    let metric = MetricName::parse("temperature").ok();
    assert_eq!(read(ports, &PointQuery { metric, ..range("m") }).await.len(), 1);
    let narrow = PointQuery { start: at(2), stop: at(7_199_999), ..range("m") };
    assert_eq!(read(ports, &narrow).await, [point("temperature", 2, 0, 300.5)]);
}

async fn point_with_precedence_is_returned_in_any_order_of_arrival(ports: &impl Ports) {
    let (early, late) = (
        message("m", 0, &[("pf", 5, 0.1), ("x", 5, 1.0)]),
        message("m", 1, &[("pf", 5, 0.2), ("x", 5, 2.0)]),
    );
    for order in [[&early, &late], [&late, &early], [&late, &late]] {
        for message in order {
            store(ports, std::slice::from_ref(message)).await;
        }
        assert_eq!(read(ports, &range("m")).await, [point("pf", 5, 0, 0.2), point("x", 5, 0, 2.0)]);
    }
    store(ports, &[early, late]).await;
    assert_eq!(read(ports, &range("m")).await, [point("pf", 5, 0, 0.2), point("x", 5, 0, 2.0)]);
}

async fn metrics_of_several_messages_at_one_instant_are_merged(ports: &impl Ports) {
    store(ports, &[message("m", 0, &[("pf", 5, 0.1), ("battery", 5, 24.0)])]).await;
    // A later message on one of these metrics, and on another.
    store(ports, &[message("m", 1, &[("pf", 5, 0.2), ("thd_v", 5, 3.0)])]).await;
    // An earlier message that arrives last.
    store(
        ports,
        &[message("m", -1, &[("pf", 5, 0.3), ("battery", 5, 12.0), ("frequency", 5, 50.0)])],
    )
    .await;
    let expected = [
        point("battery", 5, 0, 24.0),
        point("frequency", 5, 0, 50.0),
        point("pf", 5, 0, 0.2),
        point("thd_v", 5, 0, 3.0),
    ];
    assert_eq!(read(ports, &range("m")).await, expected);
    let query = windows_of("m", Aggregate::Sum, 60);
    let windows = ports.metrics().windows(&query).await.unwrap().windows;
    let sums: Vec<_> = windows.iter().map(|w| (w.key.metric.as_str(), w.value)).collect();
    assert_eq!(sums, [("battery", 24.0), ("frequency", 50.0), ("pf", 0.2), ("thd_v", 3.0)]);
}

async fn samples_of_one_metric_and_instant_are_all_kept(ports: &impl Ports) {
    let samples = [("pf", 1, 0.1), ("x", 1, 1.0), ("pf", 1, 0.2), ("x", 1, 2.0), ("pf", 2, 0.3)];
    store(ports, &[message("m", 0, &samples)]).await;
    let expected = [
        point("pf", 1, 0, 0.1),
        point("pf", 1, 1, 0.2),
        point("x", 1, 0, 1.0),
        point("x", 1, 1, 2.0),
        point("pf", 2, 0, 0.3),
    ];
    assert_eq!(read(ports, &range("m")).await, expected);
}

async fn pages_contain_each_point_once(ports: &impl Ports) {
    let samples: Vec<_> =
        (0..50).map(|i| (["pf", "x", "y"][i % 3], (i / 5) as i64, i as f64)).collect();
    store(ports, &[message("m", 0, &samples)]).await;
    let whole = read(ports, &range("m")).await;
    assert_eq!(whole.len(), 50);
    for limit in [1, 2, 3, 7, 49, 50] {
        let mut query = PointQuery { limit, ..range("m") };
        let mut points = Vec::new();
        loop {
            let page = ports.metrics().points(&query).await.unwrap();
            assert!(page.points.len() <= limit);
            points.extend(to_tuples(&page.points));
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        assert_eq!(points, whole, "{limit}");
    }
}

async fn device_without_messages_has_no_points(ports: &impl Ports) {
    assert!(read(ports, &range("m")).await.is_empty());
    for aggregate in [Aggregate::Mean, Aggregate::Integral] {
        let page = ports.metrics().windows(&windows_of("m", aggregate, 60)).await.unwrap();
        assert_eq!((page.windows.len(), page.next), (0, None));
    }
}

fn windows_of(device: &str, aggregate: Aggregate, every_s: u32) -> WindowQuery {
    WindowQuery {
        device_id: id(device),
        start: at(0),
        stop: at(3 * 3_600_000),
        metric: None,
        every: WindowSize::from_seconds(every_s).unwrap(),
        aggregate,
        after: None,
        limit: 40_000,
    }
}

/// Compares the windows of reproducible random series with aggregates of their points.
async fn windows_equal_the_aggregates_of_the_points(ports: &impl Ports) {
    let mut random = 7_u64;
    let mut next = |below: u64| {
        // The linear congruential generator MMIX by Knuth.
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for round in 0..2 {
        let device = format!("m{round}");
        let messages: Vec<_> = (0..20)
            .map(|ts| {
                let samples: Vec<_> = (0..1 + next(20))
                    .map(|_| {
                        let metric = ["pf", "voltage_dc", "x", "y.z"][next(4) as usize];
                        // Few instants, so that messages conflict.
                        let ms = next(200) as i64 * 54_321 % 10_800_000;
                        (metric, ms, next(1_000_000) as f64 / 7.0 - 70_000.0)
                    })
                    .collect();
                message(&device, ts, &samples)
            })
            .collect();
        store(ports, &messages).await;
        let points = ports.metrics().points(&range(&device)).await.unwrap().points;
        assert!(points.len() > 30);
        for aggregate in Aggregate::ALL {
            let (start, every_s) = (at(1_234_567), [7, 600][round]);
            let query = WindowQuery { start, ..windows_of(&device, aggregate, every_s) };
            let spec = WindowSpec {
                start,
                stop: query.stop,
                every: query.every,
                aggregate,
                max_gap_s: 300,
            };
            let mut assembler = Assembler::new(spec);
            for point in &points {
                let summary = Summary::of(point.key.time, point.value);
                assembler.add(&point.key.metric, &summary, point.unit.as_deref());
            }
            let expected = assembler.take_complete(Timestamp::max());
            assert_windows(ports, query.clone(), &expected).await;
            if matches!(aggregate, Aggregate::Last | Aggregate::Integral) {
                assert_windows(ports, WindowQuery { limit: 17, ..query.clone() }, &expected).await;
            }
            let metric = MetricName::parse("x").unwrap();
            let of_x: Vec<_> =
                expected.into_iter().filter(|window| window.key.metric == metric).collect();
            assert_windows(ports, WindowQuery { metric: Some(metric), ..query }, &of_x).await;
        }
    }
}

async fn assert_windows(ports: &impl Ports, mut query: WindowQuery, expected: &[Window]) {
    let mut windows = Vec::new();
    for page in 0.. {
        assert!(page < 2_000, "the pages do not end");
        let page = ports.metrics().windows(&query).await.unwrap();
        assert!(page.windows.len() <= query.limit);
        windows.extend(page.windows);
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    let keys = |windows: &[Window]| windows.iter().map(|w| w.key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&windows), keys(expected), "{query:?}");
    for (a, b) in windows.iter().zip(expected) {
        // Sums of values of both signs lose digits in floating-point arithmetic.
        assert!((a.value - b.value).abs() <= 1e-8, "expected {b:?}, actual {a:?}");
        assert_eq!(a.unit, b.unit);
    }
}
