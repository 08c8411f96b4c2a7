//! Records that Timestream rejects.

use meter_domain::id::MessageId;
use meter_domain::metric::DevicePoint;
use meter_domain::metric::{MetricName, Point, PointKey, Precedence};
use meter_domain::time::Timestamp;
use meter_store::{MetricStore, PointQuery, WriteSummary};
use meter_testing::contract::Ports;
use meter_testing::fixtures::id;

use crate::emulator::Emulator;
use crate::timestream_server::Timestream;

/// A point of `metric`, `s` seconds from now, in a message with an envelope time `precedence_s`
/// from now.
fn point(now: Timestamp, metric: &str, s: i64, precedence_s: i64) -> DevicePoint {
    let key = PointKey {
        time: now.plus_seconds(s),
        metric: MetricName::parse(metric).unwrap(),
        sample_index: 0,
    };
    let message_id = MessageId::of("t", &precedence_s.to_be_bytes());
    let precedence = Precedence { ts: now.plus_seconds(precedence_s), message_id };
    let point = Point { key, value: precedence_s as f64, unit: None, precedence };
    DevicePoint { device_id: id("m"), point }
}

#[tokio::test]
async fn rejected_records_are_counted_by_reason_and_others_are_stored() {
    let (emulator, timestream) = (Emulator::ministack().await, Timestream::start().await);
    let ports = crate::new_aws_ports_with(&emulator.url, Some(&timestream)).await;
    let now = Timestamp::now().floor(1);
    let put = async |points: &[DevicePoint]| ports.metrics().put_points(points).await.unwrap();
    let day = 24 * 3_600;

    let first =
        [point(now, "pf", 0, 5), point(now, "voltage_dc", -60, 5), point(now, "free", 0, 5)];
    assert_eq!(put(&first).await, WriteSummary::default());
    assert_eq!(put(&first).await, WriteSummary::default(), "a repetition is not superseded");

    // Lower precedence: known metrics share a record, others have their own.
    let lesser = [point(now, "pf", 0, 4), point(now, "free", 0, 4), point(now, "pf", -1, 4)];
    assert_eq!(put(&lesser).await, WriteSummary { superseded: 2, ..WriteSummary::default() });

    // Older than the retention of the table, beyond its future limit, and before 1970.
    let outside = [
        point(now, "pf", -40 * day, 6),
        point(now, "pf", 3_600, 6),
        point(now, "pf", -100 * 365 * day, 6),
        point(now, "pf", -2, 6),
    ];
    assert_eq!(
        put(&outside).await,
        WriteSummary { outside_retention: 3, ..WriteSummary::default() }
    );

    let query = PointQuery {
        device_id: id("m"),
        start: Timestamp::EPOCH,
        stop: now.plus_seconds(day),
        metric: None,
        after: None,
        limit: 100,
    };
    let points = ports.metrics().points(&query).await.unwrap().points;
    let found = points.iter().map(|p| {
        let seconds = p.key.time.as_seconds() - now.as_seconds();
        (seconds, p.key.metric.as_str(), p.value)
    });
    let expected = [
        (-60, "voltage_dc", 5.0),
        (-2, "pf", 6.0),
        (-1, "pf", 4.0),
        (0, "free", 5.0),
        (0, "pf", 5.0),
    ];
    assert_eq!(found.collect::<Vec<_>>(), expected);
}
