use meter_domain::aggregate::Summary;
use meter_domain::metric::MetricName;
use meter_domain::time::Timestamp;
use meter_store::{BucketPage, BucketQuery, HourRollup, RollupBucket, RollupLevel, RollupStore};

use super::{Ports, contracts};
use crate::fixtures::{id, second};

contracts! {
    buckets_read_back_by_metric_and_range
    limited_read_of_buckets_returns_how_far_it_is_complete
    rollup_of_the_later_generation_is_kept
    rollup_with_expiring_points_is_kept
    cleanup_deletes_rollups_of_one_device
}

const HOUR_S: i64 = 3_600;

fn metric(name: &str) -> MetricName {
    MetricName::parse(name).unwrap()
}

fn bucket(start_s: i64, value: f64) -> RollupBucket {
    let start = second(start_s);
    let mut summary = Summary::of(start, value);
    summary.join(&Summary::of(start.plus_seconds(59), value + 0.1), 300);
    RollupBucket { start, summary, unit: Some("V".to_owned()) }
}

fn rollup(device: &str, name: &str, hour: i64, value: f64) -> HourRollup {
    HourRollup {
        device_id: id(device),
        metric: metric(name),
        hour: bucket(hour * HOUR_S, value),
        minutes: vec![bucket(hour * HOUR_S, value), bucket(hour * HOUR_S + 120, value)],
        generation: 1,
        points_expire_at: None,
        ttl: None,
    }
}

fn query(device: &str, name: &str, level: RollupLevel, from_s: i64, to_s: i64) -> BucketQuery {
    let (from, to) = (second(from_s), second(to_s));
    BucketQuery { device_id: id(device), metric: metric(name), level, from, to, limit: 100 }
}

async fn put(ports: &impl Ports, rollup: &HourRollup) {
    ports.rollups().put_rollup(rollup, second(1_000_000)).await.unwrap();
}

async fn read(ports: &impl Ports, query: BucketQuery) -> BucketPage {
    ports.rollups().buckets(&query).await.unwrap()
}

async fn buckets_read_back_by_metric_and_range(ports: &impl Ports) {
    let stored = rollup("m", "a", 25, 1.0);
    put(ports, &stored).await;
    put(ports, &rollup("m", "a.b", 25, 2.0)).await;
    put(ports, &rollup("m", "a", 26, 3.0)).await;
    put(ports, &rollup("n", "a", 25, 4.0)).await;
    let (from, to) = (25 * HOUR_S, 26 * HOUR_S);
    let hours = read(ports, query("m", "a", RollupLevel::Hour, from, to)).await;
    assert_eq!(
        hours,
        BucketPage {
            buckets: vec![stored.hour.clone()],
            complete_until: second(to),
            items_read: 1
        }
    );
    let minutes = read(ports, query("m", "a", RollupLevel::Minute, from, to)).await;
    assert_eq!(minutes.buckets, stored.minutes);
    let minutes = read(ports, query("m", "a", RollupLevel::Minute, from + 60, from + 180)).await;
    assert_eq!(minutes.buckets, stored.minutes[1..]);
    let none = read(ports, query("m", "a", RollupLevel::Minute, 0, from)).await;
    assert_eq!(none, BucketPage { buckets: vec![], complete_until: second(from), items_read: 0 });
}

async fn limited_read_of_buckets_returns_how_far_it_is_complete(ports: &impl Ports) {
    for hour in (0..72).rev() {
        put(ports, &rollup("m", "a", hour, hour as f64)).await;
    }
    let all = read(ports, query("m", "a", RollupLevel::Hour, 0, 72 * HOUR_S)).await;
    assert_eq!(
        (all.buckets.len(), all.items_read, all.complete_until),
        (72, 3, second(72 * HOUR_S))
    );
    assert!(all.buckets.is_sorted_by_key(|bucket| bucket.start));
    let mut some = query("m", "a", RollupLevel::Hour, HOUR_S, 72 * HOUR_S);
    let mut buckets = Vec::new();
    while some.from < some.to {
        let read = read(ports, BucketQuery { limit: 1, ..some.clone() }).await;
        assert!(read.complete_until > some.from && read.items_read <= 1);
        buckets
            .extend(read.buckets.into_iter().filter(|bucket| bucket.start < read.complete_until));
        some.from = read.complete_until;
    }
    assert_eq!(buckets, all.buckets[1..]);
}

async fn rollup_of_the_later_generation_is_kept(ports: &impl Ports) {
    for (hour, generations) in [(0, [3, 7]), (1, [7, 3])] {
        for generation in generations {
            let rollup = rollup("m", "a", hour, generation as f64);
            put(ports, &HourRollup { generation, ..rollup }).await;
        }
    }
    for level in [RollupLevel::Hour, RollupLevel::Minute] {
        let buckets = read(ports, query("m", "a", level, 0, 2 * HOUR_S)).await.buckets;
        assert!(buckets.iter().all(|bucket| bucket.summary.min == 7.0), "{buckets:?}");
    }
}

async fn rollup_with_expiring_points_is_kept(ports: &impl Ports) {
    let now = Timestamp::EPOCH.plus_seconds(1_000_000);
    let until = Some(now.as_seconds());
    let first = HourRollup { points_expire_at: until, ttl: until, ..rollup("m", "a", 0, 1.0) };
    let again = HourRollup { generation: 2, ..rollup("m", "a", 0, 2.0) };
    let value = async || {
        read(ports, query("m", "a", RollupLevel::Hour, 0, HOUR_S)).await.buckets[0].summary.min
    };
    let before = now.plus_seconds(-1);
    ports.rollups().put_rollup(&first, before).await.unwrap();
    ports.rollups().put_rollup(&again, now).await.unwrap();
    assert_eq!(value().await, 1.0);
    ports.rollups().put_rollup(&again, before).await.unwrap();
    assert_eq!(value().await, 2.0);
}

async fn cleanup_deletes_rollups_of_one_device(ports: &impl Ports) {
    for hour in 0..40 {
        put(ports, &rollup("m", "a", hour, 1.0)).await;
        put(ports, &rollup("n", "a", hour, 1.0)).await;
    }
    while ports.rollups().delete_rollups_for_device(&id("m")).await.unwrap() {}
    for level in [RollupLevel::Hour, RollupLevel::Minute] {
        assert_eq!(read(ports, query("m", "a", level, 0, 40 * HOUR_S)).await.buckets, []);
        assert!(!read(ports, query("n", "a", level, 0, 40 * HOUR_S)).await.buckets.is_empty());
    }
}
