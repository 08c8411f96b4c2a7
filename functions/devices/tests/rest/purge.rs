//! `DELETE …?purge=true` removes all messages of a device and none of another one.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use meter_domain::archive::Layout;
use meter_domain::id::MessageId;
use meter_domain::segments::MessageSegment;
use meter_service::device_cleanup::{CleanupStatus, clean_up_device};
use meter_store::{DeviceStore, MessageStore};
use meter_testing::http::{delete, get, post};
use meter_testing::memory::{MemoryStores, Operation};
use serde_json::{Value, json};

use crate::system::{System, device_id, field, t, telemetry};

const PURGE: &str = "/api/devices/gone?purge=true";
const ALL: &str = "start=1970-01-01T00:00:00Z&stop=2100-01-01T00:00:00Z";

/// Two devices whose messages share objects: some of different days, one with points of another
/// day.
async fn system(layout: Layout) -> System {
    let mut system = System::new();
    system.layout = layout;
    for id in ["gone", "stays"] {
        system.register(id).await;
    }
    for (n, ts) in ["2026-03-01T10:00:00Z", "2026-03-02T10:00:00Z", "1970-01-01T00:00:10Z"]
        .into_iter()
        .enumerate()
    {
        let message = |id| {
            let points = json!([{"type": "pf", "val": n}, {"type": "pf", "val": n, "ts": "2026-02-27T10:00:00Z"}]);
            telemetry(id, ts, points)
        };
        let received_at = "2026-03-02T10:00:01Z";
        system
            .receive(&[
                ("iot/gone/telemetry", message("gone"), received_at),
                ("iot/stays/telemetry", message("stays"), received_at),
            ])
            .await;
    }
    system
}

/// The items of a device in the stores, without the days of its data.
fn remaining_data(memory: &MemoryStores, id: &str) -> Vec<String> {
    let mut traces: Vec<String> =
        memory.segments(&device_id(id)).iter().map(|segment| format!("{:?}", segment.ts)).collect();
    for (key, body) in memory.objects() {
        let mut text = String::new();
        if MultiGzDecoder::new(&body[..]).read_to_string(&mut text).is_err() {
            text = String::from_utf8_lossy(&body).into_owned();
        }
        if key.contains(id) || text.contains(id) {
            traces.push(key);
        }
    }
    traces
}

/// The responses of all routes that return messages of a device.
async fn telemetry_responses(system: &System, id: &str) -> Vec<Value> {
    let mut all = system.all(&format!("/api/devices/{id}/metrics?{ALL}")).await;
    all.push(system.json(&format!("/api/devices/{id}/metrics/latest")).await);
    for name in field(&system.all(&format!("/api/devices/{id}/raw-data")).await, "filename") {
        all.push(system.json(&format!("/api/devices/{id}/raw-data/{name}")).await);
    }
    all
}

/// A run of the watchdog.
async fn run_cleanup(memory: &MemoryStores) {
    while clean_up_device(memory, &device_id("gone")).await.unwrap() == CleanupStatus::Unfinished {}
}

#[tokio::test]
async fn purge_removes_the_messages_of_one_device_only() {
    for layout in [Layout::Batch, Layout::Message] {
        let system = system(layout).await;
        let neighbour = telemetry_responses(&system, "stays").await;
        // Four points, one of which was sent three times; the newest point; three messages.
        assert_eq!(neighbour.len(), 4 + 1 + 3);
        let objects = system.memory.objects();
        let deleted = system.call(delete(PURGE)).await;
        assert_eq!(deleted.status, 202, "{}", deleted.text());
        assert!(deleted.json()["message"].is_string());

        assert_eq!(remaining_data(&system.memory, "gone"), Vec::<String>::new());
        assert_eq!(telemetry_responses(&system, "gone").await, [json!([])]);
        assert_eq!(telemetry_responses(&system, "stays").await, neighbour);
        assert_eq!(system.get("/api/devices/gone").await.status, 404);
        assert_eq!(field(&system.all("/api/devices").await, "device_id"), ["stays"]);
        for (key, body) in system.memory.objects() {
            assert_eq!(body.len(), objects[&key].len(), "nothing has moved");
        }
        // Later messages are stored, as those of any unregistered device.
        system.telemetry("gone", "2026-03-02T11:00:00Z", json!([{"type": "pf", "val": 1}])).await;
        assert_eq!(telemetry_responses(&system, "gone").await.len(), 3);
    }
}

#[tokio::test]
async fn purge_removes_a_redelivered_message_and_its_copy() {
    let system = system(Layout::Batch).await;
    let neighbour = telemetry_responses(&system, "stays").await;
    let again = telemetry(
        "gone",
        "2026-03-01T10:00:00Z",
        json!([{"type": "pf", "val": 0}, {"type": "pf", "val": 0, "ts": "2026-02-27T10:00:00Z"}]),
    );
    let received_at = "2026-03-02T10:00:01Z";
    system.receive(&[("iot/gone/telemetry", again, received_at)]).await;
    assert_eq!(system.call(delete(PURGE)).await.status, 202);
    run_cleanup(&system.memory).await;
    assert_eq!(remaining_data(&system.memory, "gone"), Vec::<String>::new());
    assert_eq!(telemetry_responses(&system, "stays").await, neighbour);
}

