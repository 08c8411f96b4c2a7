//! Changing and removing devices.

use meter_service::device_cleanup::{CleanupStatus, clean_up_device};
use meter_testing::http::{delete, get, post, put};
use meter_testing::memory::{Fault, Operation};
use serde_json::{Value, json};

use crate::system::{System, device_id};

const NOW: &str = "2026-03-10T12:00:00Z";

#[tokio::test]
async fn update_changes_the_given_fields_only() {
    let system = System::new();
    let before = system.register("a").await;
    let change =
        json!({"location": "Depot", "status": "inactive", "device_id": "other", "id": "other"});
    let later = "2027-01-15T09:00:00Z";
    let changed = system.call(put("/api/devices/a").json(&change).at(later)).await;
    assert_eq!(changed.status, 200);
    let mut wanted = before;
    wanted["location"] = json!("Depot");
    wanted["status"] = json!("inactive");
    wanted["updated_at"] = json!(later);
    assert_eq!(changed.json(), wanted);
    assert_eq!(system.json("/api/devices/a").await, wanted);
    let null = json!({"location": null, "metadata": null});
    let changed = system.call(put("/api/devices/a").json(&null)).await.json();
    assert_eq!((&changed["location"], &changed["metadata"]), (&json!(null), &json!({})));
}

#[tokio::test]
async fn update_without_a_valid_field_is_refused() {
    let system = System::new();
    let before = system.register("a").await;
    for (body, field) in [
        (json!({}), "body"),
        (json!({"colour": "red"}), "body"),
        (json!({"device_name": ""}), "device_name"),
        (json!({"device_name": null}), "device_name"),
        (json!({"status": null}), "status"),
        (json!({"status": "off"}), "status"),
        (json!({"device_type": 1}), "device_type"),
        (json!({"metadata": 1}), "metadata"),
    ] {
        let answered = system.call(put("/api/devices/a").json(&body)).await;
        assert_eq!((answered.status, &answered.json()["field"]), (400, &json!(field)), "{body}");
    }
    assert_eq!(system.json("/api/devices/a").await, before);
}

#[tokio::test]
async fn concurrent_updates_are_both_applied() {
    let system = System::new();
    system.register("a").await;
    let change = |body: Value| system.call(put("/api/devices/a").json(&body));
    let (one, other) =
        tokio::join!(change(json!({"location": "L"})), change(json!({"device_type": "T"})));
    assert_eq!((one.status, other.status), (200, 200));
    let device = system.json("/api/devices/a").await;
    assert_eq!((&device["location"], &device["device_type"]), (&json!("L"), &json!("T")));
}

#[tokio::test]
async fn known_device_is_304() {
    let system = System::new();
    system.register("a").await;
    let etag = system.get("/api/devices/a").await.header("etag").unwrap().to_owned();
    let again = || get("/api/devices/a").header("if-none-match", &etag);
    assert_eq!(system.call(again()).await.status, 304);
    system.call(post("/api/devices/a/heartbeat")).await;
    let answered = system.call(again()).await;
    assert_eq!((answered.status, &answered.json()["connection_status"]), (200, &json!("online")));
}

/// A device with more alerts and commands than one round of the cleanup removes.
async fn register_device_with_data(system: &System) {
    system.register("a").await;
    for n in 0..30 {
        let at = format!("2026-03-10T12:{n:02}:00Z");
        let reboot = post("/api/devices/a/commands").json(&json!({"cmd": "reboot"}));
        assert_eq!(system.call(reboot.at(&at)).await.status, 201);
        for status in ["online", "offline"] {
            let body = json!({"connection_status": status});
            system.call(put("/api/devices/a/status").json(&body).at(&at)).await;
        }
    }
    assert!(!system.memory.alerts(&device_id("a")).is_empty());
    system.telemetry("a", NOW, json!([{"type": "pf", "val": 1}])).await;
}

#[tokio::test]
async fn deletion_removes_alerts_commands_and_configuration_and_keeps_data() {
    let system = System::new();
    register_device_with_data(&system).await;
    let config = json!({"send_interval_s": 5});
    assert_eq!(system.call(put("/api/devices/a/config").json(&config)).await.status, 200);

    let deleted = system.call(delete("/api/devices/a")).await;
    assert_eq!(
        (deleted.status, deleted.json()),
        (200, json!({"message": "Device deleted successfully"}))
    );
    for path in ["/api/devices/a", "/api/devices/a/status", "/api/devices/a/config"] {
        assert_eq!(system.get(path).await.status, 404, "{path}");
    }
    assert_eq!(system.json("/api/devices").await, json!([]));
    assert_eq!(system.json("/api/devices/a/commands").await, json!([]));
    assert_eq!(system.memory.alerts(&device_id("a")), []);
    assert_eq!(system.all("/api/devices/a/raw-data").await.len(), 1);
    assert_eq!(system.all("/api/devices/a/metrics?start=2026-01-01T00:00:00Z").await.len(), 1);
    assert_eq!(system.call(delete("/api/devices/a")).await.status, 404);

    let first = system.register("a").await;
    assert_eq!(system.json("/api/devices/a/config").await, json!({}));
    system.call(delete("/api/devices/a")).await;
    assert_ne!(system.register("a").await["id"], first["id"]);
}

