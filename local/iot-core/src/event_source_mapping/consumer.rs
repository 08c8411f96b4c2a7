//! The tasks that consume a queue.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_sdk_sqs::types::Message;
use bytes::Bytes;
use tokio::{
    sync::{
        OwnedSemaphorePermit, Semaphore,
        mpsc::{UnboundedReceiver, UnboundedSender},
    },
    task::JoinSet,
    time::{interval, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    Settings,
    backlog::Backlog,
    leases::Leases,
    outcome::BatchOutcome,
    record::{self, Origin, Record},
};
use crate::{
    backoff::Backoff,
    counters::Counters,
    functions::{FunctionClient, InvokeError},
    outage::Outage,
    queue::{FailedEntry, MAX_BATCH_ENTRIES, Queue, QueueError},
    template::Function,
};

/// How long a call waits for messages. SQS would do up to 20 s, but a queue goes on waiting for a caller
/// that was killed, and hands it messages that then stay hidden for their visibility timeout; this is how
/// long that can happen after a restart, and how long a shutdown waits for the last call.
const RECEIVE_WAIT: Duration = Duration::from_secs(1);

/// How many calls to delete may be in flight.
const DELETE_CALLS: usize = 4;

/// How long an incomplete call to delete waits for more. Nobody waits for a deletion.
const DELETE_LINGER: Duration = Duration::from_millis(100);

/// The queue, as far as consuming goes.
pub(super) trait MessageQueue: Send + Sync + 'static {
    /// Waits up to `wait` for messages, at most ten, and hides them for `visibility`.
    fn receive(
        &self,
        wait: Duration,
        visibility: Duration,
    ) -> impl Future<Output = Result<Vec<Message>, QueueError>> + Send;

    /// Deletes up to ten messages and returns which ones were refused.
    fn delete(
        &self,
        receipts: &[String],
    ) -> impl Future<Output = Result<Vec<FailedEntry>, QueueError>> + Send;

    /// Hides up to ten messages for `visibility` from now, and returns which ones were refused.
    fn change_visibility(
        &self,
        receipts: &[String],
        visibility: Duration,
    ) -> impl Future<Output = Result<Vec<FailedEntry>, QueueError>> + Send;
}

impl MessageQueue for Queue {
    async fn receive(
        &self,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<Message>, QueueError> {
        Queue::receive(self, wait, visibility).await
    }

    async fn delete(&self, receipts: &[String]) -> Result<Vec<FailedEntry>, QueueError> {
        Queue::delete(self, receipts).await
    }

    async fn change_visibility(
        &self,
        receipts: &[String],
        visibility: Duration,
    ) -> Result<Vec<FailedEntry>, QueueError> {
        Queue::change_visibility(self, receipts, visibility).await
    }
}

/// What the tasks of an event source mapping share.
pub(super) struct Consumer<Q> {
    queue: Q,
    functions: FunctionClient,
    function: Function,
    origin: Origin,
    reports_item_failures: bool,
    batch_size: usize,
    visibility: Duration,
    capacity: Arc<Semaphore>,
    leases: Leases,
    backlog: Backlog,
    receive_outage: Outage,
    delete_outage: Outage,
    extend_outage: Outage,
    invoke_outage: Outage,
    counters: Arc<Counters>,
}

impl<Q: MessageQueue> Consumer<Q> {
    pub(super) fn new(
        settings: &Settings,
        queue: Q,
        functions: FunctionClient,
        counters: Arc<Counters>,
    ) -> Self {
        let function = settings.source.function.clone();
        let name = &function.name;
        Self {
            receive_outage: Outage::new(format!("receiving messages for {name}")),
            delete_outage: Outage::new(format!("deleting messages for {name}")),
            extend_outage: Outage::new(format!("keeping messages hidden for {name}")),
            invoke_outage: Outage::new(format!("reaching the function {name}")),
            origin: Origin {
                queue_arn: settings.source.queue_arn.clone(),
                region: settings.region.clone(),
            },
            reports_item_failures: settings.source.reports_item_failures,
            capacity: Arc::new(Semaphore::new(settings.capacity())),
            leases: Leases::new(settings.visibility),
            backlog: Backlog::default(),
            visibility: settings.visibility,
            batch_size: settings.batch_size,
            function,
            queue,
            functions,
            counters,
        }
    }

