use meter_domain::archive::Location;
use meter_domain::id::{DeviceId, Mid};
use meter_domain::message::Category;
use meter_domain::parts::{Head, Sample};
use meter_testing::memory::Memory;
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

/// A message made at second `s` with samples (metric, second, value).
#[derive(Debug, Clone)]
struct Made {
    s: i64,
    samples: Vec<(u8, i64, i32)>,
}

impl Made {
    fn mid(&self) -> Mid {
        Mid::of("t", format!("{self:?}").as_bytes())
    }

    fn points(&self) -> Vec<Point> {
        let mut points: Vec<Point> = Vec::new();
        for (metric, s, value) in &self.samples {
            let same = |p: &&Point| p.key.metric == name(*metric) && p.key.time == second(*s);
            let ordinal = points.iter().filter(same).count() as u16;
            points.push(Point {
                key: PointKey { time: second(*s), metric: name(*metric), ordinal },
                value: f64::from(*value),
                unit: None,
                claim: meter_domain::metric::Claim { ts: second(self.s), mid: self.mid() },
            });
        }
        points
    }

    fn parts(&self) -> Vec<Part> {
        let mut intervals: BTreeMap<Timestamp, Vec<Sample>> = BTreeMap::new();
        for point in self.points() {
            intervals.entry(point.key.time.floor(PART_SECONDS)).or_default().push(Sample {
                metric: point.key.metric,
                time: point.key.time,
                ordinal: point.key.ordinal,
                value: point.value,
                unit: None,
            });
        }
        let ts = second(self.s);
        let location = Location { object: "o".to_owned(), member: None };
        let head = Head { category: Category::Telemetry, received_at: ts, size: 1, location };
        let part = |ts, head, samples| Part {
            device_id: device(),
            mid: self.mid(),
            ts,
            head,
            claim_ts: second(self.s),
            samples,
            ttl: None,
        };
        let first = intervals.remove(&ts.floor(PART_SECONDS)).unwrap_or_default();
        let mut parts = vec![part(ts, Some(head), first)];
        parts.extend(intervals.into_iter().map(|(start, samples)| part(start, None, samples)));
        parts
    }
}

/// What a reader must answer, by looking at everything at once.
fn expected(messages: &[Made], query: &PointQuery) -> Vec<Point> {
    let mut points: BTreeMap<PointKey, Point> = BTreeMap::new();
    for point in messages.iter().flat_map(Made::points) {
        let held = points.entry(point.key.clone()).or_insert_with(|| point.clone());
        if point.claim > held.claim {
            *held = point;
        }
    }
    let wanted = |p: &Point| {
        (query.start..query.stop).contains(&p.key.time)
            && query.metric.as_ref().is_none_or(|m| *m == p.key.metric)
    };
    points.into_values().filter(wanted).collect()
}

async fn store(messages: &[Made]) -> Memory {
    let memory = Memory::new();
    for message in messages {
        MessageStore::put(&memory, &message.parts()).await.unwrap();
    }
    memory
}

/// Reads page after page.
async fn read_all(memory: &Memory, query: &PointQuery) -> Vec<Point> {
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

fn messages() -> impl Strategy<Value = Vec<Made>> {
    // Over two days and around midnight, with few distinct seconds so that claims collide.
    let near = prop_oneof![86_390_i64..86_410, 0_i64..900, Just(299), Just(300)];
    let samples = prop::collection::vec((0_u8..3, near.clone(), any::<i32>()), 0..6);
    prop::collection::vec((near, samples).prop_map(|(s, samples)| Made { s, samples }), 0..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn pages_together_are_each_point_once_of_the_message_with_the_greater_claim(
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
async fn a_request_reads_a_bounded_number_of_days() {
    const DAY: i64 = 24 * 3600;
    let messages: Vec<_> =
        (0..600).map(|day| Made { s: day * DAY, samples: vec![(0, day * DAY, 1)] }).collect();
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
    assert!(first.next.is_some(), "it would read 600 days");
    assert!(read_all(&memory, &query).await.is_empty());
    let all = PointQuery { metric: None, limit: 1_000, ..query };
    assert_eq!(read_all(&memory, &all).await.len(), 600);
}

#[tokio::test]
async fn a_request_reads_a_bounded_number_of_parts_and_the_next_one_goes_on_where_it_ended() {
    // 4 messages a second interval of 300 s, all of another metric than the one asked for.
    let messages: Vec<_> = (0..6_000)
        .map(|i| Made { s: i * 75, samples: vec![(u8::from(i == 5_999), i * 75, 1)] })
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