#[tokio::test]
async fn second_deletion_finishes_an_interrupted_one() {
    for operation in
        [Operation::DeleteAlerts, Operation::DeleteCommands, Operation::RemoveTombstone]
    {
        let system = System::new();
        register_device_with_data(&system).await;
        system.memory.fail_next(operation, Fault::Reject);
        assert_eq!(system.call(delete("/api/devices/a")).await.status, 503);
        assert_eq!(system.get("/api/devices/a").await.status, 404);
        assert_eq!(system.call(delete("/api/devices/a")).await.status, 200, "{operation:?}");
        assert_eq!(system.json("/api/devices/a/commands").await, json!([]));
        assert_eq!(system.memory.alerts(&device_id("a")), []);
        assert_eq!(system.call(delete("/api/devices/a")).await.status, 404);
    }
}

#[tokio::test]
async fn registration_finishes_an_interrupted_deletion() {
    let system = System::new();
    register_device_with_data(&system).await;
    system.memory.fail_next(Operation::DeleteCommands, Fault::Reject);
    assert_eq!(system.call(delete("/api/devices/a")).await.status, 503);
    system.register("a").await;
    assert_eq!(system.json("/api/devices/a/commands").await, json!([]));
    assert_eq!(system.memory.alerts(&device_id("a")), []);
}

#[tokio::test]
async fn deletion_and_telemetry_at_once_both_succeed() {
    let system = System::new();
    system.register("a").await;
    let deletes = async {
        assert_eq!(system.call(delete("/api/devices/a")).await.status, 200);
    };
    let sends = async {
        for n in 0..20 {
            system
                .telemetry(
                    "a",
                    &format!("2026-03-10T12:00:{n:02}Z"),
                    json!([{"type": "x", "val": 1}]),
                )
                .await;
        }
    };
    tokio::join!(sends, deletes);
    assert_eq!(system.get("/api/devices/a").await.status, 404);
    assert_eq!(system.all("/api/devices/a/raw-data").await.len(), 20);
}

/// Interrupts a cleanup after a number of calls, finishes it with another one, registers the device
/// again and perhaps deletes it again, and resumes the interrupted cleanup; returns whether that
/// was unfinished.
async fn run_stale_cleanup(calls: usize, is_deleted_again: bool) -> bool {
    let system = System::new();
    system.register("a").await;
    let memory = &system.memory;
    let heard = post("/api/devices/a/commands").json(&json!({"cmd": "request_status"}));
    assert_eq!(system.call(heard).await.status, 201);
    memory.fail_next(Operation::DeleteAlerts, Fault::Reject);
    assert_eq!(system.call(delete("/api/devices/a?purge=true")).await.status, 503);

    let id = device_id("a");
    let mut late = std::pin::pin!(clean_up_device(memory, &id));
    let mut is_pending = true;
    for _ in 0..calls {
        is_pending = is_pending && futures::poll!(late.as_mut()).is_pending();
    }
    system.register("a").await;
    let again = post("/api/devices/a/commands").json(&json!({"cmd": "reboot"}));
    assert_eq!(system.call(again.at("2026-03-10T12:01:00Z")).await.status, 201);
    let offline = put("/api/devices/a/status").json(&json!({"connection_status": "offline"}));
    assert_eq!(system.call(offline.at("2026-03-10T12:01:00Z")).await.status, 200);
    if is_deleted_again {
        memory.fail_next(Operation::DeleteAlerts, Fault::Reject);
        let deleted = delete("/api/devices/a?purge=true").at("2026-03-10T12:02:00Z");
        assert_eq!(system.call(deleted).await.status, 503);
    }
    if is_pending {
        let _ = late.await;
    }
    let left = (memory.alerts(&id).len(), memory.commands(&id).len());
    assert_eq!(left, (1, 1), "after {calls} calls");
    assert_eq!(system.get("/api/devices/a").await.status, if is_deleted_again { 404 } else { 200 });
    if is_deleted_again {
        assert!(memory.state(&id).unwrap().cleanup.is_some(), "after {calls} calls");
        while clean_up_device(memory, &id).await.unwrap() == CleanupStatus::Unfinished {}
        assert_eq!((memory.alerts(&id), memory.commands(&id)), (vec![], vec![]));
    }
    is_pending
}

#[tokio::test]
async fn late_cleanup_does_not_affect_a_later_registration_or_deletion() {
    for is_deleted_again in [false, true] {
        // By then the cleanup has read its task.
        let mut calls = 2;
        while run_stale_cleanup(calls, is_deleted_again).await {
            calls += 1;
        }
        assert!(calls > 5, "{calls}");
    }
}
