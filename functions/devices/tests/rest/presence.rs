use meter_testing::http::{get, post, put};
use serde_json::{Value, json};

use crate::system::{System, device_id};

const NOW: &str = "2026-03-10T12:00:00Z";
const LATER: &str = "2026-03-10T12:05:00Z";

async fn put_status(system: &System, body: Value, at: &str) -> Value {
    let answered = system.call(put("/api/devices/a/status").json(&body).at(at)).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    answered.json()
}

#[tokio::test]
async fn heartbeat_makes_a_device_online() {
    let system = System::new();
    system.register("a").await;
    let unheard = json!({"device_id": "a", "connection_status": "unknown", "last_seen": null, "fw_version": null});
    assert_eq!(system.json("/api/devices/a/status").await, unheard);
    let answered = system.call(post("/api/devices/a/heartbeat").at(NOW)).await;
    assert_eq!((answered.status, answered.json()), (200, json!({"message": "Heartbeat received"})));
    let heard = json!({"device_id": "a", "connection_status": "online", "last_seen": NOW, "fw_version": null});
    assert_eq!(system.json("/api/devices/a/status").await, heard);
    // Older clients send a body with the media type of JSON that is no JSON.
    let odd = post("/api/devices/a/heartbeat").body("ping").header("content-type", "text/plain");
    assert_eq!(system.call(odd).await.status, 200);
}

#[tokio::test]
async fn heartbeat_of_an_unregistered_device_is_404() {
    let system = System::new();
    let body = json!({"connection_status": "online"});
    for call in [
        post("/api/devices/nobody/heartbeat"),
        get("/api/devices/nobody/status"),
        put("/api/devices/nobody/status").json(&body),
        post("/api/devices/no.body/heartbeat"),
    ] {
        assert_eq!(system.call(call).await.status, 404);
    }
    assert_eq!(system.memory.state(&device_id("nobody")), None);
    // A device that sends messages without a registration is not registered by them.
    system.telemetry("a", NOW, json!([{"type": "x", "val": 1}])).await;
    assert_eq!(system.get("/api/devices/a/status").await.status, 404);
    assert_eq!(system.call(post("/api/devices/a/heartbeat")).await.status, 404);
}

#[tokio::test]
async fn operator_sets_the_connection_status() {
    let system = System::new();
    system.register("a").await;
    let device =
        put_status(&system, json!({"connection_status": "online", "fw_version": "2.0.0"}), NOW)
            .await;
    assert_eq!(device, system.json("/api/devices/a").await);
    assert_eq!(
        (&device["connection_status"], &device["fw_version"]),
        (&json!("online"), &json!("2.0.0"))
    );
    let device =
        put_status(&system, json!({"connection_status": "unknown", "fw_version": null}), LATER)
            .await;
    assert_eq!(
        (&device["connection_status"], &device["fw_version"]),
        (&json!("unknown"), &json!("2.0.0"))
    );
}

#[tokio::test]
async fn offline_status_opens_one_alert_and_online_status_resolves_it() {
    let system = System::new();
    system.register("a").await;
    let alerts = || system.memory.alerts(&device_id("a"));
    put_status(&system, json!({"connection_status": "online"}), NOW).await;
    put_status(&system, json!({"connection_status": "offline"}), LATER).await;
    put_status(&system, json!({"connection_status": "offline"}), LATER).await;
    assert_eq!(alerts().len(), 1);
    assert_eq!(
        (alerts()[0].alert_type.as_str(), alerts()[0].resolved_at),
        ("device_offline", None)
    );
    system.call(post("/api/devices/a/heartbeat").at("2026-03-10T12:06:00Z")).await;
    assert_eq!(alerts().len(), 1);
    assert!(alerts()[0].resolved_at.is_some());
    assert!(system.memory.state(&device_id("a")).unwrap().outbox.is_empty());
}

#[tokio::test]
async fn invalid_status_is_refused() {
    let system = System::new();
    system.register("a").await;
    for (body, field) in [
        (json!({}), "connection_status"),
        (json!({"connection_status": null}), "connection_status"),
        (json!({"connection_status": "Online"}), "connection_status"),
        (json!({"connection_status": true}), "connection_status"),
        (json!({"connection_status": "online", "fw_version": 2}), "fw_version"),
        (json!({"connection_status": "online", "fw_version": ""}), "fw_version"),
        (json!({"connection_status": "online", "fw_version": "1".repeat(65)}), "fw_version"),
    ] {
        let answered = system.call(put("/api/devices/a/status").json(&body)).await;
        assert_eq!((answered.status, &answered.json()["field"]), (400, &json!(field)), "{body}");
    }
}

#[tokio::test]
async fn version_conflict_repeats_the_update() {
    let system = System::new();
    system.register("a").await;
    system.memory.conflict_next(&device_id("a"));
    let beat = post("/api/devices/a/heartbeat").at(NOW);
    assert_eq!(system.call(beat).await.status, 200);
    let word = |status: &str| put_status(&system, json!({"connection_status": status}), LATER);
    let (_, beat) =
        tokio::join!(word("offline"), system.call(post("/api/devices/a/heartbeat").at(NOW)));
    assert_eq!(beat.status, 200);
    assert_eq!(system.json("/api/devices/a/status").await["connection_status"], "offline");
}

#[tokio::test]
async fn configuration_is_merged_by_key_without_a_command() {
    let system = System::new();
    system.register("a").await;
    assert_eq!(system.json("/api/devices/a/config").await, json!({}));
    let merge = async |body: Value| {
        let answered = system.call(put("/api/devices/a/config").json(&body)).await;
        assert_eq!(answered.status, 200);
        answered.json()
    };
    assert_eq!(merge(json!({"send_interval_s": 5, "x": {"y": 1}})).await["x"], json!({"y": 1}));
    let merged = json!({"send_interval_s": 10, "x": {"z": 2}});
    assert_eq!(merge(merged.clone()).await, merged);
    assert_eq!(merge(json!({})).await, merged);
    assert_eq!(merge(json!({"x": null})).await, json!({"send_interval_s": 10}));
    assert_eq!(system.json("/api/devices/a/config").await, json!({"send_interval_s": 10}));
    assert_eq!(system.memory.published(), []);

    let large = json!({"x": "y".repeat(100 * 1024)});
    assert_eq!(system.call(put("/api/devices/a/config").json(&large)).await.status, 400);
    assert_eq!(system.call(put("/api/devices/a/config").body("7")).await.status, 400);
    for call in [get("/api/devices/b/config"), put("/api/devices/b/config").json(&json!({"a": 1}))]
    {
        assert_eq!(system.call(call).await.status, 404);
    }
}
