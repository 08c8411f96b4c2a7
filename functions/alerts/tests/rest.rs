//! The routes of alerts with their responses and errors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot continue"
)]

use alerts::Alerts;
use meter_domain::alert::Alert;
use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::{DeviceId, new_id};
use meter_domain::state::DeviceState;
use meter_domain::time::Timestamp;
use meter_http::App;
use meter_http::routes::{self, Function};
use meter_http::settings::{Api, Auth};
use meter_store::{AlertStore, DeviceStore};
use meter_testing::http::{TestRequest, TestResponse, call, get, post};
use meter_testing::memory::MemoryStores;
use serde_json::{Map, Value, json};

const NOW: &str = "2026-03-10T12:00:00Z";
const LATER: &str = "2026-03-10T13:00:00Z";

struct System {
    memory: MemoryStores,
    app: App,
}

fn t(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn device_id(id: &str) -> DeviceId {
    DeviceId::parse(id).unwrap()
}

impl System {
    /// A system with the devices `a` and `b`.
    async fn new(auth: Auth) -> Self {
        let memory = MemoryStores::new();
        for id in ["a", "b"] {
            let device_id = device_id(id);
            let device = Device {
                id: new_id(t(NOW)),
                device_id: device_id.clone(),
                device_name: id.to_owned(),
                device_type: None,
                location: None,
                status: DeviceStatus::Active,
                metadata: Map::new(),
                config: Map::new(),
                command_key: None,
                claimable: false,
                claimed_by: None,
                created_at: t(NOW),
                updated_at: t(NOW),
                revision: 0,
            };
            memory.create(&device, &DeviceState::new(device_id)).await.unwrap();
        }
        let alerts = Alerts { stores: memory.clone(), hold_down_s: 300 };
        let api = Api { auth, ..Api::default() };
        Self { memory, app: alerts::app(alerts, api) }
    }

    async fn call(&self, call: TestRequest) -> TestResponse {
        call.send(&self.app).await
    }

    async fn raise(&self, id: &str, body: Value, at: &str) -> Value {
        let call = post(&format!("/api/devices/{id}/alerts")).json(&body).at(at);
        let answered = self.call(call).await;
        assert_eq!(answered.status, 201, "{}", answered.text());
        answered.json()
    }

    /// The messages of the alerts on every page of a list.
    async fn messages(&self, path: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next {
            let answered = self.call(get(&path)).await;
            assert_eq!(answered.status, 200, "{path}: {}", answered.text());
            let page = answered.json();
            let page = page.as_array().unwrap().iter();
            found.extend(page.map(|alert| alert["message"].as_str().unwrap().to_owned()));
            next = answered.next().map(str::to_owned);
        }
        found
    }
}

#[tokio::test]
async fn created_alert_has_the_given_fields_and_defaults() {
    let system = System::new(Auth::None).await;
    let body = json!({"alert_type": "overheat", "severity": "critical", "message": "85 °C"});
    let alert = system.raise("a", body, NOW).await;
    let id = alert["id"].clone();
    assert!(id.is_string());
    let wanted = json!({"id": id, "device_id": "a", "alert_type": "overheat", "severity": "critical",
        "message": "85 °C", "acknowledged": false, "acknowledged_at": null, "resolved_at": null,
        "created_at": NOW, "state": "open", "acknowledged_by": null, "rule_id": null});
    assert_eq!(alert, wanted);
    assert_eq!(system.call(get("/api/devices/a/alerts")).await.json(), json!([wanted]));
    assert_eq!(system.call(get("/api/alerts")).await.json(), json!([wanted]));

    let nothing = system.call(post("/api/devices/a/alerts")).await;
    assert_eq!(nothing.status, 201);
    for alert in [
        nothing.json(),
        system.raise("a", json!({}), NOW).await,
        system
            .raise("a", json!({"alert_type": null, "severity": null, "message": null}), NOW)
            .await,
    ] {
        let said = (&alert["alert_type"], &alert["severity"], &alert["message"]);
        assert_eq!(said, (&json!("general"), &json!("info"), &json!("")));
    }
}

#[tokio::test]
async fn invalid_field_is_named() {
    let system = System::new(Auth::None).await;
    for (body, field) in [
        (json!({"alert_type": ""}), "alert_type"),
        (json!({"alert_type": 7}), "alert_type"),
        (json!({"alert_type": "x".repeat(256)}), "alert_type"),
        (json!({"severity": "fatal"}), "severity"),
        (json!({"severity": 3}), "severity"),
        (json!({"message": ["x"]}), "message"),
        (json!({"message": "x".repeat(4_097)}), "message"),
    ] {
        let answered = system.call(post("/api/devices/a/alerts").json(&body)).await;
        assert_eq!((answered.status, &answered.json()["field"]), (400, &json!(field)), "{body}");
    }
    for (call, status) in [
        (post("/api/devices/a/alerts").body("7"), 400),
        (post("/api/devices/a/alerts").body("{}").header("content-type", "text/plain"), 415),
        (post("/api/devices/a/alerts").body("{}").header("idempotency-key", ""), 400),
    ] {
        assert_eq!(system.call(call).await.status, status);
    }
    assert_eq!(system.memory.alerts(&device_id("a")), []);
}

#[tokio::test]
async fn alert_of_an_unknown_device_is_404_and_its_list_is_empty() {
    let system = System::new(Auth::None).await;
    for id in ["nobody", "no.body", "a%2Fb"] {
        let path = format!("/api/devices/{id}/alerts");
        let answered = system.call(post(&path).json(&json!({}))).await;
        assert_eq!((answered.status, &answered.json()["error"]), (404, &json!("Device not found")));
        assert_eq!(system.call(get(&path)).await.json(), json!([]));
        assert_eq!(system.call(get(&format!("{path}?limit=0"))).await.status, 400);
    }
}

#[tokio::test]
async fn repeated_key_returns_the_first_response() {
    let system = System::new(Auth::None).await;
    let again = |severity: &str| {
        let body = json!({"severity": severity});
        post("/api/devices/a/alerts").json(&body).header("idempotency-key", "k").at(NOW)
    };
    let first = system.call(again("info")).await;
    let path = format!("/api/alerts/{}/acknowledge", first.json()["id"].as_str().unwrap());
    assert_eq!(system.call(post(&path)).await.status, 200);
    let second = system.call(again("info").at(LATER)).await;
    assert_eq!((second.status, second.json()), (201, first.json()));
    let other = system.call(again("warning")).await;
    assert_eq!((other.status, &other.json()["field"]), (422, &json!("Idempotency-Key")));
    assert_eq!(system.memory.alerts(&device_id("a")).len(), 1);
}

#[tokio::test]
async fn alerts_are_listed_newest_first_by_device_severity_and_acknowledgement() {
    let system = System::new(Auth::None).await;
    for (n, id, severity) in [
        (1, "a", "info"),
        (2, "b", "warning"),
        (3, "a", "critical"),
        (4, "b", "info"),
        (5, "a", "info"),
    ] {
        let body = json!({"severity": severity, "message": n.to_string()});
        let alert = system.raise(id, body, &format!("2026-03-10T12:00:0{n}Z")).await;
        if n >= 4 {
            let path = format!("/api/alerts/{}/acknowledge", alert["id"].as_str().unwrap());
            system.call(post(&path)).await;
        }
    }
    for (path, wanted) in [
        ("/api/alerts", &["5", "4", "3", "2", "1"][..]),
        ("/api/alerts?limit=2", &["5", "4", "3", "2", "1"]),
        ("/api/alerts?severity=info", &["5", "4", "1"]),
        ("/api/alerts?acknowledged=true", &["5", "4"]),
        ("/api/alerts?acknowledged=false&limit=1", &["3", "2", "1"]),
        // A boolean as Python prints it.
        ("/api/alerts?acknowledged=False&severity=warning", &["2"]),
        ("/api/alerts?acknowledged=&severity=", &["5", "4", "3", "2", "1"]),
        ("/api/alerts?state=open", &["3", "2", "1"]),
        ("/api/alerts?state=acknowledged&severity=info", &["5", "4"]),
        ("/api/alerts?state=resolved", &[]),
        ("/api/devices/a/alerts?state=acknowledged", &["5"]),
        ("/api/devices/a/alerts", &["5", "3", "1"]),
        ("/api/devices/a/alerts?acknowledged=true", &["5"]),
        ("/api/devices/b/alerts?severity=critical", &[]),
        ("/api/devices/b/alerts?limit=1", &["4", "2"]),
    ] {
        assert_eq!(system.messages(path).await, wanted, "{path}");
    }
    for path in ["/api/alerts", "/api/devices/a/alerts"] {
        for (query, field) in [
            ("acknowledged=1", "acknowledged"),
            ("acknowledged=maybe", "acknowledged"),
            ("severity=bad", "severity"),
            ("state=closed", "state"),
            ("limit=0", "limit"),
            ("cursor=x", "cursor"),
        ] {
            let answered = system.call(get(&format!("{path}?{query}"))).await;
            assert_eq!(
                (answered.status, &answered.json()["field"]),
                (400, &json!(field)),
                "{query}"
            );
        }
    }
    let page = system.call(get("/api/devices/a/alerts?limit=1")).await;
    let foreign = page.next().unwrap().replace("/devices/a/", "/devices/b/");
    assert_eq!(system.call(get(&foreign)).await.status, 400);
}

#[tokio::test]
async fn long_messages_end_a_page_at_the_response_limit() {
    let system = System::new(Auth::None).await;
    // Each character has three bytes.
    let message = "€".repeat(4_096);
    for n in 0..600 {
        let alert = Alert {
            message: message.clone(),
            ..Alert::device_offline(&device_id("a"), t(NOW).plus_seconds(n))
        };
        system.memory.open(&alert, None).await.unwrap();
    }
    let page = system.call(get("/api/alerts")).await;
    assert!(page.text().len() < 6_000_000 && page.next().is_some());
    assert_eq!(system.messages("/api/alerts").await.len(), 600);
}

#[tokio::test]
async fn second_acknowledgement_has_no_effect() {
    let system = System::new(Auth::None).await;
    let alert = system.raise("a", json!({}), NOW).await;
    let path = format!("/api/alerts/{}/acknowledge", alert["id"].as_str().unwrap());
    let mut wanted = alert;
    wanted["acknowledged"] = json!(true);
    wanted["acknowledged_at"] = json!(LATER);
    wanted["state"] = json!("acknowledged");
    for call in [
        post(&path).at(LATER),
        post(&path).at("2026-03-10T14:00:00Z"),
        post(&path).body("seen").header("content-type", "text/plain"),
    ] {
        let answered = system.call(call).await;
        assert_eq!((answered.status, answered.json()), (200, wanted.clone()));
    }
    for unknown in ["nonsense", "018f0000-0000-7000-8000-000000000000"] {
        let answered = system.call(post(&format!("/api/alerts/{unknown}/acknowledge"))).await;
        assert_eq!((answered.status, &answered.json()["error"]), (404, &json!("Alert not found")));
    }
}

#[tokio::test]
async fn alert_records_the_subject_of_the_acknowledging_token() {
    let system = System::new(Auth::Jwt).await;
    let create = post("/api/devices/a/alerts").json(&json!({})).scope("meter/write");
    let alert = system.call(create).await.json();
    let path = format!("/api/alerts/{}/acknowledge", alert["id"].as_str().unwrap());
    for subject in ["ann", "bob"] {
        let seen = post(&path).scope("meter/write").subject(subject);
        assert_eq!(system.call(seen).await.json()["acknowledged_by"], "ann");
    }
}

/// A request to each route; each reads a store.
fn calls() -> impl Iterator<Item = TestRequest> {
    routes::of(Function::Alerts).map(|route| {
        let path = route
            .path
            .replace("{device_id}", "a")
            .replace("{alert_id}", "018f0000-0000-7000-8000-000000000000")
            .replace("{rule_id}", "018f0000-0000-7000-8000-000000000000");
        let call = call(route.method.as_str(), &path);
        match route.path.starts_with("/api/alert-rules") && route.method != "GET" {
            true if route.path.ends_with("/test") => call,
            true => {
                call.json(&json!({"name": "n", "metric": "x", "operator": ">", "threshold": 1}))
            }
            false => call,
        }
    })
}

#[tokio::test]
async fn route_needs_a_token_with_its_scope() {
    let system = System::new(Auth::Jwt).await;
    for (route, call) in routes::of(Function::Alerts).zip(calls()) {
        let (right, wrong) = match route.method.as_str() {
            "GET" => ("meter/read", "meter/write"),
            _ => ("meter/write", "meter/read"),
        };
        assert_eq!(system.call(call.clone()).await.status, 401, "{}", route.path);
        assert_eq!(system.call(call.clone().scope(wrong)).await.status, 403, "{}", route.path);
        assert!(![401, 403].contains(&system.call(call.scope(right)).await.status));
    }
}

#[tokio::test]
async fn unavailable_store_is_503_without_its_error() {
    let system = System::new(Auth::None).await;
    system.memory.fail_all_after(0);
    for call in calls() {
        let answered = system.call(call).await;
        assert_eq!(answered.status, 503);
        assert!(!answered.text().contains("test wants"), "{}", answered.text());
    }
}
