//! Traces of store calls, as the X-Ray daemon and the log receive them.

use std::io::{ErrorKind, Write};
use std::net::UdpSocket;
use std::sync::{Arc, Mutex};

use lambda_runtime::Context;
use meter_aws::{Clients, dynamodb};
use meter_domain::time::Timestamp;
use meter_runtime::observability;
use meter_runtime::xray;
use meter_store::MessageStore;
use meter_store::TRACE_TARGET;
use meter_testing::fixtures::{first_segment, second};
use serde_json::{Value, json};
use tracing::{Instrument, Subscriber, info_span};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Registry};

use crate::fake_server::{FakeResponse, FakeServer, error_response};
use crate::faults::tables;

const SEGMENT: &str = "53995c3f42cd8ad8";
const DEVICE: &str = "private-device";

/// A receiver of segment documents in place of the X-Ray daemon.
struct Daemon(UdpSocket);

impl Daemon {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        Registry::default().with(xray::layer(self.0.local_addr().unwrap()).unwrap())
    }

    /// Returns the documents that were received so far: a datagram arrives before its send returns.
    fn documents(&self) -> Vec<Value> {
        let mut documents = Vec::new();
        let mut datagram = [0; 65_536];
        loop {
            let length = match self.0.recv(&mut datagram) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return documents,
                Err(error) => panic!("{error}"),
            };
            let text = std::str::from_utf8(&datagram[..length]).unwrap();
            let (header, document) = text.split_once('\n').unwrap();
            let header: Value = serde_json::from_str(header).unwrap();
            assert_eq!(header, json!({"format": "json", "version": 1}));
            documents.push(serde_json::from_str(document).unwrap());
        }
    }
}

/// A current trace id, since X-Ray rejects old ones.
fn trace_id() -> String {
    format!("1-{:08x}-a006649127e371903a2de979", Timestamp::now().as_millis() / 1_000)
}

fn context(trace: Option<String>) -> Context {
    let mut context = Context::default();
    context.xray_trace_id = trace;
    context
}

/// An invocation that stores a message.
async fn store(url: &str, context: &Context) {
    let messages = dynamodb::Messages::new(&Clients::for_emulator(url).await, &tables());
    let span = info_span!(target: TRACE_TARGET, "batch", request_id = "request-1");
    observability::continue_trace(&span, context);
    // Not checked here: the trace contains the result.
    let _ = messages.put(&[first_segment(DEVICE, second(0), 1)]).instrument(span).await;
}

async fn traced(trace: Option<String>, script: fn(usize) -> FakeResponse) -> Vec<Value> {
    let fake_server = FakeServer::start(move |before, _| script(before)).await;
    let daemon = Daemon::start();
    let _guard = tracing::subscriber::set_default(daemon.subscriber());
    store(&fake_server.url, &context(trace)).await;
    daemon.documents()
}

async fn call(script: fn(usize) -> FakeResponse) -> Value {
    let trace = format!("Root={};Parent={SEGMENT};Sampled=1", trace_id());
    traced(Some(trace), script).await.swap_remove(0)
}

fn stored() -> FakeResponse {
    (200, json!({"UnprocessedItems": {}}))
}

#[tokio::test]
async fn call_and_batch_are_nested_subsegments_of_the_lambda_segment() {
    let trace_id = trace_id();
    let trace = format!("Root={trace_id};Parent={SEGMENT};Sampled=1;Lineage=1:a87bd80c:0");
    let documents = traced(Some(trace), |_| stored()).await;
    let [call, batch] = documents.as_slice() else { panic!("{documents:?}") };
    for document in &documents {
        assert_eq!(document["type"], "subsegment", "Lambda creates the segment");
        assert_eq!(document["trace_id"], trace_id.as_str());
        assert!(document["end_time"].as_f64() >= document["start_time"].as_f64(), "{document}");
    }
    assert_eq!((&batch["name"], &batch["parent_id"]), (&json!("batch"), &json!(SEGMENT)));
    assert_eq!(batch["annotations"], json!({"request_id": "request-1"}));
    assert_eq!((&call["name"], &call["namespace"]), (&json!("DynamoDB"), &json!("aws")));
    assert_eq!(call["parent_id"], batch["id"]);
    assert_eq!(call["aws"]["operation"], "BatchWriteItem");
    assert_eq!(call["annotations"], json!({"attempts": 1, "outcome": "ok"}));
}

