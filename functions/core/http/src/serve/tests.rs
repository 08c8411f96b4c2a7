use std::sync::atomic::{AtomicU8, Ordering};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::route::Route;
use crate::settings::{Auth, Origins};
use crate::testing::{self, TestRequest};

#[derive(Debug, Clone, Copy)]
enum Endpoint {
    Echo,
    Panic,
    Fail,
    Change,
    Large,
}

const ROUTES: &[Route<Endpoint>] = &[
    Route::public(Method::GET, "/health", Endpoint::Echo),
    Route::new(Method::GET, "/api/things/{id}", Endpoint::Echo),
    Route::new(Method::PUT, "/api/things/{id}", Endpoint::Change),
    Route::new(Method::GET, "/panic", Endpoint::Panic),
    Route::new(Method::GET, "/fail", Endpoint::Fail),
    Route::new(Method::GET, "/large", Endpoint::Large),
];

#[derive(Default)]
struct Things {
    changed: AtomicU8,
}

impl Function for Things {
    type Endpoint = Endpoint;

    async fn handle(&self, endpoint: Endpoint, request: &Request) -> Result<Response, ApiError> {
        match endpoint {
            Endpoint::Echo => {
                Ok(Response::ok(&json!({"id": request.params.get("id")}))?.with_etag())
            }
            Endpoint::Change => {
                self.changed.fetch_add(1, Ordering::Relaxed);
                Response::ok(&json!({}))
            }
            Endpoint::Panic => panic!("secret"),
            Endpoint::Fail => Err(ApiError::Internal("secret".into())),
            Endpoint::Large => Response::ok(&"x".repeat(5_000)),
        }
    }
}

fn server(auth: Auth, cors: Origins) -> Server<Things> {
    let router = Router::new(ROUTES).unwrap();
    let router = router.with_external_route(Method::POST, "/elsewhere").unwrap();
    Server::new(Things::default(), router, Api { auth, cors, ..Api::default() })
}

async fn reply(call: TestRequest) -> testing::TestResponse {
    call.send(&server(Auth::None, Origins::None)).await
}

#[tokio::test]
async fn every_answer_has_the_request_s_id_and_is_not_to_be_guessed_at() {
    for path in ["/health", "/nothing", "/panic"] {
        let answered = reply(testing::get(path)).await;
        assert_eq!(answered.header("x-request-id"), Some("request-1"), "{path}");
        assert_eq!(answered.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn what_fails_inside_is_a_problem_without_a_word_of_the_inside() {
    for path in ["/panic", "/fail"] {
        let answered = reply(testing::get(path)).await;
        assert_eq!(answered.status, 500);
        assert_eq!(answered.header("content-type"), Some("application/problem+json"));
        assert_eq!(answered.json()["request_id"], "request-1");
        assert!(!answered.text().contains("secret"));
    }
}

#[tokio::test]
async fn unknown_paths_are_404_and_unknown_methods_405() {
    let answered = reply(testing::get("/api/thing")).await;
    assert_eq!((answered.status, answered.json()["status"].as_u64()), (404, Some(404)));
    let answered = reply(testing::delete("/api/things/a")).await;
    assert_eq!(answered.status, 405);
    assert_eq!(answered.header("allow"), Some("GET, HEAD, OPTIONS, PUT"));
    let answered = reply(testing::get("/elsewhere")).await;
    assert_eq!(answered.status, 405);
    assert_eq!(answered.header("allow"), Some("OPTIONS, POST"));
    assert_eq!(reply(testing::post("/elsewhere")).await.status, 404);
}

#[tokio::test]
async fn a_stage_in_the_path_does_not_matter() {
    for (path, stage) in [
        ("/api/things/a", "$default"),
        ("/dev/api/things/a", "dev"),
        ("/api/things/a", "dev"),
        ("/api/api/things/a", "api"),
        ("/api/things/a", "api"),
    ] {
        let answered = reply(testing::get(path).stage(stage)).await;
        assert_eq!(answered.json(), json!({"id": "a"}), "{path} {stage}");
    }
    assert_eq!(reply(testing::get("/device/api/things/a").stage("dev")).await.status, 404);
}

#[tokio::test]
async fn routes_are_closed_without_a_token_unless_they_are_open() {
    let server = server(Auth::Jwt, Origins::None);
    for (call, status) in [
        (testing::get("/health"), 200),
        (testing::get("/nothing"), 404),
        (testing::get("/api/things/a"), 401),
        (testing::get("/api/things/a").scope("meter/write"), 403),
        (testing::get("/api/things/a").scope("meter/read"), 200),
        (testing::put("/api/things/a").scope("meter/read"), 403),
    ] {
        assert_eq!(call.send(&server).await.status, status);
    }
    assert_eq!(server.function.changed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let answered = reply(testing::call("HEAD", "/api/things/a")).await;
    assert_eq!((answered.status, answered.text()), (200, ""));
    assert!(answered.header("etag").is_some());
}

#[tokio::test]
async fn what_the_client_has_is_304_and_a_change_is_never_held_back() {
    let etag = reply(testing::get("/api/things/a")).await.header("etag").unwrap().to_owned();
    let again = testing::get("/api/things/a").header("If-None-Match", &etag);
    let answered = reply(again).await;
    assert_eq!((answered.status, answered.text()), (304, ""));
    assert_eq!(answered.header("x-request-id"), Some("request-1"));
    let put = testing::put("/api/things/a").header("If-None-Match", "*");
    assert_eq!(reply(put).await.status, 200);
}

#[tokio::test]
async fn gzip_travels_as_base64() {
    let answered = reply(testing::get("/large").header("Accept-Encoding", "gzip")).await;
    assert_eq!(answered.header("content-encoding"), Some("gzip"));
    assert!(answered.is_base64());
    assert_eq!(answered.json(), Value::String("x".repeat(5_000)));
    assert_eq!(reply(testing::get("/large")).await.header("content-encoding"), None);
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_ask_before_it_calls() {
    let origins = Origins::List(vec!["https://a.example".to_owned()]);
    let server = server(Auth::Jwt, origins);
    let preflight = |origin| testing::call("OPTIONS", "/api/things/a").header("Origin", origin);
    let answered = preflight("https://a.example").send(&server).await;
    assert_eq!(answered.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://a.example"),
        ("access-control-allow-methods", "GET, HEAD, OPTIONS, PUT"),
        ("vary", "accept, accept-encoding, origin"),
    ] {
        assert_eq!(answered.header(name), Some(value));
    }
    let answered = preflight("https://b.example").send(&server).await;
    assert_eq!(answered.header("access-control-allow-origin"), None);
    // The page must be able to read why it was refused.
    let refused = testing::get("/api/things/a").header("Origin", "https://a.example");
    let answered = refused.send(&server).await;
    assert_eq!(answered.status, 401);
    assert_eq!(answered.header("access-control-allow-origin"), Some("https://a.example"));
}

proptest! {
    #[test]
    fn no_request_goes_without_an_answer(path in any::<String>(), query in any::<String>(), stage in "[a-z$/]{0,5}", body in any::<String>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let call = testing::raw("GET", &path, &query).stage(&stage).body(&body);
        let status = runtime.block_on(reply(call)).status;
        prop_assert!([200, 404, 405, 500].contains(&status), "{status}");
    }
}
