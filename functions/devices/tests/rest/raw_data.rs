use bytes::Bytes;
use meter_domain::archive::{Layout, Location, file_name};
use meter_domain::id::MessageId;
use meter_domain::message::Category;
use meter_domain::segments::{IndexEntry, MessageSegment};
use meter_store::{Archive, MessageStore};
use meter_testing::http::get;
use meter_testing::memory::Operation;
use serde_json::{Value, json};

use crate::system::{System, device_id, field, t, telemetry};

const RAW: &str = "/api/devices/a:1/raw-data";

fn hello(ts: &str) -> Vec<u8> {
    let hello = json!({"v": 2, "device_id": "a:1", "ts": ts, "seq": 0, "msg_type": "hello",
        "fw_version": "1.0.0", "uptime_s": 1, "broker_connections": 1, "buf_usage_pct": 0});
    hello.to_string().into_bytes()
}

/// Three days of messages, some of them late, received in two batches.
async fn system(layout: Layout) -> System {
    let mut system = System::new();
    system.layout = layout;
    let received = "2026-03-03T08:00:00Z";
    let topic = "iot/a:1/telemetry";
    let message =
        |ts: &str| (topic, telemetry("a:1", ts, json!([{"type": "pf", "val": 1}])), received);
    system
        .receive(&[
            message("2026-03-01T10:00:00Z"),
            message("2026-03-01T10:30:00Z"),
            message("2026-02-28T23:59:59Z"),
        ])
        .await;
    system
        .receive(&[
            message("2026-03-02T00:00:00Z"),
            ("iot/a:1/hello", hello("2026-03-01T10:15:00Z"), received),
        ])
        .await;
    system
}

async fn names(system: &System, query: &str) -> Vec<String> {
    let found = system.all(&format!("{RAW}?{query}")).await;
    field(&found, "filename").iter().map(|name| short(name)).collect()
}

/// A name without the fraction of the time and the message id.
fn short(name: &str) -> String {
    let (stem, rest) = name.split_once(".000000000Z-").unwrap();
    assert!(rest.len() == 37 && rest.ends_with(".json"), "{rest}");
    stem.strip_prefix("a:1/").unwrap().to_owned()
}

const ALL: [&str; 5] = [
    "telemetry/20260302T000000",
    "telemetry/20260301T103000",
    "hello/20260301T101500",
    "telemetry/20260301T100000",
    "telemetry/20260228T235959",
];

#[tokio::test]
async fn message_name_has_device_category_time_and_id() {
    let system = System::new();
    let payload = hello("2026-03-01T10:15:00.5Z");
    let (message_id, size) = (MessageId::of("iot/a:1/hello", &payload), payload.len());
    system.receive(&[("iot/a:1/hello", payload, "2026-03-01T10:15:01Z")]).await;
    assert_eq!(
        system.json(RAW).await,
        json!([{"filename": format!("a:1/hello/20260301T101500.500000000Z-{message_id}.json"), "size": size,
            "last_modified": "2026-03-01T10:15:01Z"}])
    );
}

#[tokio::test]
async fn messages_are_listed_newest_first_by_prefix_and_time() {
    let system = system(Layout::Batch).await;
    for (query, wanted) in [
        ("", &ALL[..]),
        ("prefix=hello", &ALL[2..3]),
        ("prefix=hello/", &ALL[2..3]),
        ("prefix=telemetry/20260301", &[ALL[1], ALL[3]]),
        ("prefix=telemetry/20260301T10", &[ALL[1], ALL[3]]),
        ("prefix=telemetry/20260301T103", &ALL[1..2]),
        ("prefix=telemetry/202602", &ALL[4..]),
        ("prefix=status", &[]),
        ("prefix=a:1/hello", &[]),
        ("start=2026-03-01T10:15:00Z&stop=2026-03-02T00:00:00Z", &ALL[1..3]),
        ("stop=2026-03-01T00:00:00Z", &ALL[4..]),
        ("prefix=telemetry&start=2026-03-01T00:00:00Z", &[ALL[0], ALL[1], ALL[3]]),
    ] {
        assert_eq!(names(&system, query).await, wanted, "{query}");
        assert_eq!(names(&system, &format!("{query}&limit=1")).await, wanted, "{query} by ones");
        assert_eq!(names(&system, &format!("{query}&limit=2")).await, wanted, "{query} by twos");
    }
}

#[tokio::test]
async fn full_list_without_more_items_has_no_next() {
    let system = system(Layout::Batch).await;
    assert_eq!(system.get(&format!("{RAW}?limit=5")).await.next(), None);
    assert!(system.get(&format!("{RAW}?limit=4")).await.next().is_some());
}

