//! The proxy between a client and an endpoint that records requests.

// clippy.toml allows it in tests, but does not recognize their helper functions.
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::IntoResponse;
use fault_proxy::{Call, FaultPlan, Proxy, Service};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A recorded request.
#[derive(Clone, Debug)]
struct ReceivedRequest {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

type RequestLog = Arc<Mutex<Vec<ReceivedRequest>>>;

/// Starts an endpoint that responds to every request with its body.
async fn recording_endpoint() -> (String, RequestLog) {
    let memory = RequestLog::default();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .fallback(async |State(memory): State<RequestLog>, request: Request| {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            memory.lock().unwrap().push(ReceivedRequest {
                method: head.method,
                path: head.uri.to_string(),
                headers: head.headers,
                body: body.clone(),
            });
            ([("x-amzn-requestid", "1")], body).into_response()
        })
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::clone(&memory));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, memory)
}

async fn start_proxy(plan: &str) -> (Proxy, RequestLog) {
    let (url, memory) = recording_endpoint().await;
    let proxy = Proxy::start(&url).await.unwrap();
    proxy.set_plan(plan.parse().unwrap());
    (proxy, memory)
}

async fn call(proxy: &Proxy, operation: &str, body: &Value) -> reqwest::Result<reqwest::Response> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let target = format!("DynamoDB_20120810.{operation}");
    client.post(proxy.url()).header("x-amz-target", target).json(body).send().await
}

fn received_requests(memory: &RequestLog) -> Vec<ReceivedRequest> {
    memory.lock().unwrap().clone()
}

#[tokio::test]
async fn call_without_a_fault_is_forwarded_unchanged() {
    let (proxy, memory) = start_proxy("").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = Bytes::from((0..6_000_000_u32).map(|n| n as u8).collect::<Vec<_>>());
    let response = client
        .put(format!("{}/bucket/a%3Ab?x-id=PutObject&q=%20", proxy.url()))
        .header("host", "bucket.example")
        .header("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
        .body(body.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["x-amzn-requestid"], "1");
    assert_eq!(response.bytes().await.unwrap(), body);

    let request = received_requests(&memory).remove(0);
    assert_eq!(
        (request.method, request.path.as_str()),
        (Method::PUT, "/bucket/a%3Ab?x-id=PutObject&q=%20")
    );
    assert_eq!(request.headers["host"], "bucket.example");
    assert_eq!(
        request.headers["x-amz-content-sha256"],
        HeaderValue::from_static("UNSIGNED-PAYLOAD")
    );
    assert_eq!(request.body, body);
}

#[tokio::test]
async fn lost_request_does_not_arrive_and_lost_response_does() {
    let (proxy, memory) = start_proxy("any#1=request-lost any#2=response-lost").await;
    for arrived in [0, 1] {
        let error = call(&proxy, "PutItem", &json!({})).await.unwrap_err();
        assert!(error.is_request(), "{error:?}");
        assert_eq!(received_requests(&memory).len(), arrived);
    }
    call(&proxy, "PutItem", &json!({})).await.unwrap();
    let stats = proxy.stats();
    assert_eq!(stats.calls[&Call::new(Service::DynamoDb, "PutItem")], 3);
    assert_eq!((stats.faults["request-lost"], stats.faults["response-lost"]), (1, 1));
}

#[tokio::test]
async fn statistics_contain_the_numbers_of_writes() {
    let (proxy, _) = start_proxy("any#2=request-lost").await;
    for operation in ["Query", "PutItem", "GetItem", "BatchGetItem", "BatchExecuteStatement"] {
        // The response to one of them is lost.
        let _answer = call(&proxy, operation, &json!({})).await;
    }
    assert_eq!(proxy.stats().writes, [2, 5].into());
}

#[tokio::test]
async fn delayed_call_arrives_after_its_caller_disconnected() {
    let (proxy, memory) = start_proxy("any#1=delayed-300ms").await;
    let nothing = json!({});
    let impatient = call(&proxy, "PutItem", &nothing);
    tokio::time::timeout(Duration::from_millis(100), impatient).await.unwrap_err();
    assert_eq!(received_requests(&memory).len(), 0);
    proxy.wait_until_idle().await;
    assert_eq!(received_requests(&memory).len(), 1);
}

#[tokio::test]
async fn error_has_the_format_of_its_service_and_is_not_forwarded() {
    let plan = "dynamodb#1=throughput-exceeded dynamodb#2=internal-error any#1=conflict s3#1=throttled iot-data#1=throttled";
    let (proxy, memory) = start_proxy(plan).await;
    let response = call(&proxy, "PutItem", &json!({})).await.unwrap();
    assert_eq!(response.status(), 400);
    let body: Value = response.json().await.unwrap();
    let code = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException";
    assert_eq!(body["__type"], code);
    assert_eq!(call(&proxy, "PutItem", &json!({})).await.unwrap().status(), 500);

    let transaction = json!({"TransactItems": [{}, {}, {}]});
    let response = call(&proxy, "TransactWriteItems", &transaction).await.unwrap();
    let body: Value = response.json().await.unwrap();
    let codes: Vec<_> =
        body["CancellationReasons"].as_array().unwrap().iter().map(|r| &r["Code"]).collect();
    assert_eq!(codes, ["TransactionConflict", "None", "None"]);

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let signature =
        "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request, SignedHeaders=host";
    let get = client.get(format!("{}/b/k", proxy.url())).header("authorization", signature);
    let response = get.send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.text().await.unwrap().contains("<Code>SlowDown</Code>"));
    let response =
        client.post(format!("{}/topics/iot%2Fm%2Fcommand", proxy.url())).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-amzn-errortype"]),
        (429, &HeaderValue::from_static("ThrottlingException"))
    );
    assert_eq!(received_requests(&memory).len(), 0);
}

