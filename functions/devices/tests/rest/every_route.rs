//! Properties of every route.

use meter_http::routes::{self, Function, Route};
use meter_http::settings::Auth;
use meter_testing::http::{TestRequest, call};
use meter_testing::memory::MemoryStores;
use serde_json::json;

use crate::system::System;

fn routes() -> impl Iterator<Item = &'static Route> {
    routes::of(Function::Devices)
}

/// A request to each route that reads a store.
fn calls() -> Vec<TestRequest> {
    let message_id = "0".repeat(32);
    let file = format!("telemetry/20260301T100000.000000000Z-{message_id}.json");
    let calls = routes().map(|route| {
        let path = route
            .path
            .replace("{device_id}", "a")
            .replace("{*filename}", &file)
            .replace("{id}", &format!("20260301T100000.000000000Z-{message_id}"))
            .replace("{cmd_id}", "018f0000-0000-7000-8000-000000000000");
        let body = json!({"device_id": "a", "device_name": "A", "connection_status": "online", "cmd": "reboot",
            "result": "accepted"});
        call(route.method.as_str(), &path).json(&body)
    });
    calls.collect()
}

#[tokio::test]
async fn route_needs_a_token_with_its_scope() {
    let system = System::with_memory(MemoryStores::new(), Auth::Jwt);
    for (route, call) in routes().zip(calls()) {
        let wrong = if route.method == "GET" { "meter/write" } else { "meter/read" };
        let right = if route.method == "GET" { "meter/read" } else { "meter/write" };
        assert_eq!(system.call(call.clone()).await.status, 401, "{}", route.path);
        assert_eq!(system.call(call.clone().scope(wrong)).await.status, 403, "{}", route.path);
        assert!(![401, 403].contains(&system.call(call.scope(right)).await.status));
    }
}

#[tokio::test]
async fn unavailable_store_is_503_without_its_error() {
    for (route, call) in routes().zip(calls()) {
        let system = System::new();
        system.memory.fail_all_after(0);
        let answered = system.call(call).await;
        assert_eq!(answered.status, 503, "{} {}", route.method, route.path);
        assert_eq!(answered.header("content-type"), Some("application/problem+json"));
        assert_eq!(answered.json()["request_id"], "request-1");
        assert!(answered.header("retry-after").is_some());
        assert!(!answered.text().contains("memory") && !answered.text().contains("test wants"));
    }
}

#[tokio::test]
async fn every_response_has_the_request_id() {
    let system = System::new();
    for call in calls() {
        assert_eq!(system.call(call).await.header("x-request-id"), Some("request-1"));
    }
}
