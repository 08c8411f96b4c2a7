//! Registering devices.

use meter_testing::http::{delete, get, post, put};
use serde_json::{Value, json};

use crate::system::System;

const NOW: &str = "2026-03-10T12:00:00Z";

#[tokio::test]
async fn registered_device_has_every_field() {
    let system = System::new();
    let body = json!({"device_id": "dc:meter_1", "device_name": "Köln 7", "device_type": "power_meter_dc",
        "location": "Coach 3", "status": "inactive", "metadata": {"a": [1, {"b": null}]}});
    let created = system.call(post("/api/devices").json(&body).at(NOW)).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.header("location"), Some("/api/devices/dc:meter_1"));
    let id = created.json()["id"].clone();
    assert!(id.is_string());
    let wanted = json!({"id": id, "device_id": "dc:meter_1", "device_name": "Köln 7",
        "device_type": "power_meter_dc", "location": "Coach 3", "status": "inactive",
        "connection_status": "unknown", "last_seen": null, "fw_version": null,
        "created_at": NOW, "updated_at": NOW, "metadata": {"a": [1, {"b": null}]}});
    assert_eq!(created.json(), wanted);
    assert_eq!(system.json("/api/devices/dc:meter_1").await, wanted);
    assert_eq!(system.json("/api/devices/dc%3Ameter_1").await, wanted);
    assert_eq!(system.json("/api/devices").await, json!([wanted]));
}

#[tokio::test]
async fn absent_text_is_null_and_status_defaults_to_active() {
    let system = System::new();
    let body = json!({"device_id": "a", "device_name": "A", "device_type": null, "colour": "red"});
    let created = system.call(post("/api/devices").json(&body)).await.json();
    for (name, wanted) in [
        ("device_type", json!(null)),
        ("location", json!(null)),
        ("status", json!("active")),
        ("metadata", json!({})),
        ("colour", json!(null)),
    ] {
        assert_eq!(created[name], wanted, "{name}");
    }
}

#[tokio::test]
async fn device_is_claimable_while_the_field_is_true() {
    let system = System::new();
    let body = json!({"device_id": "a", "device_name": "A", "claimable": true});
    let created = system.call(post("/api/devices").json(&body)).await.json();
    assert_eq!(created["claimable"], true);
    for (change, wanted) in [
        (json!({"location": "shed"}), json!(true)),
        (json!({"claimable": false}), json!(null)),
        (json!({"claimable": true}), json!(true)),
    ] {
        let changed = system.call(put("/api/devices/a").json(&change)).await.json();
        assert_eq!(changed["claimable"], wanted, "{change}");
    }
    let plain = json!({"device_id": "b", "device_name": "B", "claimed_by": "a".repeat(64)});
    let created = system.call(post("/api/devices").json(&plain)).await.json();
    assert_eq!((&created["claimable"], &created["claimed_by"]), (&json!(null), &json!(null)));
}

#[tokio::test]
async fn metadata_can_be_a_string_that_contains_an_object() {
    let system = System::new();
    let body = json!({"device_id": "a", "device_name": "A", "metadata": "{\"owner\": \"SBB\"}"});
    let created = system.call(post("/api/devices").json(&body)).await.json();
    assert_eq!(created["metadata"], json!({"owner": "SBB"}));
    let change = json!({"metadata": "{}"});
    let changed = system.call(put("/api/devices/a").json(&change)).await.json();
    assert_eq!(changed["metadata"], json!({}));
}

