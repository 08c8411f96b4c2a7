use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use axum::routing::get;
use axum::{Json, Router};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::App;
use crate::conditional::Tagged;
use crate::extract::{MAX_BODY_BYTES, Path};
use crate::problem::ApiError;
use crate::routes::Function;
use crate::settings::{Api, Auth, Origins};
use crate::testing::{self, TestRequest, TestResponse};

const CONFIG: &str = "/api/devices/a/config";

/// The devices function with handlers of its own, and the number of calls of the one that writes.
fn devices(auth: Auth, cors: Origins) -> (App, Arc<AtomicU8>) {
    let writes = Arc::new(AtomicU8::new(0));
    let counter = writes.clone();
    let read = async |Path(id): Path<String>| Tagged(json!({"id": id}));
    let write = async move |_: Path<String>| {
        counter.fetch_add(1, Ordering::Relaxed);
        Json(json!({}))
    };
    let fail = async || -> Result<(), ApiError> { Err(ApiError::Internal("secret".into())) };
    let panic = async || -> () { panic!("secret") };
    let routes = Router::new()
        .route("/api/devices/{device_id}/config", get(read).put(write))
        .route("/api/devices/{device_id}", get(panic))
        .route("/api/devices", get(fail))
        .route("/api/quarantine", get(async || Json("x".repeat(5_000))))
        .route("/not/in/the/table", get(async || "secret"));
    (App::new(Function::Devices, routes, Api { auth, cors, ..Api::default() }), writes)
}

async fn send(request: TestRequest) -> TestResponse {
    request.send(&devices(Auth::None, Origins::None).0).await
}

