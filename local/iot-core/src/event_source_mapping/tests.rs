//! Tests of a consumer with an in-memory queue and a function behind HTTP.

use std::{
    collections::{HashMap, VecDeque},
    future::IntoFuture,
    sync::{Mutex, MutexGuard},
};

use aws_lambda_events::sqs::SqsEvent;
use aws_sdk_sqs::types::Message;
use axum::{Json, Router, http::StatusCode, response::IntoResponse, routing::post};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

use super::*;
use crate::{
    queue::{FailedEntry, QueueError},
    template::Function,
};

/// An in-memory queue with the semantics of SQS.
///
/// A receive hides a message and issues a new receipt handle; only the last one deletes it.
/// Messages stay hidden until [`MessageQueue::change_visibility`], so that no test depends on time.
#[derive(Default)]
struct MemoryQueue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    visible: VecDeque<String>,
    receipts: HashMap<String, String>,
    received: usize,
    extended: Vec<String>,
    failing_deletes: usize,
}

impl MemoryQueue {
    fn with(ids: &[&str]) -> Arc<Self> {
        let queue = Self::default();
        queue.state().visible = ids.iter().map(|&id| id.to_owned()).collect();
        Arc::new(queue)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Returns the ids of the visible and of the hidden messages.
    fn remaining(&self) -> (Vec<String>, Vec<String>) {
        let state = self.state();
        let mut hidden: Vec<_> = state.receipts.keys().cloned().collect();
        hidden.sort_unstable();
        (state.visible.iter().cloned().collect(), hidden)
    }

    /// Waits for a state of the queue.
    async fn wait_until(&self, reached: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            if reached(&self.state()) {
                return;
            }
            changed.await;
        }
    }
}

impl MessageQueue for Arc<MemoryQueue> {
    async fn receive(&self, _: Duration, _: Duration) -> Result<Vec<Message>, QueueError> {
        let messages: Vec<_> = {
            let mut state = self.state();
            let count = state.visible.len().min(MAX_BATCH_ENTRIES);
            let ids: Vec<_> = state.visible.drain(..count).collect();
            ids.into_iter()
                .map(|id| {
                    state.received += 1;
                    let receipt = format!("{id}/{}", state.received);
                    state.receipts.insert(id.clone(), receipt.clone());
                    Message::builder().message_id(id).receipt_handle(receipt).body("{}").build()
                })
                .collect()
        };
        if messages.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        Ok(messages)
    }

    async fn delete(&self, receipts: &[String]) -> Result<Vec<FailedEntry>, QueueError> {
        let mut state = self.state();
        if state.failing_deletes > 0 {
            state.failing_deletes -= 1;
            self.changed.notify_waiters();
            return Err(QueueError::TimedOut { operation: "test" });
        }
        state.receipts.retain(|_, receipt| !receipts.contains(receipt));
        drop(state);
        self.changed.notify_waiters();
        Ok(Vec::new())
    }

    async fn change_visibility(
        &self,
        receipts: &[String],
        visibility: Duration,
    ) -> Result<Vec<FailedEntry>, QueueError> {
        let mut state = self.state();
        for receipt in receipts {
            let id = receipt.split('/').next().unwrap().to_owned();
            if visibility.is_zero() {
                state.receipts.remove(&id);
                state.visible.push_back(id);
            } else {
                state.extended.push(id);
            }
        }
        drop(state);
        self.changed.notify_waiters();
        Ok(Vec::new())
    }
}

/// Serves a function. `respond` maps the ids of the records and the number of earlier invocations
/// to a response.
async fn function<F, A>(respond: F) -> FunctionClient
where
    F: Fn(Vec<String>, usize) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = (StatusCode, Value)> + Send,
{
    let count = Arc::new(Mutex::new(0));
    let handler = move |Json(event): Json<SqsEvent>| {
        let (respond, count) = (respond.clone(), Arc::clone(&count));
        async move {
            let before = {
                let mut count = count.lock().unwrap();
                *count += 1;
                *count - 1
            };
            let ids = event.records.into_iter().map(|record| record.message_id.unwrap());
            let (status, body) = respond(ids.collect(), before).await;
            (status, Json(body)).into_response()
        }
    };
    let routes = Router::new().route("/2015-03-31/functions/worker/invocations", post(handler));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, routes).into_future());
    FunctionClient::new(&format!("http://{address}")).unwrap()
}

fn settings() -> Settings {
    Settings {
        source: EventSource {
            function: Function { name: "worker".to_owned(), timeout: Duration::from_secs(60) },
            queue_arn: "arn:aws:sqs:us-east-1:000000000000:work".to_owned(),
            batch_size: None,
            reports_item_failures: true,
        },
        region: "us-east-1".to_owned(),
        receive_calls: 1,
        invocations: 1,
        batch_size: 500,
        visibility: Duration::from_secs(30),
    }
}