#[tokio::test]
async fn partial_batch_returns_its_unprocessed_items() {
    let (proxy, memory) = start_proxy("any#1x2=partial-batch").await;
    let batch = json!({"RequestItems": {"t": ["a", "b", "c"]}});
    let response: Value =
        call(&proxy, "BatchWriteItem", &batch).await.unwrap().json().await.unwrap();
    assert_eq!(response["UnprocessedItems"], json!({"t": ["a", "c"]}));
    let alone = json!({"RequestItems": {"t": ["a"]}});
    let response: Value =
        call(&proxy, "BatchWriteItem", &alone).await.unwrap().json().await.unwrap();
    assert_eq!(response["UnprocessedItems"], json!({"t": ["a"]}));
    let bodies: Vec<Value> = received_requests(&memory)
        .iter()
        .map(|a| serde_json::from_slice(&a.body).unwrap())
        .collect();
    assert_eq!(bodies, [json!({"RequestItems": {"t": ["b"]}})]);
}

#[tokio::test]
async fn process_is_killed_before_or_after_the_call() {
    let (proxy, memory) = start_proxy("any#1=killed-before any#2=killed-after").await;
    let deaths = Arc::new(AtomicUsize::new(0));
    let (counted, arrived) = (Arc::clone(&deaths), Arc::clone(&memory));
    proxy.on_kill(move || {
        // When the second process is killed, its call has arrived.
        assert_eq!(counted.fetch_add(1, Ordering::SeqCst), arrived.lock().unwrap().len());
    });
    for death in 1..=2 {
        call(&proxy, "PutItem", &json!({})).await.unwrap_err();
        assert_eq!(deaths.load(Ordering::SeqCst), death);
    }
    assert_eq!(received_requests(&memory).len(), 1);
}

#[tokio::test]
async fn outage_lasts_until_the_plan_is_replaced() {
    let (proxy, memory) = start_proxy("dynamodb#1x*=request-lost").await;
    for _ in 0..3 {
        call(&proxy, "PutItem", &json!({})).await.unwrap_err();
    }
    proxy.set_plan(FaultPlan::none());
    call(&proxy, "PutItem", &json!({})).await.unwrap();
    assert_eq!(received_requests(&memory).len(), 1);
}

#[tokio::test]
async fn calls_without_an_endpoint_are_lost() {
    let (url, memory) = recording_endpoint().await;
    let proxy = Proxy::listen(0).await.unwrap();
    call(&proxy, "PutItem", &json!({})).await.unwrap_err();
    proxy.set_upstream(&url);
    call(&proxy, "PutItem", &json!({})).await.unwrap();
    assert_eq!(received_requests(&memory).len(), 1);
}
