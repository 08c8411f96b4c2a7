//! The REST rows of this function, and what it answers to whatever has no route.

// clippy.toml allows these in tests, but does not see that their helpers are tests, too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use meter_domain::alert::Alert;
use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::{DeviceId, new_id};
use meter_domain::state::{DevicePolicy, DeviceState};
use meter_domain::time::Timestamp;
use meter_http::serve::Server;
use meter_http::settings::{Api, Auth};
use meter_store::{AlertStore, DeviceStore, Probe, StoreError};
use meter_testing::http::{TestRequest, TestResponse, call, get, post};
use meter_testing::memory::{MemoryStores, Operation};
use serde_json::{Map, json};
use stats::Stats;

fn server(
    memory: &MemoryStores,
    auth: Auth,
) -> Server<Stats<MemoryStores, MemoryStores, MemoryStores>> {
    let (registry, alerts, stores) = (memory.clone(), memory.clone(), memory.clone());
    let api = Api { auth, ..Api::default() };
    Server::new(Stats { registry, alerts, stores }, stats::router().unwrap(), api)
}

async fn answer(memory: &MemoryStores, call: TestRequest) -> TestResponse {
    call.send(&server(memory, Auth::None)).await
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
async fn an_empty_fleet_counts_nothing() {
    let answered = answer(&MemoryStores::new(), get("/api/stats")).await;
    assert_eq!(answered.status, 200);
    assert_eq!(
        answered.json(),
        json!({"total_devices": 0, "device_by_status": [], "device_by_connection": [],
            "unacknowledged_alerts": 0})
    );
}

#[tokio::test]
async fn the_fleet_is_counted_by_status_and_connection_and_its_alerts_are_too() {
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
async fn health_is_open_to_everybody_and_statistics_are_not() {
    let server = server(&MemoryStores::new(), Auth::Jwt);
    for path in ["/health", "/healthz", "/readyz", "/nothing"] {
        let status = get(path).send(&server).await.status;
        assert_eq!(status, if path == "/nothing" { 404 } else { 200 }, "{path}");
    }
    assert_eq!(get("/api/stats").send(&server).await.status, 401);
    assert_eq!(get("/api/stats").scope("meter/write").send(&server).await.status, 403);
    assert_eq!(get("/api/stats").scope("meter/read").send(&server).await.status, 200);
}

#[tokio::test]
async fn health_is_what_older_clients_expect() {
    let memory = MemoryStores::new();
    // The process is alive and the service answers whatever its stores do.
    memory.fail_all_after(0);
    let health = answer(&memory, get("/health")).await.json();
    assert_eq!(health, json!({"status": "healthy", "service": "iot-meter"}));
    let alive = answer(&memory, get("/healthz")).await.json();
    assert_eq!(alive, json!({"status": "alive", "service": "iot-meter"}));
}

#[tokio::test]
async fn a_service_is_ready_when_its_stores_answer() {
    let memory = MemoryStores::new();
    let ready = answer(&memory, get("/readyz")).await;
    let stores = json!({"memory": "ok"});
    let wanted = json!({"status": "ready", "service": "iot-meter", "stores": stores});
    assert_eq!((ready.status, ready.json()), (200, wanted));
    memory.fail_always(Operation::Probe);
    let away = answer(&memory, get("/readyz")).await;
    let stores = json!({"memory": "unavailable"});
    let wanted = json!({"status": "not ready", "service": "iot-meter", "stores": stores});
    assert_eq!((away.status, away.json()), (503, wanted));
}

/// One store that answers and one that does not.
struct Half;

impl Probe for Half {
    async fn probe(&self) -> Vec<(&'static str, Result<(), StoreError>)> {
        let error =
            StoreError::Unavailable { operation: "s3:HeadBucket", source: "secret-bucket".into() };
        vec![("devices", Ok(())), ("archive", Err(error))]
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_named_and_nothing_more_is_said() {
    let function =
        Stats { registry: MemoryStores::new(), alerts: MemoryStores::new(), stores: Half };
    let api = Api { auth: Auth::Jwt, ..Api::default() };
    let server = Server::new(function, stats::router().unwrap(), api);
    let answered = get("/readyz").send(&server).await;
    let stores = json!({"archive": "unavailable", "devices": "ok"});
    assert_eq!((answered.status, &answered.json()["stores"]), (503, &stores));
    assert!(!answered.text().contains("secret"));
}

#[tokio::test]
async fn a_store_that_is_away_makes_statistics_503() {
    for operation in [Operation::CountDevices, Operation::CountAlerts] {
        let memory = MemoryStores::new();
        memory.fail_always(operation);
        let answered = answer(&memory, get("/api/stats")).await;
        assert_eq!(answered.status, 503);
        assert_eq!(answered.header("content-type"), Some("application/problem+json"));
    }
}

#[tokio::test]
async fn what_has_no_route_at_the_gateway_is_405_or_404() {
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
    // A preflight asks before there can be a token.
    let server = server(&memory, Auth::Jwt);
    let preflight = call("OPTIONS", "/api/devices/a").send(&server).await;
    assert_eq!(
        (preflight.status, preflight.header("allow")),
        (204, Some("DELETE, GET, OPTIONS, PUT"))
    );
    assert_eq!(post("/health").send(&server).await.status, 405);
}