/// A consumer that runs until it is stopped.
struct TestConsumer {
    counters: Arc<Counters>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl TestConsumer {
    fn start(settings: Settings, queue: &Arc<MemoryQueue>, functions: FunctionClient) -> Self {
        let (counters, shutdown) = (Arc::new(Counters::default()), CancellationToken::new());
        let task = tokio::spawn(consume(
            settings,
            Arc::clone(queue),
            functions,
            Arc::clone(&counters),
            shutdown.clone(),
        ));
        Self { counters, shutdown, task }
    }

    async fn stop(self) -> Arc<Counters> {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
        self.counters
    }
}

fn no_ids() -> Vec<String> {
    Vec::new()
}

#[tokio::test]
async fn processed_messages_are_deleted() {
    let queue = MemoryQueue::with(&["a", "b", "c"]);
    let functions = function(|_, _| async { (StatusCode::OK, Value::Null) }).await;
    let running = TestConsumer::start(settings(), &queue, functions);
    queue.wait_until(|state| state.received == 3 && state.receipts.is_empty()).await;
    running.stop().await;
    assert_eq!(queue.remaining(), (no_ids(), no_ids()));
}

#[tokio::test]
async fn failed_messages_stay_hidden_until_their_visibility_timeout() {
    let queue = MemoryQueue::with(&["a", "b", "c"]);
    let response = json!({ "batchItemFailures": [{ "itemIdentifier": "b" }] });
    let functions = function(move |_, _| {
        let response = response.clone();
        async move { (StatusCode::OK, response) }
    })
    .await;
    let running = TestConsumer::start(settings(), &queue, functions);
    queue.wait_until(|state| state.receipts.len() == 1).await;
    running.stop().await;
    assert_eq!(queue.remaining(), (no_ids(), vec!["b".to_owned()]));
}

#[tokio::test]
async fn item_failures_are_ignored_unless_the_mapping_reports_them() {
    let queue = MemoryQueue::with(&["a", "b"]);
    let response = json!({ "batchItemFailures": [{ "itemIdentifier": "b" }] });
    let functions = function(move |_, _| {
        let response = response.clone();
        async move { (StatusCode::OK, response) }
    })
    .await;
    let mut settings = settings();
    settings.source.reports_item_failures = false;
    let running = TestConsumer::start(settings, &queue, functions);
    queue.wait_until(|state| state.received == 2 && state.receipts.is_empty()).await;
    running.stop().await;
}

#[tokio::test]
async fn failed_invocation_keeps_the_batch_in_the_queue() {
    let queue = MemoryQueue::with(&["a", "b"]);
    let invoked = Arc::new(Notify::new());
    let functions = function({
        let invoked = Arc::clone(&invoked);
        move |_, _| {
            invoked.notify_one();
            async { (StatusCode::INTERNAL_SERVER_ERROR, json!({ "errorType": "Panic" })) }
        }
    })
    .await;
    let running = TestConsumer::start(settings(), &queue, functions);
    invoked.notified().await;
    let counts = running.stop().await.snapshot();
    assert_eq!(queue.remaining(), (no_ids(), vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(serde_json::to_value(counts).unwrap()["failed"], 2);
}

#[tokio::test]
async fn unreachable_function_is_invoked_again_with_the_same_records() {
    let queue = MemoryQueue::with(&["a", "b"]);
    let functions = function(|_, before| async move {
        match before {
            0..3 => (StatusCode::TOO_MANY_REQUESTS, Value::Null),
            _ => (StatusCode::OK, Value::Null),
        }
    })
    .await;
    let running = TestConsumer::start(settings(), &queue, functions);
    queue.wait_until(|state| state.received == 2 && state.receipts.is_empty()).await;
    let counts = serde_json::to_value(running.stop().await.snapshot()).unwrap();
    assert_eq!((&counts["invocations"], &counts["failed"]), (&json!(1), &json!(0)));
}

#[tokio::test]
async fn messages_stay_hidden_during_a_long_invocation() {
    let queue = MemoryQueue::with(&["a", "b"]);
    let go_on = Arc::new(Notify::new());
    let functions = function({
        let go_on = Arc::clone(&go_on);
        move |_, before| {
            let go_on = Arc::clone(&go_on);
            async move {
                if before == 0 {
                    go_on.notified().await;
                }
                (StatusCode::OK, Value::Null)
            }
        }
    })
    .await;
    let settings = Settings { batch_size: 1, visibility: Duration::from_millis(60), ..settings() };
    let running = TestConsumer::start(settings, &queue, functions);
    let extended =
        |state: &State| ["a", "b"].iter().all(|id| state.extended.iter().any(|e| e == id));
    queue.wait_until(extended).await;
    go_on.notify_one();
    queue.wait_until(|state| state.receipts.is_empty()).await;
    running.stop().await;
}

#[tokio::test]
async fn redelivery_during_deletion_is_not_invoked_again() {
    let queue = MemoryQueue::with(&["a"]);
    queue.state().failing_deletes = 1;
    let functions = function(|_, _| async { (StatusCode::OK, Value::Null) }).await;
    let running = TestConsumer::start(settings(), &queue, functions);
    // The delete has failed. Now the visibility timeout ends, and the queue delivers the message
    // again.
    queue.wait_until(|state| state.failing_deletes == 0).await;
    queue.state().visible.push_back("a".to_owned());
    queue.wait_until(|state| state.received == 2 && state.receipts.is_empty()).await;
    let counts = serde_json::to_value(running.stop().await.snapshot()).unwrap();
    assert_eq!(counts["invocations"], 1);
}

#[tokio::test]
async fn shutdown_completes_the_invocation_and_releases_waiting_messages() {
    let queue = MemoryQueue::with(&["a", "b", "c"]);
    let (invoked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let functions = function({
        let (invoked, go_on) = (Arc::clone(&invoked), Arc::clone(&go_on));
        move |_, _| {
            let (invoked, go_on) = (Arc::clone(&invoked), Arc::clone(&go_on));
            async move {
                invoked.notify_one();
                go_on.notified().await;
                (StatusCode::OK, Value::Null)
            }
        }
    })
    .await;
    let running = TestConsumer::start(Settings { batch_size: 1, ..settings() }, &queue, functions);
    invoked.notified().await;
    running.shutdown.cancel();
    go_on.notify_one();
    running.stop().await;
    assert_eq!(queue.remaining(), (vec!["b".to_owned(), "c".to_owned()], no_ids()));
}