    /// Receives messages, as long as there is room for them.
    pub(super) async fn receive(self: Arc<Self>, shutdown: CancellationToken) {
        let mut retry = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let permit = Arc::clone(&self.capacity).acquire_many_owned(MAX_BATCH_ENTRIES as u32);
            // A semaphore that is closed, which this one never is, or the end.
            let Some(Ok(permit)) = shutdown.run_until_cancelled(permit).await else {
                return;
            };
            // Not cut short at shutdown: see RECEIVE_WAIT.
            match self.queue.receive(RECEIVE_WAIT, self.visibility).await {
                Ok(messages) => {
                    self.receive_outage.record_success();
                    retry.reset();
                    self.admit(&messages, permit);
                }
                Err(error) => {
                    self.receive_outage.record_failure(&error);
                    let delay = retry.next_delay();
                    if shutdown.run_until_cancelled(sleep(delay)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    fn admit(&self, messages: &[Message], mut permit: OwnedSemaphorePermit) {
        let now = Instant::now();
        let records = messages.iter().filter_map(|message| {
            let record = Record::from_message(message, &self.origin)?;
            let receipt = message.receipt_handle()?;
            self.leases.insert(&record.message_id, receipt, now, permit.split(1)).then_some(record)
        });
        let records: Vec<_> = records.collect();
        if !records.is_empty() {
            self.backlog.add(records);
        }
    }

    /// Invokes the function with what is there, again and again.
    pub(super) async fn invoke(
        self: Arc<Self>,
        done: UnboundedSender<String>,
        shutdown: CancellationToken,
    ) {
        while let Some(records) =
            shutdown.run_until_cancelled(self.backlog.take(self.batch_size)).await
        {
            let Some(answer) = self.invoke_with_retry(&records, &shutdown).await else {
                self.backlog.add(records);
                return;
            };
            self.handle_response(records, answer, &done);
        }
    }

    /// Invokes the function, again and again if it cannot be reached: then it has not run. None when
    /// `shutdown` comes before it could be reached.
    async fn invoke_with_retry(
        &self,
        records: &[Record],
        shutdown: &CancellationToken,
    ) -> Option<Result<Bytes, InvokeError>> {
        let event = Bytes::from(record::event(records));
        let mut retry = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            match self.functions.invoke(&self.function, event.clone()).await {
                Err(error @ InvokeError::Unreachable { .. }) => {
                    self.invoke_outage.record_failure(&error);
                    let delay = retry.next_delay();
                    shutdown.run_until_cancelled(sleep(delay)).await?;
                }
                answer => {
                    self.invoke_outage.record_success();
                    return Some(answer);
                }
            }
        }
    }

    /// Sends on what is done, and lets go of what failed.
    fn handle_response(
        &self,
        records: Vec<Record>,
        answer: Result<Bytes, InvokeError>,
        done: &UnboundedSender<String>,
    ) {
        let ids = records.iter().map(|record| record.message_id.as_str());
        let outcome = match answer {
            Ok(answer) if self.reports_item_failures => BatchOutcome::from_response(&answer, ids),
            Ok(_) => BatchOutcome::ItemFailures([].into()),
            Err(error) => BatchOutcome::BatchFailure(error.to_string()),
        };
        self.counters.invocations.add(1);
        let total = records.len();
        let (done_records, failed): (Vec<_>, Vec<_>) = match &outcome {
            BatchOutcome::BatchFailure(_) => (Vec::new(), records),
            BatchOutcome::ItemFailures(failed) => {
                records.into_iter().partition(|record| !failed.contains(&record.message_id))
            }
        };
        if !failed.is_empty() {
            let reason = match &outcome {
                BatchOutcome::BatchFailure(reason) => reason.as_str(),
                BatchOutcome::ItemFailures(_) => "reported by the function",
            };
            warn!(
                reason,
                "{}: {} of {total} records failed and come again within {} s",
                self.function.name,
                failed.len(),
                self.visibility.as_secs()
            );
            self.leases.release(failed.iter().map(|record| record.message_id.as_str()));
        }
        self.counters.consumed.add(done_records.len());
        self.counters.failed.add(failed.len());
        for record in done_records {
            // The deleter ends after all invokers, so there is one.
            let _ = done.send(record.message_id);
        }
    }

    /// Deletes what is done, ten at a time, several calls at once.
    pub(super) async fn delete(self: Arc<Self>, mut done: UnboundedReceiver<String>) {
        let slots = Arc::new(Semaphore::new(DELETE_CALLS));
        let mut calls = JoinSet::new();
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            let mut ids = Vec::with_capacity(MAX_BATCH_ENTRIES);
            if done.recv_many(&mut ids, MAX_BATCH_ENTRIES).await == 0 {
                break;
            }
            let deadline = tokio::time::Instant::now() + DELETE_LINGER;
            while ids.len() < MAX_BATCH_ENTRIES
                && let Ok(Some(id)) = timeout_at(deadline, done.recv()).await
            {
                ids.push(id);
            }
            while calls.try_join_next().is_some() {}
            let consumer = Arc::clone(&self);
            calls.spawn(async move {
                consumer.delete_batch(&ids).await;
                drop(slot);
            });
        }
        calls.join_all().await;
    }

    /// Deletes messages, however long it takes: while they are held, those that the queue hands out again
    /// are recognised, and the function is spared the repeat.
    async fn delete_batch(&self, ids: &[String]) {
        let mut retry = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            // Looked up each time: a message that came again meanwhile has a new receipt.
            let receipts: Vec<_> = ids.iter().filter_map(|id| self.leases.receipt(id)).collect();
            match self.queue.delete(&receipts).await {
                Ok(refused) => {
                    self.delete_outage.record_success();
                    for FailedEntry { reason, .. } in refused {
                        debug!(reason, "a message is not deleted and comes again");
                    }
                    break;
                }
                Err(error) => self.delete_outage.record_failure(&error),
            }
            sleep(retry.next_delay()).await;
        }
        self.leases.release(ids.iter().map(String::as_str));
    }

    /// Keeps messages hidden for as long as they are held.
    pub(super) async fn extend_leases(self: Arc<Self>) {
        let mut ticks = interval(self.visibility / 6);
        loop {
            ticks.tick().await;
            for messages in self.leases.expiring(Instant::now()).chunks(MAX_BATCH_ENTRIES) {
                let receipts: Vec<_> =
                    messages.iter().map(|(_, receipt)| receipt.clone()).collect();
                let now = Instant::now();
                match self.queue.change_visibility(&receipts, self.visibility).await {
                    // A refused one has come back to the queue already; it is worked on all the same.
                    Ok(_) => {
                        self.extend_outage.record_success();
                        for (id, _) in messages {
                            self.leases.extend(id, now);
                        }
                    }
                    Err(error) => {
                        self.extend_outage.record_failure(&error);
                        break;
                    }
                }
            }
        }
    }

    /// Shows what is still waiting to others at once, instead of after the visibility timeout.
    pub(super) async fn release_backlog(&self) {
        let waiting = self.backlog.drain();
        for records in waiting.chunks(MAX_BATCH_ENTRIES) {
            let receipts =
                self.leases.release(records.iter().map(|record| record.message_id.as_str()));
            if let Err(error) = self.queue.change_visibility(&receipts, Duration::ZERO).await {
                debug!(%error, "messages come again after their visibility timeout");
                return;
            }
        }
    }
}
