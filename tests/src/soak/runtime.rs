//! Lambda's runtime API for one function process, no more of it than a function needs: the process asks
//! for its next event and posts what it made of it.
//!
//! The API's own description: <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

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

/// What a function made of an event.
#[derive(Debug)]
pub(super) enum Posted {
    /// Its answer.
    Answer(Value),
    /// Its error.
    Error(Value),
}

/// The runtime API. A process that is started anew gets another address of it, so that what an old one
/// still asks for is not handed out to the dead.
pub(super) struct Runtime {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    desk: Mutex<Desk>,
    filled: Notify,
}

#[derive(Default)]
struct Desk {
    /// Which process counts, by the number of its start.
    life: u64,
    /// The number of the last event.
    event: u64,
    /// Laid out and not asked for yet.
    waiting: Option<String>,
    /// Where its answer goes.
    answer: Option<oneshot::Sender<Posted>>,
}

impl Runtime {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .route("/{life}/2018-06-01/runtime/invocation/next", get(next))
            .route("/{life}/2018-06-01/runtime/invocation/{event}/response", post(response))
            .route("/{life}/2018-06-01/runtime/invocation/{event}/error", post(error))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            // Ends with the task: `axum::serve` retries what fails.
            let _ended = axum::serve(listener, router).await;
        });
        Ok(Self { address, shared, server })
    }

    /// The address for a process that is about to be started, `AWS_LAMBDA_RUNTIME_API`. What an earlier
    /// process had in its hands is lost.
    pub(super) fn for_a_new_process(&self) -> String {
        let mut desk = lock(&self.shared.desk);
        desk.life += 1;
        desk.waiting = None;
        desk.answer = None;
        format!("http://{}/{}", self.address, desk.life)
    }

    /// Lays out an event for the process; resolves with what that posts. An error means that the process
    /// has been replaced.
    pub(super) fn hand_out(&self, event: String) -> oneshot::Receiver<Posted> {
        let (answer, posted) = oneshot::channel();
        let mut desk = lock(&self.shared.desk);
        desk.event += 1;
        desk.waiting = Some(event);
        desk.answer = Some(answer);
        self.shared.filled.notify_waiters();
        posted
    }

    /// Whether an event lies there that nobody has asked for.
    pub(super) fn is_unasked(&self) -> bool {
        lock(&self.shared.desk).waiting.is_some()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn next(State(shared): State<Arc<Shared>>, Path(life): Path<u64>) -> Response {
    loop {
        // Before looking, or an event laid out in between would not be noticed.
        let filled = shared.filled.notified();
        {
            let mut desk = lock(&shared.desk);
            if desk.life != life {
                return StatusCode::GONE.into_response();
            }
            if let Some(event) = desk.waiting.take() {
                let headers = [
                    ("lambda-runtime-aws-request-id", desk.event.to_string()),
                    // Nothing here reads it but the runtime client, which insists on it.
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
        filled.await;
    }
}

async fn response(
    State(shared): State<Arc<Shared>>,
    Path((life, event)): Path<(u64, u64)>,
    body: Bytes,
) -> StatusCode {
    post_back(&shared, life, event, Posted::Answer(json_of(&body)))
}

async fn error(
    State(shared): State<Arc<Shared>>,
    Path((life, event)): Path<(u64, u64)>,
    body: Bytes,
) -> StatusCode {
    post_back(&shared, life, event, Posted::Error(json_of(&body)))
}

fn json_of(body: &Bytes) -> Value {
    serde_json::from_slice(body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}

fn post_back(shared: &Shared, life: u64, event: u64, posted: Posted) -> StatusCode {
    let answer = {
        let mut desk = lock(&shared.desk);
        if (desk.life, desk.event) == (life, event) { desk.answer.take() } else { None }
    };
    match answer.map(|answer| answer.send(posted)) {
        Some(Ok(())) => StatusCode::ACCEPTED,
        // Its time is over.
        _ => StatusCode::GONE,
    }
}