#[tokio::test]
async fn every_response_has_the_request_id_and_nosniff() {
    for path in [CONFIG, "/nothing", "/api/devices/a"] {
        let response = send(testing::get(path)).await;
        assert_eq!(response.header("x-request-id"), Some("request-1"), "{path}");
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn internal_error_and_panic_are_problems_without_their_causes() {
    for path in ["/api/devices", "/api/devices/a"] {
        let response = send(testing::get(path)).await;
        assert_eq!(response.status, 500);
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
        assert_eq!(response.json()["request_id"], "request-1");
        assert!(!response.text().contains("secret"));
    }
}

#[tokio::test]
async fn unknown_path_is_404_and_other_method_is_405() {
    let response = send(testing::get("/api/thing")).await;
    assert_eq!((response.status, response.json()["status"].as_u64()), (404, Some(404)));
    for (request, allow) in [
        (testing::delete(CONFIG), "GET, HEAD, OPTIONS, PUT"),
        (testing::get("/api/alerts/a/acknowledge"), "OPTIONS, POST"),
    ] {
        let response = send(request).await;
        assert_eq!((response.status, response.header("allow")), (405, Some(allow)));
    }
    assert_eq!(send(testing::post("/api/alerts/a/acknowledge")).await.status, 404);
}

#[tokio::test]
async fn handler_without_a_row_in_the_table_is_not_called() {
    assert_eq!(send(testing::get("/not/in/the/table")).await.status, 405);
}

#[tokio::test]
async fn stage_in_the_path_is_ignored() {
    for (path, stage) in [
        (CONFIG.to_owned(), "$default"),
        (format!("/dev{CONFIG}"), "dev"),
        (CONFIG.to_owned(), "dev"),
        (format!("/api{CONFIG}"), "api"),
        (CONFIG.to_owned(), "api"),
    ] {
        let response = send(testing::get(&path).stage(stage)).await;
        assert_eq!(response.json(), json!({"id": "a"}), "{path} {stage}");
    }
    assert_eq!(send(testing::get(&format!("/device{CONFIG}")).stage("dev")).await.status, 404);
}

#[tokio::test]
async fn route_needs_a_token_with_its_scope() {
    let (app, writes) = devices(Auth::Jwt, Origins::None);
    for (request, status) in [
        (testing::get("/nothing"), 404),
        (testing::get(CONFIG), 401),
        (testing::get(CONFIG).scope("meter/write"), 403),
        (testing::get(CONFIG).scope("meter/read"), 200),
        (testing::put(CONFIG).scope("meter/read"), 403),
    ] {
        assert_eq!(request.send(&app).await.status, status);
    }
    assert_eq!(writes.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let response = send(testing::call("HEAD", CONFIG)).await;
    assert_eq!((response.status, response.text()), (200, ""));
    assert!(response.header("etag").is_some());
}

#[tokio::test]
async fn known_representation_is_304_for_get_and_not_for_put() {
    let etag = send(testing::get(CONFIG)).await.header("etag").unwrap().to_owned();
    let response = send(testing::get(CONFIG).header("If-None-Match", &etag)).await;
    assert_eq!((response.status, response.text()), (304, ""));
    assert_eq!(response.header("x-request-id"), Some("request-1"));
    let put = testing::put(CONFIG).header("If-None-Match", "*");
    assert_eq!(send(put).await.status, 200);
}

#[tokio::test]
async fn large_response_is_compressed_for_a_client_that_accepts_gzip() {
    let large = || testing::get("/api/quarantine");
    let response = send(large().header("Accept-Encoding", "gzip")).await;
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    assert!(response.is_base64());
    assert_eq!(response.json(), Value::String("x".repeat(5_000)));
    assert_eq!(send(large()).await.header("content-encoding"), None);
    let small = send(testing::get(CONFIG).header("Accept-Encoding", "gzip")).await;
    assert_eq!(small.header("content-encoding"), None);
}

#[tokio::test]
async fn page_of_an_allowed_origin_gets_preflights_and_problems() {
    let origins = Origins::List(vec!["https://a.example".to_owned()]);
    let (app, _) = devices(Auth::Jwt, origins);
    let preflight = |origin| testing::call("OPTIONS", CONFIG).header("Origin", origin);
    let response = preflight("https://a.example").send(&app).await;
    assert_eq!(response.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://a.example"),
        ("access-control-allow-methods", "GET, HEAD, OPTIONS, PUT"),
        ("vary", "accept, accept-encoding, origin"),
    ] {
        assert_eq!(response.header(name), Some(value));
    }
    assert!(response.header("access-control-allow-headers").unwrap().contains("if-match"));
    let response = preflight("https://b.example").send(&app).await;
    assert_eq!(response.header("access-control-allow-origin"), None);
    // The page must be able to read why it was refused.
    let refused = testing::get(CONFIG).header("Origin", "https://a.example");
    let response = refused.send(&app).await;
    assert_eq!(response.status, 401);
    assert_eq!(response.header("access-control-allow-origin"), Some("https://a.example"));
}

#[tokio::test]
async fn body_over_the_limit_is_413() {
    let read = async |_: crate::extract::JsonObject| "";
    let routes = Router::new().route("/api/devices", axum::routing::post(read));
    let api = Api { auth: Auth::None, ..Api::default() };
    let app = App::new(Function::Devices, routes, api);
    for (length, status) in [(MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)] {
        let body = format!("{{\"a\": \"{}\"}}", "x".repeat(length - 9));
        let response = testing::post("/api/devices").body(&body).send(&app).await;
        assert_eq!(response.status, status, "{}", response.text());
    }
}

/// An event of `lambda_http` panics at each of these, or fails the invocation.
#[tokio::test]
async fn invalid_event_is_answered() {
    let request = |pointer: &str, value: Value| {
        let mut event = json!({
            "rawPath": CONFIG, "rawQueryString": "", "headers": {}, "body": null,
            "requestContext": {"http": {"method": "GET"}},
        });
        *event.pointer_mut(pointer).unwrap() = value;
        testing::event(event)
    };
    for (pointer, value, status) in [
        ("/rawQueryString", json!("q=\"x\" <y> é\u{0}#f"), 200),
        ("/rawQueryString", json!(null), 200),
        ("/rawQueryString", json!("x".repeat(70_000)), 400),
        ("/rawPath", json!("/\u{0}\"<>é \\^`{|}?#%ff"), 404),
        ("/rawPath", json!("/api/devices/%ff/config"), 404),
        ("/rawPath", json!("/api/devices/a\"b c/config"), 200),
        ("/rawPath", json!("/".repeat(70_000)), 400),
        ("/rawPath", json!("api/devices"), 404),
        ("/rawPath", json!("http://x/api/devices"), 404),
        ("/rawPath", json!(":1"), 404),
        ("/rawPath", json!(""), 404),
        ("/rawPath", json!(null), 404),
        ("/headers", json!(null), 200),
        ("/headers", json!({"host": "a b", "x-forwarded-proto": "1"}), 200),
        ("/headers", json!({"a b": "c"}), 400),
        ("/headers", json!({"a": "b\n"}), 400),
        ("/headers", json!({"a": "é"}), 200),
        ("/headers", json!({"a": null}), 200),
        ("/requestContext", json!(null), 400),
        ("/requestContext", json!({"http": {"method": "G T"}}), 400),
        ("/requestContext", json!({"http": {"method": ""}}), 400),
        ("/requestContext", json!({"http": {"method": "PROPFIND"}}), 405),
        ("/requestContext", json!({"http": {"method": "GET"}, "authorizer": null}), 200),
        ("/requestContext", json!({"http": {"method": "GET"}, "authorizer": {"jwt": 7}}), 200),
        ("/requestContext", json!({"http": {"method": "GET"}, "timeEpoch": "x"}), 200),
        ("", json!(null), 400),
        ("", json!([]), 400),
        ("", json!({}), 400),
    ] {
        let response = send(request(pointer, value.clone())).await;
        assert_eq!(response.status, status, "{pointer} {value}: {}", response.text());
        if status >= 400 {
            assert_eq!(response.header("content-type"), Some("application/problem+json"));
        }
    }
    for body in ["%%%", "YQ", "/w=="] {
        let response = send(testing::get(CONFIG).invalid_base64(body)).await;
        assert_eq!((response.status, &response.json()["field"]), (400, &json!("body")), "{body}");
        assert_eq!(response.header("x-request-id"), Some("request-1"));
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    }
}

proptest! {
    #[test]
    fn every_event_is_answered(
        method in any::<String>(),
        path in "/?\\PC*",
        query in any::<String>(),
        header in (any::<String>(), any::<String>()),
        stage in "[a-z$/]{0,5}",
        body in any::<String>(),
        is_base64 in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let request = testing::raw(&method, &path, &query).header(&header.0, &header.1).stage(&stage);
        let request = if is_base64 { request.invalid_base64(&body) } else { request.body(&body) };
        let status = runtime.block_on(send(request)).status;
        prop_assert!([400, 404, 405].contains(&status), "{status}");
    }
}
