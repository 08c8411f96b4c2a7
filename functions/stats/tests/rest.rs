//! The routes of this function, and its responses to requests without a route.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot continue"
)]

use meter_domain::alert::Alert;
use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::{DeviceId, new_id};
use meter_domain::state::{DevicePolicy, DeviceState};
use meter_domain::time::Timestamp;
use meter_http::App;
use meter_http::settings::{Api, Auth};
use meter_store::{AlertStore, DeviceStore, Probe, StoreError};
use meter_testing::http::{TestRequest, TestResponse, call, get, post};
use meter_testing::memory::{MemoryStores, Operation};
use serde_json::{Map, json};
use stats::Stats;

fn app(memory: &MemoryStores, auth: Auth) -> App {
    let stats = Stats { stores: memory.clone(), probe: memory.clone() };
    stats::app(stats, Api { auth, ..Api::default() })
}

async fn answer(memory: &MemoryStores, call: TestRequest) -> TestResponse {
    call.send(&app(memory, Auth::None)).await
}

async fn register(memory: &MemoryStores, id: &str, status: DeviceStatus, is_online: bool) {
    let device_id = DeviceId::parse(id).unwrap();
    let now = Timestamp::EPOCH;
    let device = Device {
        id: new_id(now),
        device_id: device_id.clone(),
        device_name: id.to_owned(),
        device_type: None,
        location: None,
        status,
        metadata: Map::new(),
        config: Map::new(),
        command_key: None,
        claimable: false,
        claimed_by: None,
        created_at: now,
        updated_at: now,
        revision: 0,
    };
    let mut state = DeviceState::new(device_id);
    if is_online {
        state.record_activity(now, &DevicePolicy::default());
    }
    memory.create(&device, &state).await.unwrap();
}

#[tokio::test]
async fn empty_fleet_has_no_counts() {
    let answered = answer(&MemoryStores::new(), get("/api/stats")).await;
    assert_eq!(answered.status, 200);
    assert_eq!(
        answered.json(),
        json!({"total_devices": 0, "device_by_status": [], "device_by_connection": [],
            "unacknowledged_alerts": 0})
    );
}

#[tokio::test]
async fn fleet_is_counted_by_status_and_connection_with_its_alerts() {
    let memory = MemoryStores::new();
    register(&memory, "a", DeviceStatus::Active, true).await;
    register(&memory, "b", DeviceStatus::Active, false).await;
    register(&memory, "c", DeviceStatus::Inactive, false).await;
    for second in 0..3 {
        let at = Timestamp::EPOCH.plus_seconds(second);
        let alert = Alert::device_offline(&DeviceId::parse("a").unwrap(), at);
        memory.open(&alert, None).await.unwrap();
        if second == 0 {
            memory.acknowledge(alert.alert_id, None, at).await.unwrap();
        }
    }
    assert_eq!(
        answer(&memory, get("/api/stats")).await.json(),
        json!({
            "total_devices": 3,
            "device_by_status": [{"status": "active", "count": 2}, {"status": "inactive", "count": 1}],
            "device_by_connection": [{"status": "online", "count": 1}, {"status": "unknown", "count": 2}],
            "unacknowledged_alerts": 2
        })
    );
}

#[tokio::test]
async fn health_is_public_and_statistics_need_a_scope() {
    let app = app(&MemoryStores::new(), Auth::Jwt);
    for path in ["/health", "/healthz", "/readyz", "/nothing"] {
        let status = get(path).send(&app).await.status;
        assert_eq!(status, if path == "/nothing" { 404 } else { 200 }, "{path}");
    }
    assert_eq!(get("/api/stats").send(&app).await.status, 401);
    assert_eq!(get("/api/stats").scope("meter/write").send(&app).await.status, 403);
    assert_eq!(get("/api/stats").scope("meter/read").send(&app).await.status, 200);
}

#[tokio::test]
async fn health_has_the_body_of_older_clients() {
    let memory = MemoryStores::new();
    // Health and liveness do not depend on the stores.
    memory.fail_all_after(0);
    let health = answer(&memory, get("/health")).await.json();
    assert_eq!(health, json!({"status": "healthy", "service": "iot-meter"}));
    let alive = answer(&memory, get("/healthz")).await.json();
    assert_eq!(alive, json!({"status": "alive", "service": "iot-meter"}));
}

