//! Lists of devices.

use meter_testing::http::{get, post};
use meter_testing::memory::Operation;
use serde_json::json;

use crate::system::{System, field};

const NOW: &str = "2026-03-10T12:00:00Z";

#[tokio::test]
async fn fleet_is_listed_newest_first_in_pages() {
    let system = System::new();
    for n in 0..25 {
        let body = json!({"device_id": format!("m-{n}"), "device_name": "M"});
        let at = format!("2026-03-10T12:00:{n:02}Z");
        system.call(post("/api/devices").json(&body).at(&at)).await;
    }
    let newest_first: Vec<_> = (0..25).rev().map(|n| format!("m-{n}")).collect();
    assert_eq!(field(&system.all("/api/devices").await, "device_id"), newest_first);
    let pages = system.pages(get("/api/devices?limit=10")).await;
    let sizes: Vec<_> = pages.iter().map(|p| p.json().as_array().unwrap().len()).collect();
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(field(&system.all("/api/devices?limit=7").await, "device_id"), newest_first);
}

#[tokio::test]
async fn list_of_more_than_100_devices_has_their_states() {
    let system = System::new();
    for n in 0..201 {
        system.register(&format!("m-{n}")).await;
    }
    system.telemetry("m-0", NOW, json!([{"type": "x", "val": 1}])).await;
    let before = system.memory.calls(Operation::GetStates);
    let online = system.all("/api/devices").await;
    assert_eq!(system.memory.calls(Operation::GetStates) - before, 3);
    let online: Vec<_> = online.iter().filter(|d| d["connection_status"] == "online").collect();
    assert_eq!(field(online, "device_id"), ["m-0"]);
}

#[tokio::test]
async fn filters_select_by_status_type_connection_and_id_prefix() {
    let system = System::new();
    for (second, id, device_type, status) in [
        (1, "ac-2", json!("ac"), "active"),
        (2, "ac-1", json!("ac"), "inactive"),
        (3, "dc-1", json!("dc"), "active"),
        (4, "dc-2", json!(null), "active"),
    ] {
        let body = json!({"device_id": id, "device_name": "M", "device_type": device_type, "status": status});
        let at = format!("2026-03-10T12:00:0{second}Z");
        assert_eq!(system.call(post("/api/devices").json(&body).at(&at)).await.status, 201);
    }
    system.telemetry("dc-1", NOW, json!([{"type": "pf", "val": 1}])).await;
    for (query, wanted) in [
        ("", &["dc-2", "dc-1", "ac-1", "ac-2"][..]),
        ("status=active", &["dc-2", "dc-1", "ac-2"]),
        ("status=", &["dc-2", "dc-1", "ac-1", "ac-2"]),
        ("type=ac", &["ac-1", "ac-2"]),
        ("type=a", &[]),
        ("connection_status=online", &["dc-1"]),
        ("connection_status=unknown", &["dc-2", "ac-1", "ac-2"]),
        ("q=ac-", &["ac-1", "ac-2"]),
        ("q=dc-2", &["dc-2"]),
        ("q=c-", &[]),
        ("q=a.c", &[]),
        ("q=dc&status=active&connection_status=unknown", &["dc-2"]),
        ("unknown=1", &["dc-2", "dc-1", "ac-1", "ac-2"]),
    ] {
        let found = system.all(&format!("/api/devices?{query}")).await;
        assert_eq!(field(&found, "device_id"), wanted, "{query}");
    }
    let long = "x".repeat(2_000);
    assert_eq!(system.json(&format!("/api/devices?q={long}")).await, json!([]));
    assert_eq!(system.json(&format!("/api/devices?type={long}")).await, json!([]));
    for (query, field) in [
        ("status=on", "status"),
        ("connection_status=yes", "connection_status"),
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("cursor=abc", "cursor"),
    ] {
        let answered = system.get(&format!("/api/devices?{query}")).await;
        assert_eq!((answered.status, &answered.json()["field"]), (400, &json!(field)), "{query}");
    }
}

#[tokio::test]
async fn page_with_a_connection_filter_can_be_short_and_have_a_next() {
    let system = System::new();
    for n in 0..6 {
        system.register(&format!("m-{n}")).await;
    }
    system.telemetry("m-0", NOW, json!([{"type": "x", "val": 1}])).await;
    let pages = system.pages(get("/api/devices?connection_status=online&limit=2")).await;
    let sizes: Vec<_> = pages.iter().map(|p| p.json().as_array().unwrap().len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 1);
    assert!(sizes.len() == 3 && pages[0].next().is_some());
}

#[tokio::test]
async fn cursor_of_another_list_is_refused() {
    let system = System::new();
    for id in ["a", "b", "c"] {
        system.register(id).await;
    }
    let page = system.get("/api/devices?limit=1&status=active").await;
    let next = page.next().unwrap();
    assert_eq!(system.get(next).await.status, 200);
    for foreign in [
        next.replace("status=active", "status=inactive"),
        next.replace("status=active&", ""),
        next.replace("/api/devices", "/api/devices/a/raw-data"),
        format!("{next}A"),
    ] {
        let answered = system.get(&foreign).await;
        assert_eq!(
            (answered.status, &answered.json()["field"]),
            (400, &json!("cursor")),
            "{foreign}"
        );
    }
}

#[tokio::test]
async fn large_metadata_ends_a_page_at_the_response_limit() {
    let system = System::new();
    for n in 0..120 {
        let body = json!({"device_id": format!("m-{n}"), "device_name": "M", "metadata": {"x": "y".repeat(99_000)}});
        assert_eq!(system.call(post("/api/devices").json(&body)).await.status, 201);
    }
    let pages = system.pages(get("/api/devices")).await;
    assert!(pages.len() > 2 && pages.iter().all(|page| page.text().len() < 6_000_000));
    let ids: Vec<_> =
        pages.iter().flat_map(|p| field(p.json().as_array().unwrap(), "device_id")).collect();
    assert_eq!(ids.len(), 120);
}
