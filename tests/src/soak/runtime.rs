//! The Lambda runtime API for one function process: requests for the next event, responses and
//! errors.
//!
//! See <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

/// The result that a function posts for an event.
#[derive(Debug)]
pub(super) enum InvocationResult {
    /// The response.
    Response(Value),
    /// The error.
    Error(Value),
}

/// The runtime API. Each process has its own address, so that a pending request of a killed process
/// does not take an event.
pub(super) struct RuntimeApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    slot: Mutex<InvocationSlot>,
    event_ready: Notify,
}

#[derive(Default)]
struct InvocationSlot {
    /// The number of the current process.
    generation: u64,
    /// The number of the last event.
    event: u64,
    /// The event that the process has not requested yet.
    pending_event: Option<String>,
    /// Receives the result.
    answer: Option<oneshot::Sender<InvocationResult>>,
}

impl RuntimeApi {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .route("/{generation}/2018-06-01/runtime/invocation/next", get(next))
            .route("/{generation}/2018-06-01/runtime/invocation/{event}/response", post(response))
            .route("/{generation}/2018-06-01/runtime/invocation/{event}/error", post(error))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            // `axum::serve` retries after errors, so it ends only with the task.
            let _ended = axum::serve(listener, router).await;
        });
        Ok(Self { address, shared, server })
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API` for a new process. Discards the event of the previous
    /// process.
    pub(super) fn endpoint_for_new_process(&self) -> String {
        let mut slot = lock(&self.shared.slot);
        slot.generation += 1;
        slot.pending_event = None;
        slot.answer = None;
        format!("http://{}/{}", self.address, slot.generation)
    }

    /// Submits an event and returns the receiver of its result, which is closed if the process is
    /// replaced.
    pub(super) fn submit(&self, event: String) -> oneshot::Receiver<InvocationResult> {
        let (answer, posted) = oneshot::channel();
        let mut slot = lock(&self.shared.slot);
        slot.event += 1;
        slot.pending_event = Some(event);
        slot.answer = Some(answer);
        self.shared.event_ready.notify_waiters();
        posted
    }

    /// Whether the process has not requested the event.
    pub(super) fn has_unclaimed_event(&self) -> bool {
        lock(&self.shared.slot).pending_event.is_some()
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(slot: &Mutex<InvocationSlot>) -> MutexGuard<'_, InvocationSlot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn next(State(shared): State<Arc<Shared>>, Path(generation): Path<u64>) -> Response {
    loop {
        // Created before the slot is read, so that no event in between is missed.
        let event_ready = shared.event_ready.notified();
        {
            let mut slot = lock(&shared.slot);
            if slot.generation != generation {
                return StatusCode::GONE.into_response();
            }
            if let Some(event) = slot.pending_event.take() {
                let headers = [
                    ("lambda-runtime-aws-request-id", slot.event.to_string()),
                    // Required by the runtime client, which computes the deadline of the context
                    // from it.
                    ("lambda-runtime-deadline-ms", "4102444800000".to_owned()),
                    (
                        "lambda-runtime-invoked-function-arn",
                        "arn:aws:lambda:::function:f".to_owned(),
                    ),
                    ("content-type", "application/json".to_owned()),
                ];
                return (headers, event).into_response();
            }
        }
        event_ready.await;
    }
}

async fn response(
    State(shared): State<Arc<Shared>>,
    Path((generation, event)): Path<(u64, u64)>,
    body: Bytes,
) -> StatusCode {
    complete(&shared, generation, event, InvocationResult::Response(parse_json(&body)))
}

async fn error(
    State(shared): State<Arc<Shared>>,
    Path((generation, event)): Path<(u64, u64)>,
    body: Bytes,
) -> StatusCode {
    complete(&shared, generation, event, InvocationResult::Error(parse_json(&body)))
}

fn parse_json(body: &Bytes) -> Value {
    serde_json::from_slice(body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}

fn complete(shared: &Shared, generation: u64, event: u64, posted: InvocationResult) -> StatusCode {
    let answer = {
        let mut slot = lock(&shared.slot);
        if (slot.generation, slot.event) == (generation, event) { slot.answer.take() } else { None }
    };
    match answer.map(|answer| answer.send(posted)) {
        Some(Ok(())) => StatusCode::ACCEPTED,
        // The event belongs to a previous process.
        _ => StatusCode::GONE,
    }
}