#[tokio::test]
async fn service_is_ready_while_its_stores_are_available() {
    let memory = MemoryStores::new();
    let ready = answer(&memory, get("/readyz")).await;
    let stores = json!({"memory": "ok"});
    let expected = json!({"status": "ready", "service": "iot-meter", "stores": stores});
    assert_eq!((ready.status, ready.json()), (200, expected));
    memory.fail_always(Operation::Probe);
    let away = answer(&memory, get("/readyz")).await;
    let stores = json!({"memory": "unavailable"});
    let expected = json!({"status": "not ready", "service": "iot-meter", "stores": stores});
    assert_eq!((away.status, away.json()), (503, expected));
}

/// One available store and one unavailable.
#[derive(Clone)]
struct Half;

impl Probe for Half {
    async fn probe(&self) -> Vec<(&'static str, Result<(), StoreError>)> {
        let error =
            StoreError::Unavailable { operation: "s3:HeadBucket", source: "secret-bucket".into() };
        vec![("devices", Ok(())), ("archive", Err(error))]
    }
}

#[tokio::test]
async fn unavailable_store_is_named_without_its_error() {
    let stats = Stats { stores: MemoryStores::new(), probe: Half };
    let app = stats::app(stats, Api { auth: Auth::Jwt, ..Api::default() });
    let answered = get("/readyz").send(&app).await;
    let stores = json!({"archive": "unavailable", "devices": "ok"});
    assert_eq!((answered.status, &answered.json()["stores"]), (503, &stores));
    assert!(!answered.text().contains("secret"));
}

#[tokio::test]
async fn unavailable_store_makes_statistics_503() {
    for operation in [Operation::CountDevices, Operation::CountAlerts] {
        let memory = MemoryStores::new();
        memory.fail_always(operation);
        let answered = answer(&memory, get("/api/stats")).await;
        assert_eq!(answered.status, 503);
        assert_eq!(answered.header("content-type"), Some("application/problem+json"));
    }
}

#[tokio::test]
async fn request_without_a_route_is_404_or_405() {
    let memory = MemoryStores::new();
    for (method, path, allow) in [
        ("DELETE", "/api/devices", "GET, OPTIONS, POST"),
        ("PATCH", "/api/devices/a", "DELETE, GET, OPTIONS, PUT"),
        ("DELETE", "/api/devices/a/alerts", "GET, OPTIONS, POST"),
        ("GET", "/api/commands/x/ack", "OPTIONS, PUT"),
        ("GET", "/api/alerts/x/acknowledge", "OPTIONS, POST"),
        ("PATCH", "/api/alert-rules/x", "DELETE, GET, OPTIONS, PUT"),
        ("POST", "/api/stats", "GET, HEAD, OPTIONS"),
        ("HEAD", "/api/quarantine", "GET, OPTIONS"),
        ("PUT", "/api/devices/a/raw-data/telemetry/x.json", "GET, OPTIONS"),
    ] {
        let answered = answer(&memory, call(method, path)).await;
        assert_eq!(answered.status, 405, "{method} {path}");
        assert_eq!(answered.header("allow"), Some(allow), "{method} {path}");
    }
    for path in [
        "/",
        "/api",
        "/api/devices/",
        "/api/alert-rules/x/y",
        "/api/devices/a/nothing",
        "/favicon.ico",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let answered = answer(&memory, call(method, path)).await;
            assert_eq!((answered.status, &answered.json()["status"]), (404, &json!(404)), "{path}");
        }
    }
    // A preflight has no token.
    let app = app(&memory, Auth::Jwt);
    let preflight = call("OPTIONS", "/api/devices/a").send(&app).await;
    assert_eq!(
        (preflight.status, preflight.header("allow")),
        (204, Some("DELETE, GET, OPTIONS, PUT"))
    );
    assert_eq!(post("/health").send(&app).await.status, 405);
}
