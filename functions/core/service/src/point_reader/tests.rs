use meter_domain::archive::Location;
use meter_domain::id::{DeviceId, MessageId};
use meter_domain::message::Category;
use meter_domain::metric::Sample;
use meter_domain::segments::IndexEntry;
use meter_testing::memory::MemoryStores;
use proptest::prelude::*;

use super::*;

fn device() -> DeviceId {
    DeviceId::parse("m").unwrap()
}

fn second(s: i64) -> Timestamp {
    Timestamp::from_millis(s * 1_000).unwrap()
}

fn name(metric: u8) -> MetricName {
    MetricName::parse(&format!("m{metric}")).unwrap()
}

/// A message of second `s` with samples (metric, second, value).
#[derive(Debug, Clone)]
struct TestMessage {
    s: i64,
    samples: Vec<(u8, i64, i32)>,
}

impl TestMessage {
    fn message_id(&self) -> MessageId {
        MessageId::of("t", format!("{self:?}").as_bytes())
    }

    fn points(&self) -> Vec<Point> {
        let mut points: Vec<Point> = Vec::new();
        for (metric, s, value) in &self.samples {
            let same = |p: &&Point| p.key.metric == name(*metric) && p.key.time == second(*s);
            let sample_index = points.iter().filter(same).count() as u16;
            points.push(Point {
                key: PointKey { time: second(*s), metric: name(*metric), sample_index },
                value: f64::from(*value),
                unit: None,
                precedence: meter_domain::metric::Precedence {
                    ts: second(self.s),
                    message_id: self.message_id(),
                },
            });
        }
        points
    }

    fn segments(&self) -> Vec<MessageSegment> {
        let mut intervals: BTreeMap<Timestamp, Vec<Sample>> = BTreeMap::new();
        for point in self.points() {
            intervals.entry(point.key.time.floor(SEGMENT_SECONDS)).or_default().push(Sample {
                metric: point.key.metric,
                time: point.key.time,
                sample_index: point.key.sample_index,
                value: point.value,
                unit: None,
            });
        }
        let ts = second(self.s);
        let location = Location { object: "o".to_owned(), member: None };
        let index_entry =
            IndexEntry { category: Category::Telemetry, received_at: ts, size: 1, location };
        let segment = |ts, index_entry, samples| MessageSegment {
            device_id: device(),
            message_id: self.message_id(),
            ts,
            index_entry,
            envelope_ts: second(self.s),
            samples,
            ttl: None,
        };
        let first = intervals.remove(&ts.floor(SEGMENT_SECONDS)).unwrap_or_default();
        let mut segments = vec![segment(ts, Some(index_entry), first)];
        segments
            .extend(intervals.into_iter().map(|(start, samples)| segment(start, None, samples)));
        segments
    }
}

/// The expected points, computed from all messages at once.
fn expected(messages: &[TestMessage], query: &PointQuery) -> Vec<Point> {
    let mut points: BTreeMap<PointKey, Point> = BTreeMap::new();
    for point in messages.iter().flat_map(TestMessage::points) {
        let held = points.entry(point.key.clone()).or_insert_with(|| point.clone());
        if point.precedence > held.precedence {
            *held = point;
        }
    }
    let wanted = |p: &Point| {
        (query.start..query.stop).contains(&p.key.time)
            && query.metric.as_ref().is_none_or(|m| *m == p.key.metric)
    };
    points.into_values().filter(wanted).collect()
}

async fn store(messages: &[TestMessage]) -> MemoryStores {
    let memory = MemoryStores::new();
    for message in messages {
        MessageStore::put(&memory, &message.segments()).await.unwrap();
    }
    memory
}

/// Reads all pages.
async fn read_all(memory: &MemoryStores, query: &PointQuery) -> Vec<Point> {
    let mut query = query.clone();
    let mut all = Vec::new();
    loop {
        let page = read(memory, &query).await.unwrap();
        assert!(page.points.len() <= query.limit);
        all.extend(page.points);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return all,
        }
    }
}

fn messages() -> impl Strategy<Value = Vec<TestMessage>> {
    // Over two days and around midnight, with few distinct seconds, so that points conflict.
    let near = prop_oneof![86_390_i64..86_410, 0_i64..900, Just(299), Just(300)];
    let samples = prop::collection::vec((0_u8..3, near.clone(), any::<i32>()), 0..6);
    prop::collection::vec(
        (near, samples).prop_map(|(s, samples)| TestMessage { s, samples }),
        0..25,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn pages_contain_each_point_once_from_the_message_with_precedence(
        messages in messages(),
        start in 0_i64..86_420,
        length in 1_i64..90_000,
        metric in prop::option::of(0_u8..3),
        limit in 1_usize..20,
    ) {
        let query = PointQuery {
            device_id: device(),
            start: second(start),
            stop: second(start + length),
            metric: metric.map(name),
            after: None,
            limit,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let all = runtime.block_on(async {
            let memory = store(&messages).await;
            read_all(&memory, &query).await
        });
        prop_assert_eq!(all, expected(&messages, &query));
    }
}

#[tokio::test]
async fn page_reads_a_bounded_number_of_days() {
    const DAY: i64 = 24 * 3600;
    let messages: Vec<_> = (0..600)
        .map(|day| TestMessage { s: day * DAY, samples: vec![(0, day * DAY, 1)] })
        .collect();
    let memory = store(&messages).await;
    let query = PointQuery {
        device_id: device(),
        start: second(0),
        stop: Timestamp::max(),
        metric: Some(name(1)),
        after: None,
        limit: 10,
    };
    let first = read(&memory, &query).await.unwrap();
    assert!(first.next.is_some(), "one page must not read 600 days");
    assert!(read_all(&memory, &query).await.is_empty());
    let all = PointQuery { metric: None, limit: 1_000, ..query };
    assert_eq!(read_all(&memory, &all).await.len(), 600);
}

#[tokio::test]
async fn page_reads_a_bounded_number_of_segments_and_the_next_page_continues() {
    // 4 messages a second interval of 300 s, all but one without the requested metric.
    let messages: Vec<_> = (0..6_000)
        .map(|i| TestMessage { s: i * 75, samples: vec![(u8::from(i == 5_999), i * 75, 1)] })
        .collect();
    let memory = store(&messages).await;
    let query = PointQuery {
        device_id: device(),
        start: second(0),
        stop: Timestamp::max(),
        metric: Some(name(1)),
        after: None,
        limit: 10,
    };
    let first = read(&memory, &query).await.unwrap();
    assert!(first.points.is_empty() && first.next.is_some());
    assert_eq!(read_all(&memory, &query).await.len(), 1);
}