#[tokio::test]
async fn invalid_field_is_named() {
    let system = System::new();
    let device = |name: &str, value: Value| {
        let mut body = json!({"device_id": "a", "device_name": "A"});
        body[name] = value;
        body
    };
    let long = "x".repeat(256);
    for (body, field) in [
        (json!({"device_name": "A"}), "device_id"),
        (json!({"device_id": "a"}), "device_name"),
        (device("device_id", json!(7)), "device_id"),
        (device("device_id", json!("")), "device_id"),
        (device("device_id", json!("a/b")), "device_id"),
        (device("device_id", json!("a.b")), "device_id"),
        (device("device_id", json!("x".repeat(129))), "device_id"),
        (device("device_name", json!("")), "device_name"),
        (device("device_name", json!(long)), "device_name"),
        (device("device_name", json!(["A"])), "device_name"),
        (device("device_name", json!(null)), "device_name"),
        (device("device_type", json!(long)), "device_type"),
        (device("device_type", json!(false)), "device_type"),
        (device("location", json!(long)), "location"),
        (device("location", json!({})), "location"),
        (device("status", json!("broken")), "status"),
        (device("status", json!(1)), "status"),
        (device("metadata", json!([])), "metadata"),
        (device("metadata", json!("[]")), "metadata"),
        (device("metadata", json!("{")), "metadata"),
        (device("metadata", json!({"x": "y".repeat(100 * 1024)})), "metadata"),
    ] {
        let answered = system.call(post("/api/devices").json(&body)).await;
        assert_eq!(answered.status, 400, "{body}");
        let problem = answered.json();
        assert_eq!(problem["field"], field, "{problem}");
        assert!(problem["error"].as_str().unwrap().starts_with(&format!("{field}: ")));
    }
    assert_eq!(system.json("/api/devices").await, json!([]));
    // The longest allowed texts, in characters and not in bytes.
    let body = json!({"device_id": "x".repeat(128), "device_name": "ü".repeat(255),
        "device_type": "ü".repeat(255), "location": ""});
    assert_eq!(system.call(post("/api/devices").json(&body)).await.status, 201);
}

#[tokio::test]
async fn body_must_be_a_json_object() {
    let system = System::new();
    for (call, status) in [
        (post("/api/devices"), 400),
        (post("/api/devices").body("[1]"), 400),
        (post("/api/devices").body("{\"device_id\""), 400),
        (post("/api/devices").body("{}").header("content-type", "text/plain"), 415),
        (post("/api/devices").body(&"x".repeat(300_000)), 413),
        (put("/api/devices/a"), 400),
    ] {
        let answered = system.call(call).await;
        assert_eq!(answered.status, status, "{}", answered.text());
        assert_eq!(answered.header("content-type"), Some("application/problem+json"));
    }
}

#[tokio::test]
async fn second_registration_of_an_id_is_409() {
    let system = System::new();
    system.register("a").await;
    let again = json!({"device_id": "a", "device_name": "Another"});
    let answered = system.call(post("/api/devices").json(&again)).await;
    assert_eq!(answered.status, 409);
    assert_eq!(answered.json()["error"], "device_id: a device with this id exists");
    assert_eq!(system.json("/api/devices/a").await["device_name"], "Meter a");
}

#[tokio::test]
async fn one_of_two_concurrent_registrations_succeeds() {
    let system = System::new();
    let body = json!({"device_id": "a", "device_name": "A"});
    let call = || system.call(post("/api/devices").json(&body));
    let (one, other) = tokio::join!(call(), call());
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
}

#[tokio::test]
async fn messages_before_the_registration_are_returned() {
    let system = System::new();
    let hello = json!({"v": 2, "device_id": "a", "ts": NOW, "seq": 0, "msg_type": "hello",
        "fw_version": "1.2.3", "uptime_s": 1, "broker_connections": 1, "buf_usage_pct": 0});
    system.receive(&[("iot/a/hello", hello.to_string().into_bytes(), NOW)]).await;
    assert_eq!(system.get("/api/devices/a").await.status, 404);
    let device = system.register("a").await;
    assert_eq!(
        (&device["connection_status"], &device["last_seen"], &device["fw_version"]),
        (&json!("online"), &json!(NOW), &json!("1.2.3"))
    );
}

#[tokio::test]
async fn unknown_device_is_404() {
    let system = System::new();
    let change = json!({"device_name": "A"});
    for path in ["/api/devices/nobody", "/api/devices/no.name", "/api/devices/a%2Fb"] {
        for call in [get(path), put(path).json(&change), delete(path)] {
            let answered = system.call(call).await;
            assert_eq!(answered.status, 404, "{path}");
            assert_eq!(answered.json()["error"], "Device not found");
        }
    }
}

#[tokio::test]
async fn device_can_be_registered_while_it_sends() {
    let system = System::new();
    let sends = async {
        for n in 0..20 {
            let ts = format!("2026-03-10T12:00:{n:02}Z");
            system.telemetry("a", &ts, json!([{"type": "x", "val": 1}])).await;
        }
    };
    tokio::join!(sends, system.register("a"));
    let device = system.json("/api/devices/a").await;
    assert_eq!(device["last_seen"], "2026-03-10T12:00:19Z");
    assert_eq!(system.all("/api/devices/a/raw-data").await.len(), 20);
}
