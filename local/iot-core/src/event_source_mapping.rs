//! The event source mapping from a queue to a function, as Lambda implements it for SQS.
//!
//! The tasks of a [`consumer`] receive messages, keep them until an invocation takes them
//! ([`backlog`]), invoke the function and delete what it processed. Until then the messages are
//! hidden from other consumers ([`leases`]). Records that failed ([`outcome`]) become visible again
//! after the visibility timeout.

mod backlog;
mod consumer;
mod leases;
mod outcome;
mod record;

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use aws_sdk_sqs::Client;
use tokio::{
    select,
    sync::mpsc::unbounded_channel,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::consumer::{Consumer, MessageQueue};
use crate::{
    SHUTDOWN_GRACE,
    backoff::Backoff,
    counters::Counters,
    functions::FunctionClient,
    outage::Outage,
    queue::{MAX_BATCH_ENTRIES, Queue},
    template::EventSource,
};

/// The settings of an event source mapping.
pub(crate) struct Settings {
    pub(crate) source: EventSource,
    pub(crate) region: String,
    pub(crate) receive_calls: usize,
    pub(crate) invocations: usize,
    pub(crate) batch_size: usize,
    pub(crate) visibility: Duration,
}

impl Settings {
    /// Returns the maximum number of messages held at once: enough for each invocation and the next
    /// one.
    fn capacity(&self) -> usize {
        self.batch_size * (self.invocations + 1) + MAX_BATCH_ENTRIES * self.receive_calls
    }
}

/// Consumes the queue of the event source until `shutdown`; then waits for running invocations, for
/// a few seconds.
///
/// # Errors
///
/// If a task ends early.
pub(crate) async fn run(
    settings: Settings,
    sqs: Client,
    functions: FunctionClient,
    counters: Arc<Counters>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let found = resolve_queue(&sqs, &settings.source.queue_arn);
    match shutdown.run_until_cancelled(found).await {
        Some(queue) => consume(settings, queue, functions, counters, shutdown).await,
        None => Ok(()),
    }
}

/// Looks up the queue of an ARN, until SQS returns it.
async fn resolve_queue(sqs: &Client, arn: &str) -> Queue {
    let outage = Outage::new(format!("looking up the queue {arn}"));
    let mut retry = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        match Queue::by_arn(sqs, arn).await {
            Ok(queue) => {
                outage.record_success();
                return queue;
            }
            Err(error) => outage.record_failure(&error),
        }
        sleep(retry.next_delay()).await;
    }
}

async fn consume(
    settings: Settings,
    queue: impl MessageQueue,
    functions: FunctionClient,
    counters: Arc<Counters>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let consumer = Arc::new(Consumer::new(&settings, queue, functions, counters));
    let (done, done_receiver) = unbounded_channel();
    let mut keeping = JoinSet::new();
    keeping.spawn(Arc::clone(&consumer).extend_leases());
    let mut working = JoinSet::new();
    for _ in 0..settings.receive_calls {
        working.spawn(Arc::clone(&consumer).receive(shutdown.clone()));
    }
    for _ in 0..settings.invocations {
        working.spawn(Arc::clone(&consumer).invoke(done.clone(), shutdown.clone()));
    }
    working.spawn(Arc::clone(&consumer).delete(done_receiver));
    // The deleter ends when the last invoker has dropped its sender.
    drop(done);

    let ended = select! {
        () = shutdown.cancelled() => None,
        ended = working.join_next() => ended,
        ended = keeping.join_next() => ended,
    };
    if let Some(ended) = ended.filter(|_| !shutdown.is_cancelled()) {
        ended?;
        bail!("a task that consumes {} has ended", settings.source.queue_arn);
    }
    let finished = async { while working.join_next().await.is_some() {} };
    if timeout(SHUTDOWN_GRACE, finished).await.is_err() {
        warn!(
            "{} did not finish in time; its messages will be redelivered",
            settings.source.function.name
        );
    }
    if timeout(SHUTDOWN_GRACE, consumer.release_backlog()).await.is_err() {
        debug!("some messages become visible only after their visibility timeout");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
