//! The routes of alert rules with their responses and errors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails where it cannot continue"
)]

use alerts::Alerts;
use meter_domain::archive::Location;
use meter_domain::id::{DeviceId, MessageId};
use meter_domain::message::Category;
use meter_domain::metric::MetricName;
use meter_domain::metric::Sample;
use meter_domain::rule::MAX_RULES;
use meter_domain::segments::{IndexEntry, MessageSegment};
use meter_domain::time::Timestamp;
use meter_http::App;
use meter_http::settings::{Api, Auth};
use meter_store::MessageStore;
use meter_testing::http::{TestRequest, TestResponse, delete, get, post, put};
use meter_testing::memory::{MemoryStores, Operation};
use serde_json::{Value, json};

const NOW: &str = "2026-03-10T12:00:00Z";
const LATER: &str = "2026-03-10T13:00:00Z";

fn t(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

struct System {
    memory: MemoryStores,
    app: App,
}

impl System {
    fn new() -> Self {
        let memory = MemoryStores::new();
        let alerts = Alerts { stores: memory.clone(), hold_down_s: 60 };
        let api = Api { auth: Auth::None, ..Api::default() };
        Self { memory, app: alerts::app(alerts, api) }
    }

    async fn call(&self, call: TestRequest) -> TestResponse {
        call.send(&self.app).await
    }

    async fn create(&self, rule: &Value) -> TestResponse {
        let answered = self.call(post("/api/alert-rules").json(rule).at(NOW)).await;
        assert_eq!(answered.status, 201, "{}", answered.text());
        answered
    }

    /// Stores one point a second of metric `x` of device `m`, from noon on.
    async fn record(&self, values: &[f64]) {
        let location = Location { object: "o".to_owned(), member: None };
        let segments = values.iter().enumerate().map(|(n, value)| {
            let time = t(NOW).plus_seconds(n as i64);
            let (category, received_at) = (Category::Telemetry, time);
            MessageSegment {
                device_id: DeviceId::parse("m").unwrap(),
                message_id: MessageId::of("t", &n.to_be_bytes()),
                ts: time,
                index_entry: Some(IndexEntry {
                    category,
                    received_at,
                    size: 1,
                    location: location.clone(),
                }),
                envelope_ts: time,
                samples: vec![Sample {
                    metric: MetricName::parse("x").unwrap(),
                    time,
                    sample_index: 0,
                    value: *value,
                    unit: None,
                }],
                ttl: None,
            }
        });
        MessageStore::put(&self.memory, &segments.collect::<Vec<_>>()).await.unwrap();
    }
}

fn hot() -> Value {
    json!({"name": "hot", "metric": "x", "operator": ">", "threshold": 90, "clear": 85.5, "for_s": 2,
        "scope": {"device_type": "meter"}, "severity": "critical", "message": "{metric} is {value}", "notify": false})
}

fn path(rule: &TestResponse) -> String {
    format!("/api/alert-rules/{}", rule.json()["rule_id"].as_str().unwrap())
}

#[tokio::test]
async fn created_rule_has_the_given_fields_and_defaults() {
    let system = System::new();
    let made = system.create(&hot()).await;
    let rule = made.json();
    let id = &rule["rule_id"];
    let wanted = json!({"rule_id": id, "name": "hot", "enabled": true, "scope": {"device_type": "meter"},
        "metric": "x", "kind": "threshold", "operator": ">", "threshold": 90.0, "clear": 85.5, "for_s": 2,
        "severity": "critical", "message": "{metric} is {value}", "notify": false, "created_at": NOW,
        "updated_at": NOW, "version": 1});
    assert_eq!(rule, wanted);
    assert_eq!(made.header("etag"), Some("\"1\""));
    assert_eq!(made.header("location"), Some(path(&made).as_str()));
    assert_eq!(system.call(get(&path(&made))).await.json(), wanted);

    let least = json!({"name": "n", "metric": "x", "operator": "outside", "low": 1, "high": 2});
    let rule = system.create(&least).await.json();
    let defaults = json!({"scope": "all", "enabled": true, "for_s": 0, "severity": "warning", "message": null,
        "notify": true, "kind": "threshold", "low": 1.0, "high": 2.0, "clear": null});
    for (name, value) in defaults.as_object().unwrap() {
        assert_eq!(&rule[name], value, "{name}");
    }
    let silent = json!({"name": "n", "metric": "x", "kind": "no_data", "for_s": 60});
    let silent = system.create(&silent).await.json();
    assert!(silent.get("operator").is_none() && silent["kind"] == "no_data");
    let listed = system.call(get("/api/alert-rules?limit=2")).await;
    assert_eq!(listed.json().as_array().unwrap().len(), 2);
    assert!(listed.next().is_some());
}

#[tokio::test]
async fn invalid_field_is_named() {
    let system = System::new();
    for (change, field) in [
        (json!({"name": null}), "name"),
        (json!({"name": "x".repeat(101)}), "name"),
        (json!({"metric": "a b"}), "metric"),
        (json!({"metric": null}), "metric"),
        (json!({"thresholds": 1}), "thresholds"),
        (json!({"threshold": null}), "threshold"),
        (json!({"threshold": "90"}), "threshold"),
        (json!({"low": 1}), "low"),
        (json!({"operator": null}), "operator"),
        (json!({"operator": "=="}), "operator"),
        (json!({"clear": 91}), "clear"),
        (json!({"clear": {"low": 1}}), "clear"),
        (json!({"kind": "average"}), "kind"),
        (json!({"kind": "no_data"}), "operator"),
        (json!({"for_s": -1}), "for_s"),
        (json!({"for_s": 604_801}), "for_s"),
        (json!({"scope": "some"}), "scope"),
        (json!({"scope": {}}), "scope"),
        (json!({"scope": {"device_id": "a b"}}), "scope.device_id"),
        (json!({"scope": {"device_type": ""}}), "scope.device_type"),
        (json!({"severity": "fatal"}), "severity"),
        (json!({"message": "{values}"}), "message"),
        (json!({"message": "{"}), "message"),
        (json!({"notify": "yes"}), "notify"),
        (json!({"enabled": 1}), "enabled"),
    ] {
        let mut body = hot();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answered = system.call(post("/api/alert-rules").json(&body)).await;
        assert_eq!((answered.status, &answered.json()["field"]), (400, &json!(field)), "{change}");
    }
    for (body, field) in [
        (json!({"operator": "inside", "low": 2, "high": 1}), "low"),
        (
            json!({"operator": "inside", "low": 1, "high": 2, "clear": {"low": 1.5, "high": 3}}),
            "clear",
        ),
        (json!({"operator": "inside", "low": 1, "high": 2, "clear": {"low": 1}}), "clear.high"),
        (json!({"operator": "inside", "low": 1, "high": 2, "clear": 3}), "clear"),
        (json!({"operator": "inside", "low": 1, "high": 2, "threshold": 3}), "threshold"),
        (json!({"kind": "no_data"}), "for_s"),
        (json!({"kind": "no_data", "for_s": 1, "message": "{value}"}), "message"),
    ] {
        let mut rule = json!({"name": "n", "metric": "x"});
        rule.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let answered = system.call(post("/api/alert-rules").json(&rule)).await;
        assert_eq!((answered.status, &answered.json()["field"]), (400, &json!(field)), "{body}");
    }
    assert_eq!(system.call(get("/api/alert-rules")).await.json(), json!([]));
}

#[tokio::test]
async fn replacement_needs_the_current_version() {
    let system = System::new();
    let made = system.create(&hot()).await;
    let path = path(&made);
    let replace = |body: &Value| put(&path).json(body).at(LATER);
    // The response with one change.
    let mut body = made.json();
    body["threshold"] = json!(95);
    let changed = system.call(replace(&body).header("if-match", "\"1\"")).await;
    assert_eq!((changed.status, changed.header("etag")), (200, Some("\"2\"")));
    let rule = changed.json();
    assert_eq!((&rule["threshold"], &rule["version"]), (&json!(95.0), &json!(2)));
    assert_eq!((&rule["created_at"], &rule["updated_at"]), (&json!(NOW), &json!(LATER)));
    let late = system.call(replace(&body).header("if-match", "\"1\"")).await;
    assert_eq!((late.status, &late.json()["field"]), (412, &json!("If-Match")));
    let least = json!({"name": "n", "metric": "x", "operator": "<", "threshold": 1});
    let rule = system.call(replace(&least)).await.json();
    assert_eq!(
        (&rule["version"], &rule["for_s"], &rule["scope"]),
        (&json!(3), &json!(0), &json!("all"))
    );
    let known = system.call(get(&path).header("if-none-match", "\"3\"")).await;
    assert_eq!(known.status, 304);

    assert_eq!(system.call(delete(&path).header("if-match", "\"2\"")).await.status, 412);
    assert_eq!(system.call(delete(&path).header("if-match", "\"3\"")).await.status, 200);
    for call in [delete(&path), get(&path), replace(&least), post(&format!("{path}/test"))] {
        let answered = system.call(call).await;
        assert_eq!(
            (answered.status, &answered.json()["error"]),
            (404, &json!("Alert rule not found"))
        );
    }
    assert_eq!(system.call(get("/api/alert-rules/nonsense")).await.status, 404);
}

#[tokio::test]
async fn rule_over_the_maximum_is_409() {
    let system = System::new();
    for _ in 0..MAX_RULES {
        system.create(&hot()).await;
    }
    let refused = system.call(post("/api/alert-rules").json(&hot())).await;
    assert_eq!(refused.status, 409);
    assert!(refused.json()["detail"].as_str().unwrap().contains("1000"), "{}", refused.text());
}

#[tokio::test]
async fn backtest_reports_the_alerts_of_a_rule() {
    let system = System::new();
    system.record(&[80.0, 91.0, 92.0, 93.0, 94.0, 86.0, 85.5, 91.0, 91.0, 91.0]).await;
    let rule = system.create(&hot()).await;
    let test = |body: Value| post(&format!("{}/test", path(&rule))).json(&body).at(LATER);
    let answered = system.call(test(json!({"device_id": "m"}))).await;
    assert_eq!(answered.status, 200, "{}", answered.text());
    let got = answered.json();
    let wanted = json!([
        {"event": "opened", "at": "2026-03-10T12:00:03Z", "since": "2026-03-10T12:00:01Z", "value": 93.0,
            "message": "x is 93"},
        {"event": "resolved", "at": "2026-03-10T12:00:06Z", "since": "2026-03-10T12:00:01Z", "value": 85.5},
        {"event": "reopened", "at": "2026-03-10T12:00:09Z", "since": "2026-03-10T12:00:01Z", "value": 91.0,
            "message": "x is 91"},
    ]);
    assert_eq!((&got["events"], &got["points"], &got["open"]), (&wanted, &json!(10), &json!(true)));
    assert_eq!((&got["stop"], &got["stopped_at"]), (&json!(LATER), &json!(null)));
    let body =
        json!({"device_id": "m", "start": "2026-03-10T12:00:04Z", "stop": "2026-03-10T12:00:05Z"});
    let segment = system.call(test(body)).await.json();
    assert_eq!((&segment["events"], &segment["points"]), (&json!([]), &json!(1)));
    for (body, field) in [
        (json!({}), "device_id"),
        (json!({"device_id": "a b"}), "device_id"),
        (json!({"device_id": "m", "start": "yesterday"}), "start"),
        (json!({"device_id": "m", "stop": "-2d", "start": "-1d"}), "start"),
        (json!({"device_id": "m", "from": "-1d"}), "from"),
    ] {
        let answered = system.call(test(body.clone())).await;
        assert_eq!((answered.status, &answered.json()["field"]), (400, &json!(field)), "{body}");
    }
    assert_eq!(system.memory.calls(Operation::OpenAlert), 0);
}

#[tokio::test]
async fn backtest_of_no_data_reports_gaps() {
    let system = System::new();
    system.record(&[1.0; 5]).await;
    let rule = json!({"name": "n", "metric": "x", "kind": "no_data", "for_s": 60, "scope": {"device_id": "m"}});
    let rule = system.create(&rule).await;
    let answered = system.call(post(&format!("{}/test", path(&rule))).at(LATER)).await.json();
    let events = answered["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(
        (&events[0]["event"], &events[0]["at"]),
        (&json!("opened"), &json!("2026-03-10T12:01:04Z"))
    );
}
