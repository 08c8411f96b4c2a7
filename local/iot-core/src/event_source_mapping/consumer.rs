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

/// The time for which a receive call waits for messages.
///
/// SQS allows 20 s. However, a call of a killed process stays open at the queue, which delivers
/// messages to it that are then hidden for their visibility timeout. One second limits that, and
/// the time until shutdown.
const RECEIVE_WAIT: Duration = Duration::from_secs(1);

/// The number of concurrent delete calls.
const DELETE_CALLS: usize = 4;

/// The time for which an incomplete delete call waits for more messages.
const DELETE_LINGER: Duration = Duration::from_millis(100);

/// The operations of a queue that a consumer needs.
pub(super) trait MessageQueue: Send + Sync + 'static {
    /// Waits up to `wait` for messages, at most ten, and hides them for `visibility`.
    fn receive(
        &self,
        wait: Duration,
        visibility: Duration,
    ) -> impl Future<Output = Result<Vec<Message>, QueueError>> + Send;

    /// Deletes up to ten messages; returns those that were rejected.
    fn delete(
        &self,
        receipts: &[String],
    ) -> impl Future<Output = Result<Vec<FailedEntry>, QueueError>> + Send;

    /// Hides up to ten messages for `visibility` from now; returns those that were rejected.
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

/// The state that the tasks of an event source mapping share.
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

    /// Receives messages while there is room for them.
    pub(super) async fn receive(self: Arc<Self>, shutdown: CancellationToken) {
        let mut retry = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let permit = Arc::clone(&self.capacity).acquire_many_owned(MAX_BATCH_ENTRIES as u32);
            // Ends at shutdown; the semaphore is never closed.
            let Some(Ok(permit)) = shutdown.run_until_cancelled(permit).await else {
                return;
            };
            // Not interrupted at shutdown: see RECEIVE_WAIT.
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

    /// Invokes the function with the records of the backlog in a loop.
    pub(super) async fn invoke(
        self: Arc<Self>,
        done: UnboundedSender<String>,
        shutdown: CancellationToken,
    ) {
        while let Some(records) =
            shutdown.run_until_cancelled(self.backlog.take(self.batch_size)).await
        {
            let Some(response) = self.invoke_with_retry(&records, &shutdown).await else {
                self.backlog.add(records);
                return;
            };
            self.handle_response(records, response, &done);
        }
    }

    /// Invokes the function; retries while it is unreachable, because it has not run then.
    ///
    /// Returns `None` at shutdown, if the function was not reached before.
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
                response => {
                    self.invoke_outage.record_success();
                    return Some(response);
                }
            }
        }
    }

    /// Queues the processed records for deletion and releases the failed ones.
    fn handle_response(
        &self,
        records: Vec<Record>,
        response: Result<Bytes, InvokeError>,
        done: &UnboundedSender<String>,
    ) {
        let ids = records.iter().map(|record| record.message_id.as_str());
        let outcome = match response {
            Ok(response) if self.reports_item_failures => {
                BatchOutcome::from_response(&response, ids)
            }
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
                "{}: {} of {total} records failed and become visible again within {} s",
                self.function.name,
                failed.len(),
                self.visibility.as_secs()
            );
            self.leases.release(failed.iter().map(|record| record.message_id.as_str()));
        }
        self.counters.consumed.add(done_records.len());
        self.counters.failed.add(failed.len());
        for record in done_records {
            // The deleter outlives all invokers.
            let _ = done.send(record.message_id);
        }
    }

    /// Deletes processed messages, ten a call, with several concurrent calls.
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

    /// Deletes messages, retrying without limit. Meanwhile their leases are kept, so that
    /// redeliveries are recognized and not invoked again.
    async fn delete_batch(&self, ids: &[String]) {
        let mut retry = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            // Looked up for each attempt: a redelivery has a new receipt handle.
            let receipts: Vec<_> = ids.iter().filter_map(|id| self.leases.receipt(id)).collect();
            match self.queue.delete(&receipts).await {
                Ok(rejected) => {
                    self.delete_outage.record_success();
                    for FailedEntry { reason, .. } in rejected {
                        debug!(reason, "a message was not deleted and will be redelivered");
                    }
                    break;
                }
                Err(error) => self.delete_outage.record_failure(&error),
            }
            sleep(retry.next_delay()).await;
        }
        self.leases.release(ids.iter().map(String::as_str));
    }

    /// Extends the visibility timeout of messages while they are held.
    pub(super) async fn extend_leases(self: Arc<Self>) {
        let mut ticks = interval(self.visibility / 6);
        loop {
            ticks.tick().await;
            for messages in self.leases.expiring(Instant::now()).chunks(MAX_BATCH_ENTRIES) {
                let receipts: Vec<_> =
                    messages.iter().map(|(_, receipt)| receipt.clone()).collect();
                let now = Instant::now();
                match self.queue.change_visibility(&receipts, self.visibility).await {
                    // A rejected message is visible again; its invocation continues nevertheless.
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

    /// Makes waiting messages visible to other consumers at once.
    pub(super) async fn release_backlog(&self) {
        let waiting = self.backlog.drain();
        for records in waiting.chunks(MAX_BATCH_ENTRIES) {
            let receipts =
                self.leases.release(records.iter().map(|record| record.message_id.as_str()));
            if let Err(error) = self.queue.change_visibility(&receipts, Duration::ZERO).await {
                debug!(%error, "messages become visible only after their visibility timeout");
                return;
            }
        }
    }
}