#[tokio::test]
async fn prefix_of_one_day_reads_that_day_only() {
    let system = System::new();
    for day in 1..=28 {
        let ts = format!("2026-02-{day:02}T12:00:00Z");
        system.telemetry("a:1", &ts, json!([{"type": "x", "val": 1}])).await;
    }
    let before = system.memory.calls(Operation::ReadSegments);
    assert_eq!(names(&system, "prefix=telemetry/20260214").await, ["telemetry/20260214T120000"]);
    assert_eq!(system.memory.calls(Operation::ReadSegments) - before, 1);
}

#[tokio::test]
async fn narrow_filter_returns_short_pages_up_to_the_end() {
    let system = System::new();
    for day in 0..150 {
        let ts = t("2026-01-01T12:00:00Z").plus_seconds(86_400 * day).to_string();
        system.telemetry("a:1", &ts, json!([{"type": "x", "val": 1}])).await;
    }
    system
        .receive(&[("iot/a:1/hello", hello("2026-01-01T00:00:00Z"), "2026-06-01T00:00:00Z")])
        .await;
    let before = system.memory.calls(Operation::ReadSegments);
    let pages = system.pages(get(&format!("{RAW}?prefix=hello"))).await;
    let reads = system.memory.calls(Operation::ReadSegments) - before;
    let sizes: Vec<_> = pages.iter().map(|page| page.json().as_array().unwrap().len()).collect();
    assert_eq!(sizes, [0, 1]);
    assert!(reads <= 151, "{reads}");
    assert_eq!(names(&system, "").await.len(), 151);
}

#[tokio::test]
async fn day_over_the_read_budget_continues_on_the_next_page() {
    let system = System::new();
    let payloads: Vec<_> = (0..1_200)
        .map(|n| {
            telemetry(
                "a:1",
                &t("2026-03-01T00:00:00Z").plus_seconds(n).to_string(),
                json!([{"type": "x", "val": 1}]),
            )
        })
        .collect();
    let batch: Vec<_> =
        payloads.iter().map(|p| ("iot/a:1/telemetry", p.clone(), "2026-03-02T00:00:00Z")).collect();
    system.receive(&batch).await;
    let pages = system.pages(get(&format!("{RAW}?prefix=hello"))).await;
    assert_eq!(pages.len(), 2);
    let all = names(&system, "").await;
    assert_eq!(all.len(), 1_200);
    assert!(all.is_sorted_by(|a, b| a > b));
}

#[tokio::test]
async fn invalid_parameter_is_named_and_unknown_device_has_no_messages() {
    let system = system(Layout::Batch).await;
    for (query, field) in [
        ("start=x", "start"),
        ("start=-1h&stop=-2h", "start"),
        ("limit=-1", "limit"),
        ("cursor=x", "cursor"),
    ] {
        let answered = system.get(&format!("{RAW}?{query}")).await;
        assert_eq!((answered.status, &answered.json()["field"]), (400, &json!(field)), "{query}");
    }
    for id in ["nobody", "no.body"] {
        let path = format!("/api/devices/{id}/raw-data");
        assert_eq!(system.json(&path).await, json!([]));
        let ndjson = system.call(get(&path).header("accept", "application/x-ndjson")).await;
        assert_eq!((ndjson.status, ndjson.text()), (200, ""));
    }
}

#[tokio::test]
async fn message_is_returned_unchanged_with_its_envelope() {
    for layout in [Layout::Batch, Layout::Message] {
        let system = system(layout).await;
        let listed = system.json(&format!("{RAW}?prefix=hello")).await;
        let filename = listed[0]["filename"].as_str().unwrap();
        let name = filename.strip_prefix("a:1/").unwrap();
        let payload: Value = serde_json::from_slice(&hello("2026-03-01T10:15:00Z")).unwrap();
        let message_id = name.rsplit_once('-').unwrap().1.strip_suffix(".json").unwrap();
        let wanted = json!({"mid": message_id, "device_id": "a:1", "category": "hello", "topic": "iot/a:1/hello",
            "received_at": "2026-03-03T08:00:00Z", "payload": payload});
        for path in [
            format!("{RAW}/{name}"),
            format!("{RAW}/{filename}"),
            format!(
                "/api/devices/a%3A1/raw-data/{}",
                filename.replace(':', "%3A").replace('/', "%2F")
            ),
        ] {
            assert_eq!(system.json(&path).await, wanted, "{path}");
        }
    }
}