#[tokio::test]
async fn purge_interrupted_at_any_call_reaches_the_same_end() {
    for layout in [Layout::Batch, Layout::Message] {
        let wanted = system(layout).await;
        let neighbour = telemetry_responses(&wanted, "stays").await;
        assert_eq!(wanted.call(delete(PURGE)).await.status, 202);
        let mut calls = 0;
        loop {
            let system = system(layout).await;
            system.memory.fail_all_after(calls);
            let status = system.call(delete(PURGE)).await.status;
            system.memory.clear_faults();
            if status == 202 {
                break;
            }
            assert_eq!(status, 503, "{calls}");
            let memory = &system.memory;
            // The request had no effect, or the watchdog continues it.
            if DeviceStore::get(memory, &device_id("gone")).await.unwrap().is_none() {
                let due = memory.state(&device_id("gone")).unwrap().next_check;
                assert!(
                    due.is_some() || remaining_data(memory, "gone").is_empty(),
                    "{calls}: not due"
                );
                run_cleanup(memory).await;
                assert_eq!(remaining_data(memory, "gone"), Vec::<String>::new(), "{calls}");
                assert_eq!(memory.objects(), wanted.memory.objects(), "{calls}");
                assert!(!memory.has_tombstone(&device_id("gone")).await.unwrap());
                assert_eq!(memory.state(&device_id("gone")).unwrap().next_check, None);
            }
            assert_eq!(telemetry_responses(&system, "stays").await, neighbour, "{calls}");
            calls += 1;
        }
        assert!(calls > 15, "{calls}");
    }
}

#[tokio::test]
async fn concurrent_purges_do_not_restore_messages() {
    let system = system(Layout::Batch).await;
    let (one, other) = tokio::join!(
        system.call(delete(PURGE)),
        system.call(delete("/api/devices/stays?purge=true"))
    );
    assert_eq!((one.status, other.status), (202, 202));
    for id in ["gone", "stays"] {
        assert_eq!(remaining_data(&system.memory, id), Vec::<String>::new());
    }
    assert!(system.memory.objects().is_empty(), "nothing was left in them");
}

#[tokio::test]
async fn message_under_purge_is_404() {
    let system = system(Layout::Batch).await;
    let names = field(&system.all("/api/devices/gone/raw-data").await, "filename");
    // The purge fails after the archive and before its index.
    system.memory.fail_always(Operation::RemoveSegments);
    assert_eq!(system.call(delete(PURGE)).await.status, 503);
    system.memory.clear_faults();
    assert_eq!(system.memory.segments(&device_id("gone")).len(), 6);
    let mut gone = 0;
    for name in &names {
        match system.get(&format!("/api/devices/gone/raw-data/{name}")).await.status {
            200 => {}
            status => {
                assert_eq!(status, 404);
                gone += 1;
            }
        }
    }
    assert!(gone > 0);
}

#[tokio::test]
async fn deleted_or_unregistered_device_can_be_purged() {
    let system = system(Layout::Batch).await;
    assert_eq!(system.call(delete("/api/devices/gone")).await.status, 200);
    assert!(!remaining_data(&system.memory, "gone").is_empty(), "archive and metrics stay");
    assert_eq!(system.call(delete(PURGE)).await.status, 202);
    assert_eq!(remaining_data(&system.memory, "gone"), Vec::<String>::new());
    assert_eq!(system.call(delete("/api/devices/nobody?purge=true")).await.status, 404);
    assert_eq!(system.call(delete("/api/devices/gone?purge=maybe")).await.status, 400);
    assert_eq!(system.call(delete("/api/devices/gone?purge=false")).await.status, 404);
}

#[tokio::test]
async fn device_id_is_free_after_the_purge() {
    let system = system(Layout::Batch).await;
    let body = json!({"device_id": "gone", "device_name": "again"});
    let ts = "2026-03-03T00:00:00Z";
    // More than one round removes.
    let mut segments = system.memory.segments(&device_id("gone"));
    let segment = segments.pop().unwrap();
    let many: Vec<_> = (0..600)
        .map(|n| MessageSegment {
            ts: t(ts).plus_seconds(n),
            message_id: MessageId::of("t", &n.to_be_bytes()),
            ..segment.clone()
        })
        .collect();
    MessageStore::put(&system.memory, &many).await.unwrap();
    assert_eq!(system.call(delete(PURGE)).await.status, 202);
    let refused = system.call(post("/api/devices").json(&body)).await;
    assert_eq!((refused.status, &refused.json()["field"]), (409, &json!("device_id")));
    assert_eq!(refused.header("retry-after"), Some("60"));
    run_cleanup(&system.memory).await;
    assert_eq!(remaining_data(&system.memory, "gone"), Vec::<String>::new());
    assert_eq!(system.call(post("/api/devices").json(&body)).await.status, 201);
    let stats = system.call(get("/api/devices/gone/status")).await.json();
    assert_eq!(stats["connection_status"], "unknown", "nothing is known of it");
}
