//! No response is larger than the configured limit, and the pages of every list are complete.

use meter_testing::http::{get, post};
use serde_json::{Value, json};

use crate::system::{System, telemetry};

const MAX: u32 = 100_000;

/// A system with a small response limit and 20 messages of 100 points each.
async fn system() -> System {
    let system = System::with_response_limit(MAX);
    for n in 0..20 {
        let ts = format!("2026-03-01T10:{n:02}:00Z");
        let points: Vec<Value> = (0..100).map(|i| json!({"type": "pf", "val": i, "ts": format!("2026-03-01T10:{n:02}:00.{i:03}Z")})).collect();
        let message = telemetry("m", &ts, json!(points));
        system.receive(&[("iot/m/telemetry", message, &ts)]).await;
    }
    system
}

/// The number of items in a text.
type Count = fn(&str) -> usize;

fn lines(text: &str) -> usize {
    text.lines().count()
}

fn items(text: &str) -> usize {
    serde_json::from_str::<Vec<Value>>(text).unwrap().len()
}

#[tokio::test]
async fn every_list_ends_a_page_at_the_response_limit() {
    let system = system().await;
    let range = "start=2026-03-01T00:00:00Z&stop=2026-03-02T00:00:00Z";
    let metrics = format!("/api/devices/m/metrics?{range}");
    let cases: [(&str, &str, Count, usize); 3] = [
        (metrics.as_str(), "application/json", items, 2_000),
        (metrics.as_str(), "text/csv", |text| lines(text) - 1, 2_000),
        ("/api/devices/m/raw-data", "application/x-ndjson", lines, 20),
    ];
    for (path, accept, count, wanted) in cases {
        let pages = system.pages(get(path).header("accept", accept)).await;
        assert!(pages.len() > 1, "{accept}");
        for page in &pages {
            let escaped = serde_json::to_string(page.text()).unwrap().len();
            assert!(escaped <= MAX as usize + 10, "{accept}: {escaped}");
        }
        let counted: usize = pages.iter().map(|page| count(page.text())).sum();
        assert_eq!(counted, wanted, "{accept}");
    }
}

#[tokio::test]
async fn large_devices_fill_several_pages() {
    let system = System::with_response_limit(MAX);
    for n in 0..5 {
        let body = json!({"device_id": format!("d{n}"), "device_name": "D", "metadata": {"x": "y".repeat(40_000)}});
        let created = system.call(post("/api/devices").json(&body)).await;
        assert_eq!(created.status, 201);
    }
    let pages = system.pages(get("/api/devices")).await;
    let counts: Vec<_> = pages.iter().map(|page| page.json().as_array().unwrap().len()).collect();
    assert_eq!(counts, [2, 2, 1]);
}