#[tokio::test]
async fn unknown_message_is_404() {
    let system = system(Layout::Batch).await;
    let listed = system.json(&format!("{RAW}?prefix=hello")).await;
    let name = listed[0]["filename"].as_str().unwrap();
    for path in [
        format!("{RAW}/{}", name.replace("hello", "telemetry")),
        format!("{RAW}/{}", name.replace("T10", "T11")),
        format!("{RAW}/{}", name.replace(".json", "")),
        format!("{RAW}/{}", name.replace("a:1/", "b/")),
        format!("{RAW}/hello/x.json"),
        format!("{RAW}/hello"),
        format!("{RAW}/../../etc/passwd"),
        format!("/api/devices/b/raw-data/{}", name.replace("a:1/", "")),
        format!("/api/devices/no.body/raw-data/{name}"),
    ] {
        let answered = system.get(&path).await;
        assert_eq!(answered.status, 404, "{path}");
    }
}

#[tokio::test]
async fn ndjson_contains_the_messages() {
    for layout in [Layout::Batch, Layout::Message] {
        let system = system(layout).await;
        let before = system.memory.calls(Operation::GetObject);
        let answered = system.call(get(RAW).header("accept", "application/x-ndjson")).await;
        assert_eq!(answered.header("content-type"), Some("application/x-ndjson"));
        let lines: Vec<Value> =
            answered.text().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let times: Vec<_> =
            lines.iter().map(|line| line["payload"]["ts"].as_str().unwrap()).collect();
        assert_eq!(
            times,
            [
                "2026-03-02T00:00:00Z",
                "2026-03-01T10:30:00Z",
                "2026-03-01T10:15:00Z",
                "2026-03-01T10:00:00Z",
                "2026-02-28T23:59:59Z"
            ]
        );
        // Messages of one batch share a member, which is fetched once.
        let fetched = system.memory.calls(Operation::GetObject) - before;
        assert_eq!(fetched, if layout == Layout::Batch { 2 } else { 5 });

        let call = get(&format!("{RAW}?limit=2")).header("accept", "application/x-ndjson");
        let pages = system.pages(call).await;
        let counts: Vec<_> = pages.iter().map(|page| page.text().lines().count()).collect();
        assert_eq!(counts, [2, 2, 1]);
    }
}

#[tokio::test]
async fn large_messages_end_a_page_at_the_response_limit() {
    let system = System::new();
    // JSON whose size doubles when it is escaped.
    let text = "\\\"".repeat(30_000);
    let payloads: Vec<_> = (0..100)
        .map(|n| {
            format!(
                "{{\"timestamp\": \"2026-03-01T10:00:{:02}Z\", \"n\": {n}, \"text\": \"{text}\"}}",
                n % 60
            )
        })
        .collect();
    for payload in &payloads {
        let bytes = payload.clone().into_bytes();
        system.receive(&[("iot/a:1/telemetry", bytes, "2026-03-01T10:00:00Z")]).await;
    }
    let pages = system.pages(get(RAW).header("accept", "application/x-ndjson")).await;
    let lines: usize = pages.iter().map(|page| page.text().lines().count()).sum();
    assert_eq!(lines, 100);
    assert!(pages.len() > 1);
    assert!(pages.iter().all(|page| serde_json::to_string(page.text()).unwrap().len() < 6_000_000));
}

#[tokio::test]
async fn corrupt_or_missing_object_omits_its_own_messages_only() {
    let system = system(Layout::Batch).await;
    let listed = system.all(RAW).await;
    let key = system.memory.objects().keys().next().unwrap().clone();
    Archive::put(&system.memory, &key, "application/gzip", Bytes::from_static(b"?")).await.unwrap();
    let lost = lost("2026-03-04T00:00:00Z");
    MessageStore::put(&system.memory, std::slice::from_ref(&lost)).await.unwrap();

    let answered = system.call(get(RAW).header("accept", "application/x-ndjson")).await;
    let left = answered.text().lines().count();
    assert!(answered.status == 200 && (left == 2 || left == 3), "{left}");
    let mut readable = 0;
    for name in field(&listed, "filename") {
        match system.get(&format!("{RAW}/{name}")).await.status {
            200 => readable += 1,
            status => assert_eq!(status, 500),
        }
    }
    assert_eq!(readable, left);
    let name = file_name(Category::Telemetry, lost.ts, lost.message_id);
    assert_eq!(system.get(&format!("{RAW}/{name}")).await.status, 404);
}

/// A message of the index whose object the bucket's lifecycle has removed.
fn lost(ts: &str) -> MessageSegment {
    let location = Location { object: "gone".to_owned(), member: None };
    MessageSegment {
        device_id: device_id("a:1"),
        message_id: MessageId::of("iot/a:1/telemetry", b"lost"),
        ts: t(ts),
        index_entry: Some(IndexEntry {
            category: Category::Telemetry,
            received_at: t(ts),
            size: 4,
            location,
        }),
        envelope_ts: t(ts),
        samples: Vec::new(),
        ttl: None,
    }
}
