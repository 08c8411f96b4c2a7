//! A server with scripted responses, for faults that the emulators do not produce.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request that was received.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The operation of DynamoDB, or the path of the request.
    pub(crate) operation: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

/// The status and body of a response.
pub(crate) type FakeResponse = (u16, Value);

type Script = dyn Fn(usize, &Call) -> FakeResponse + Send + Sync;

struct Shared {
    script: Box<Script>,
    calls: Mutex<Vec<Call>>,
}

/// A server that runs until it is dropped.
pub(crate) struct FakeServer {
    pub(crate) url: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl FakeServer {
    /// Starts a server. `script` maps the number of earlier requests and the request to a response.
    pub(crate) async fn start(
        script: impl Fn(usize, &Call) -> FakeResponse + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared { script: Box::new(script), calls: Mutex::default() });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(respond).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url: format!("http://{address}"), shared, server }
    }

    /// Returns the requests so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn respond(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let operation = target.and_then(|target| target.split_once('.')).map(|(_, name)| name);
    let call = Call {
        operation: operation.unwrap_or(uri.path()).to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let earlier = {
        let mut calls = shared.calls.lock().unwrap();
        calls.push(call.clone());
        calls.len() - 1
    };
    let (status, body) = (shared.script)(earlier, &call);
    let content_type = [(header::CONTENT_TYPE, "application/x-amz-json-1.0")];
    (StatusCode::from_u16(status).unwrap(), content_type, body.to_string()).into_response()
}

/// An error response of DynamoDB with the given code.
pub(crate) fn error_response(code: &str, more: Value) -> FakeResponse {
    let mut body =
        json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": "no"});
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    (400, body)
}
