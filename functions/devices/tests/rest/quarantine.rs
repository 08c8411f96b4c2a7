use meter_domain::id::MessageId;
use meter_testing::http::get;
use serde_json::json;

use crate::system::{System, field};

#[tokio::test]
async fn invalid_message_is_listed_with_its_reason_and_returned_unchanged() {
    let system = System::new();
    let page = b"<script>alert(1)</script>\xff\x00".to_vec();
    let message_id = MessageId::of("iot/a/telemetry", &page);
    system.receive(&[("iot/a/telemetry", page.clone(), "2026-03-01T10:00:00.25Z")]).await;
    let id = format!("20260301T100000.250000000Z-{message_id}");
    let listed = system.json("/api/quarantine").await;
    assert!(listed[0]["reason"].as_str().unwrap().starts_with("payload: is not JSON"));
    let reason = &listed[0]["reason"];
    assert_eq!(
        listed,
        json!([{"id": id, "topic": "iot/a/telemetry", "received_at": "2026-03-01T10:00:00.25Z",
            "reason": reason, "size": page.len()}])
    );
    // The media type does not depend on `Accept`.
    let call = get(&format!("/api/quarantine/{id}")).header("accept", "text/html");
    let answered = system.call(call).await;
    assert_eq!((answered.status, answered.bytes()), (200, &page[..]));
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("content-disposition", "attachment"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answered.header(name), Some(value));
    }
}

#[tokio::test]
async fn quarantine_is_listed_newest_first_in_pages() {
    let system = System::new();
    for n in 0..5 {
        let at = format!("2026-03-0{}T10:00:00Z", n + 1);
        system.receive(&[("iot/a/telemetry", vec![b'{', n], &at)]).await;
    }
    let days = field(&system.all("/api/quarantine?limit=2").await, "received_at");
    let wanted: Vec<_> = (1..=5).rev().map(|day| format!("2026-03-0{day}T10:00:00Z")).collect();
    assert_eq!(days, wanted);
    for (query, field) in [("limit=0", "limit"), ("cursor=x", "cursor")] {
        let answered = system.get(&format!("/api/quarantine?{query}")).await;
        assert_eq!((answered.status, &answered.json()["field"]), (400, &json!(field)));
    }
}

#[tokio::test]
async fn unknown_quarantine_id_is_404() {
    let system = System::new();
    let message_id = "0".repeat(32);
    for id in ["x", &message_id, &format!("20260301T100000.000000000Z-{message_id}"), "%ff"] {
        assert_eq!(system.get(&format!("/api/quarantine/{id}")).await.status, 404, "{id}");
    }
}
