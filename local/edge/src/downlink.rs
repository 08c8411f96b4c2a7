//! Down: from a queue to a function, as Lambda's event source mapping for SQS does it.
//!
//! Messages are received ([`Consumer::receive`]), wait for an invocation ([`backlog`]), are worked on
//! ([`Consumer::invoke`]) and are deleted ([`Consumer::delete`]). Until then they stay hidden from others
//! ([`leases`]). What the function fails on is let go, and comes back when its visibility timeout ends.

mod backlog;
mod leases;
mod outcome;
mod record;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_sdk_sqs::{Client, types::Message};
use bytes::Bytes;
use tokio::{
    sync::{
        OwnedSemaphorePermit, Semaphore,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    task::JoinSet,
    time::{interval, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::{
    backlog::Backlog,
    leases::Leases,
    outcome::Outcome,
    record::{Origin, Record},
};
use crate::{
    SHUTDOWN_GRACE,
    activity::Activity,
    backoff::Backoff,
    functions::{Functions, InvokeError},
    outage::Outage,
    queue::{MAX_ENTRIES, Queue, Refused},
    template::{EventSource, Function},
};

/// How long a call waits for messages. SQS would do up to 20 s, but a queue goes on waiting for a caller
/// that was killed, and hands it messages that then stay hidden for their visibility timeout; this is how
/// long that can happen after a restart, and how long a shutdown waits for the last call.
const WAIT: Duration = Duration::from_secs(1);

/// How many calls to delete may be in flight.
const DELETE_CALLS: usize = 4;

/// How long an incomplete call to delete waits for more. Nobody waits for a deletion.
const DELETE_LINGER: Duration = Duration::from_millis(100);

/// What an event source mapping needs to know.
pub(crate) struct Settings {
    pub(crate) source: EventSource,
    pub(crate) region: String,
    pub(crate) receive_calls: usize,
    pub(crate) invocations: usize,
    pub(crate) batch_size: usize,
    pub(crate) visibility: Duration,
}

impl Settings {
    /// How many messages may be held at once: enough to fill each invocation, and one more in the making.
    fn room(&self) -> usize {
        self.batch_size * (self.invocations + 1) + MAX_ENTRIES * self.receive_calls
    }
}

/// Runs until `shutdown`, and then until the running invocations have ended, for a few seconds at most.
pub(crate) async fn run(
    settings: Settings,
    sqs: Client,
    functions: Functions,
    activity: Arc<Activity>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let arn = &settings.source.queue_arn;
    let Some(queue) = shutdown.run_until_cancelled(find(&sqs, arn)).await else {
        return Ok(());
    };
    let name = &settings.source.function.name;
    let (done, done_receiver) = unbounded_channel();
    let consumer = Arc::new(Consumer {
        deleting: Outage::of(format!("deleting messages for {name}")),
        receiving: Outage::of(format!("receiving messages for {name}")),
        reaching: Outage::of(format!("reaching the function {name}")),
        function: settings.source.function.clone(),
        origin: Origin {
            queue_arn: settings.source.queue_arn.clone(),
            region: settings.region.clone(),
        },
        reports_item_failures: settings.source.reports_item_failures,
        room: Arc::new(Semaphore::new(settings.room())),
        leases: Leases::of(settings.visibility),
        backlog: Backlog::default(),
        visibility: settings.visibility,
        batch_size: settings.batch_size,
        queue,
        functions,
        activity,
    });

    let mut keeping = JoinSet::new();
    keeping.spawn(Arc::clone(&consumer).keep());
    let mut working = JoinSet::new();
    for _ in 0..settings.receive_calls {
        working.spawn(Arc::clone(&consumer).receive(shutdown.clone()));
    }
    for _ in 0..settings.invocations {
        working.spawn(Arc::clone(&consumer).invoke(done.clone(), shutdown.clone()));
    }
    working.spawn(Arc::clone(&consumer).delete(done_receiver));
    // The deleter ends when the last invoker has dropped its end of the channel.
    drop(done);

    shutdown.cancelled().await;
    if timeout(SHUTDOWN_GRACE, async { while working.join_next().await.is_some() {} })
        .await
        .is_err()
    {
        warn!("{} did not finish in time; its messages come again", consumer.function.name);
    }
    consumer.give_back().await;
    Ok(())
}

/// The queue of an ARN, as soon as SQS tells.
async fn find(sqs: &Client, arn: &str) -> Queue {
    let outage = Outage::of(format!("looking up the queue {arn}"));
    let mut retry = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        match Queue::by_arn(sqs, arn).await {
            Ok(queue) => {
                outage.worked();
                return queue;
            }
            Err(error) => outage.failed(&error),
        }
        sleep(retry.next_delay()).await;
    }
}

struct Consumer {
    queue: Queue,
    functions: Functions,
    function: Function,
    origin: Origin,
    reports_item_failures: bool,
    batch_size: usize,
    visibility: Duration,
    room: Arc<Semaphore>,
    leases: Leases,
    backlog: Backlog,
    receiving: Outage,
    deleting: Outage,
    reaching: Outage,
    activity: Arc<Activity>,
}

impl Consumer {
    async fn receive(self: Arc<Self>, shutdown: CancellationToken) {
        let mut retry = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let room = Arc::clone(&self.room).acquire_many_owned(MAX_ENTRIES as u32);
            // A semaphore that is closed, which this one never is, or the end.
            let Some(Ok(room)) = shutdown.run_until_cancelled(room).await else {
                return;
            };
            // Not cut short at shutdown: see WAIT.
            match self.queue.receive(WAIT, self.visibility).await {
                Ok(messages) => {
                    self.receiving.worked();
                    retry.reset();
                    self.enter(&messages, room);
                }
                Err(error) => {
                    self.receiving.failed(&error);
                    let delay = retry.next_delay();
                    if shutdown.run_until_cancelled(sleep(delay)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    fn enter(&self, messages: &[Message], mut room: OwnedSemaphorePermit) {
        let now = Instant::now();
        let records = messages.iter().filter_map(|message| {
            let record = Record::of(message, &self.origin)?;
            let receipt = message.receipt_handle()?;
            self.leases.enter(&record.message_id, receipt, now, room.split(1)).then_some(record)
        });
        let records: Vec<_> = records.collect();
        if !records.is_empty() {
            self.backlog.add(records);
        }
    }

    async fn invoke(self: Arc<Self>, done: UnboundedSender<String>, shutdown: CancellationToken) {
        while let Some(records) =
            shutdown.run_until_cancelled(self.backlog.take(self.batch_size)).await
        {
            let Some(answer) = self.ask(&records, &shutdown).await else {
                self.backlog.add(records);
                return;
            };
            self.conclude(records, answer, &done);
        }
    }

    /// Invokes the function, again and again if it cannot be reached: then it has not run. None when
    /// `shutdown` comes before it could be reached.
    async fn ask(
        &self,
        records: &[Record],
        shutdown: &CancellationToken,
    ) -> Option<Result<Bytes, InvokeError>> {
        let event = Bytes::from(record::event(records));
        let mut retry = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            match self.functions.invoke(&self.function, event.clone()).await {
                Err(error @ InvokeError::Unreachable { .. }) => {
                    self.reaching.failed(&error);
                    let delay = retry.next_delay();
                    shutdown.run_until_cancelled(sleep(delay)).await?;
                }
                answer => {
                    self.reaching.worked();
                    return Some(answer);
                }
            }
        }
    }

    /// Sends on what is done, and lets go of what failed.
    fn conclude(
        &self,
        records: Vec<Record>,
        answer: Result<Bytes, InvokeError>,
        done: &UnboundedSender<String>,
    ) {
        let ids = records.iter().map(|record| record.message_id.as_str());
        let outcome = match answer {
            Ok(answer) if self.reports_item_failures => Outcome::of(&answer, ids),
            Ok(_) => Outcome::AllBut([].into()),
            Err(error) => Outcome::None(error.to_string()),
        };
        self.activity.invocations.add(1);
        let total = records.len();
        let (done_records, failed): (Vec<_>, Vec<_>) = match &outcome {
            Outcome::None(_) => (Vec::new(), records),
            Outcome::AllBut(failed) => {
                records.into_iter().partition(|record| !failed.contains(&record.message_id))
            }
        };
        if !failed.is_empty() {
            let reason = match &outcome {
                Outcome::None(reason) => reason.as_str(),
                Outcome::AllBut(_) => "reported by the function",
            };
            warn!(
                reason,
                "{}: {} of {total} records failed and come again within {} s",
                self.function.name,
                failed.len(),
                self.visibility.as_secs()
            );
            self.leases.end(failed.iter().map(|record| record.message_id.as_str()));
        }
        self.activity.consumed.add(done_records.len());
        self.activity.failed.add(failed.len());
        for record in done_records {
            // The deleter ends after all invokers, so there is one.
            let _ = done.send(record.message_id);
        }
    }

    /// Deletes what is done, ten at a time, several calls at once.
    async fn delete(self: Arc<Self>, mut done: UnboundedReceiver<String>) {
        let slots = Arc::new(Semaphore::new(DELETE_CALLS));
        let mut calls = JoinSet::new();
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            let mut ids = Vec::with_capacity(MAX_ENTRIES);
            if done.recv_many(&mut ids, MAX_ENTRIES).await == 0 {
                break;
            }
            let deadline = tokio::time::Instant::now() + DELETE_LINGER;
            while ids.len() < MAX_ENTRIES
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
                    self.deleting.worked();
                    for Refused { reason, .. } in refused {
                        debug!(reason, "a message is not deleted and comes again");
                    }
                    break;
                }
                Err(error) => self.deleting.failed(&error),
            }
            sleep(retry.next_delay()).await;
        }
        self.leases.end(ids.iter().map(String::as_str));
    }

    /// Keeps messages hidden for as long as they are held.
    async fn keep(self: Arc<Self>) {
        let mut ticks = interval(self.visibility / 6);
        loop {
            ticks.tick().await;
            for messages in self.leases.expiring(Instant::now()).chunks(MAX_ENTRIES) {
                let receipts: Vec<_> =
                    messages.iter().map(|(_, receipt)| receipt.clone()).collect();
                let now = Instant::now();
                match self.queue.change_visibility(&receipts, self.visibility).await {
                    // A refused one has come back to the queue already; it is worked on all the same.
                    Ok(_) => {
                        for (id, _) in messages {
                            self.leases.extend(id, now);
                        }
                    }
                    Err(error) => {
                        warn!(%error, "messages may come twice: their time is not extended")
                    }
                }
            }
        }
    }

    /// Shows what is still waiting to others at once, instead of after the visibility timeout.
    async fn give_back(&self) {
        let waiting = self.backlog.drain();
        for records in waiting.chunks(MAX_ENTRIES) {
            let receipts = self.leases.end(records.iter().map(|record| record.message_id.as_str()));
            if let Err(error) = self.queue.change_visibility(&receipts, Duration::ZERO).await {
                debug!(%error, "messages come again after their visibility timeout");
                return;
            }
        }
    }
}