#[tokio::test]
async fn trace_contains_the_number_of_attempts() {
    let call = call(|before| match before {
        0 => (500, json!({})),
        _ => stored(),
    })
    .await;
    assert_eq!(call["annotations"], json!({"attempts": 2, "outcome": "ok"}));
    assert_eq!(call.get("fault"), None);
}

#[tokio::test]
async fn throttling_and_failures_are_errors_and_failed_conditions_are_not() {
    let condition = call(|_| error_response("ConditionalCheckFailedException", json!({}))).await;
    assert_eq!(condition["annotations"], json!({"attempts": 1, "outcome": "service_error"}));
    assert_eq!((condition.get("error"), condition.get("fault")), (None, None), "{condition}");

    let throttled = call(|_| error_response("ThrottlingException", json!({}))).await;
    assert_eq!(throttled["annotations"], json!({"attempts": 4, "outcome": "service_error"}));
    assert_eq!(throttled["error"], true, "{throttled}");

    let broken = call(|_| (500, json!({}))).await;
    assert_eq!(broken["fault"], true, "{broken}");
}

#[tokio::test]
async fn unreachable_store_is_traced_as_connection_error() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let daemon = Daemon::start();
    let _guard = tracing::subscriber::set_default(daemon.subscriber());
    let trace = format!("Root={};Parent={SEGMENT};Sampled=1", trace_id());
    store(&format!("http://{closed}"), &context(Some(trace))).await;
    let call = daemon.documents().swap_remove(0);
    assert_eq!(call["annotations"], json!({"attempts": 4, "outcome": "connection_error"}));
    assert_eq!(call["fault"], true, "{call}");
}

#[tokio::test]
async fn unsampled_invocation_is_not_traced() {
    let unsampled = format!("Root={};Parent={SEGMENT};Sampled=0", trace_id());
    for trace in [None, Some(unsampled), Some("no trace".to_owned())] {
        assert_eq!(traced(trace, |_| stored()).await, [] as [Value; 0]);
    }
}

#[tokio::test]
async fn trace_contains_no_keys_payloads_or_service_messages() {
    fn rejected(_: usize) -> FakeResponse {
        error_response("ValidationException", json!({"message": "the value was 1512.5"}))
    }
    for script in [|_| stored(), rejected] as [fn(usize) -> FakeResponse; 2] {
        let text = call(script).await.to_string();
        for secret in [DEVICE, "1512.5", &tables().messages] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

/// Returns the log lines of a call under a filter.
async fn logged(filter: &str) -> Vec<Value> {
    let fake_server = FakeServer::start(|_, _| stored()).await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    store(&fake_server.url, &context(None)).await;
    let text = log.0.lock().unwrap().clone();
    let text = String::from_utf8(text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn calls_are_logged_only_if_the_filter_selects_the_trace_target() {
    assert_eq!(logged("info").await, [] as [Value; 0]);
    let lines = logged("info,meter::trace=debug").await;
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(line["level"], "DEBUG");
    assert_eq!(
        (&line["service"], &line["operation"]),
        (&json!("DynamoDB"), &json!("BatchWriteItem"))
    );
    assert_eq!((&line["attempts"], &line["outcome"]), (&json!(1), &json!("ok")));
    assert_eq!(line["span"]["request_id"], "request-1");
    assert!(line["duration_ms"].as_f64().unwrap() > 0.0);
}
