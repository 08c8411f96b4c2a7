//! Sends a batch until the queue has accepted all of it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc::UnboundedSender, time::sleep};

use super::{
    batch::Message,
    window::{ConnectionStart, Position},
};
use crate::{
    backoff::Backoff,
    counters::Counters,
    outage::Outage,
    queue::{FailedEntry, Queue, QueueError},
};

/// A message that was accepted or given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) position: Option<Position>,
    pub(super) bytes: usize,
}

impl From<&Message> for Settled {
    fn from(message: &Message) -> Self {
        Self { position: message.position, bytes: message.body.len() }
    }
}

/// The operation of a queue that a sender needs.
pub(crate) trait SendBatch: Send + Sync + 'static {
    /// Sends these bodies in one call; returns those that were rejected.
    fn send(
        &self,
        bodies: &[&str],
    ) -> impl Future<Output = Result<Vec<FailedEntry>, QueueError>> + Send;
}

impl SendBatch for Queue {
    async fn send(&self, bodies: &[&str]) -> Result<Vec<FailedEntry>, QueueError> {
        Queue::send(self, bodies).await
    }
}

/// Sends batches, and is shared by all that are in flight.
pub(super) struct Sender<Q> {
    queue: Q,
    connection_start: ConnectionStart,
    outage: Outage,
    settled: UnboundedSender<Vec<Settled>>,
    retry: Backoff,
    counters: Arc<Counters>,
}

impl<Q: SendBatch> Sender<Q> {
    /// Creates a sender with a delay of at most five seconds between attempts.
    pub(super) fn new(
        queue: Q,
        connection_start: ConnectionStart,
        settled: UnboundedSender<Vec<Settled>>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            queue,
            connection_start,
            outage: Outage::new("sending to the queue"),
            settled,
            retry: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            counters,
        }
    }

    /// Retries until each message is accepted, or belongs to a lost connection, since the broker
    /// sends it again then.
    pub(super) async fn send(&self, mut batch: Vec<Message>) {
        let mut retry = self.retry.clone();
        loop {
            let past = |message: &mut Message| {
                message.position.is_some_and(|position| self.connection_start.is_stale(position))
            };
            self.settle(batch.extract_if(.., past).collect());
            if batch.is_empty() {
                return;
            }
            let bodies: Vec<&str> = batch.iter().map(|message| message.body.as_str()).collect();
            match self.queue.send(&bodies).await {
                Ok(rejected) => {
                    let (accepted, again) = partition(batch, &rejected);
                    self.counters.queued.add(accepted.len());
                    self.settle(accepted);
                    match rejected.first() {
                        Some(rejected) => self.outage.record_failure(&rejected.reason),
                        None => self.outage.record_success(),
                    }
                    batch = again;
                }
                Err(error) => self.outage.record_failure(&error),
            }
            if batch.is_empty() {
                return;
            }
            sleep(retry.next_delay()).await;
        }
    }

    fn settle(&self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let settled = messages.iter().map(Settled::from).collect();
        // The receiver may have been dropped at shutdown; the broker keeps the messages then.
        let _ = self.settled.send(settled);
    }
}

/// Splits a batch into accepted and rejected messages.
fn partition(batch: Vec<Message>, rejected: &[FailedEntry]) -> (Vec<Message>, Vec<Message>) {
    let (mut accepted, mut again) = (Vec::new(), Vec::new());
    for (index, message) in batch.into_iter().enumerate() {
        if rejected.iter().any(|rejected| rejected.index == index) {
            again.push(message);
        } else {
            accepted.push(message);
        }
    }
    (accepted, again)
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Mutex};

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::topic_rules::window::AckWindow;

    /// A queue that rejects the positions of a script, call by call, or fails a call. After the
    /// script it accepts everything.
    #[derive(Default)]
    struct ScriptedQueue {
        script: Mutex<VecDeque<Option<Vec<usize>>>>,
        calls: Mutex<Vec<Vec<String>>>,
    }

    impl SendBatch for Arc<ScriptedQueue> {
        async fn send(&self, bodies: &[&str]) -> Result<Vec<FailedEntry>, QueueError> {
            let bodies = bodies.iter().map(|&body| body.to_owned()).collect();
            self.calls.lock().unwrap().push(bodies);
            match self.script.lock().unwrap().pop_front() {
                None => Ok(Vec::new()),
                Some(None) => Err(QueueError::TimedOut { operation: "test" }),
                Some(Some(rejected)) => Ok(rejected
                    .into_iter()
                    .map(|index| FailedEntry { index, reason: "InternalError".to_owned() })
                    .collect()),
            }
        }
    }

    fn queue(script: impl IntoIterator<Item = Option<Vec<usize>>>) -> Arc<ScriptedQueue> {
        let queue = ScriptedQueue::default();
        *queue.script.lock().unwrap() = script.into_iter().collect();
        Arc::new(queue)
    }

    fn sender(
        queue: &Arc<ScriptedQueue>,
        window: &AckWindow,
    ) -> (Sender<Arc<ScriptedQueue>>, UnboundedReceiver<Vec<Settled>>) {
        let (settled, receiver) = unbounded_channel();
        let mut sender =
            Sender::new(Arc::clone(queue), window.connection_start(), settled, Arc::default());
        sender.retry = Backoff::new(Duration::ZERO, Duration::ZERO);
        (sender, receiver)
    }

    fn batch(window: &mut AckWindow, bodies: &[&str]) -> Vec<Message> {
        bodies
            .iter()
            .zip(1..)
            .map(|(body, packet_id)| Message {
                body: (*body).to_owned(),
                position: Some(window.receive(packet_id)),
            })
            .collect()
    }

    fn settled(batch: &[Message]) -> Vec<Settled> {
        batch.iter().map(Settled::from).collect()
    }

    #[tokio::test]
    async fn batch_is_sent_until_the_queue_accepts_it() {
        let mut window = AckWindow::default();
        let queue = queue([None, None, None]);
        let (sender, mut received) = sender(&queue, &window);
        let batch = batch(&mut window, &["a", "b"]);
        let all = settled(&batch);
        sender.send(batch).await;
        assert_eq!(*queue.calls.lock().unwrap(), [["a", "b"]; 4]);
        assert_eq!(received.try_recv().unwrap(), all);
        assert!(received.try_recv().is_err());
    }

    #[tokio::test]
    async fn only_rejected_messages_are_sent_again() {
        let mut window = AckWindow::default();
        let queue = queue([Some(vec![1, 2]), Some(vec![0])]);
        let (sender, mut received) = sender(&queue, &window);
        let batch = batch(&mut window, &["a", "b", "c", "d"]);
        let all = settled(&batch);
        sender.send(batch).await;
        assert_eq!(
            *queue.calls.lock().unwrap(),
            [vec!["a", "b", "c", "d"], vec!["b", "c"], vec!["b"]]
        );
        assert_eq!(received.try_recv().unwrap(), [all[0], all[3]]);
        assert_eq!(received.try_recv().unwrap(), [all[2]]);
        assert_eq!(received.try_recv().unwrap(), [all[1]]);
    }

    #[tokio::test]
    async fn messages_of_a_lost_connection_are_not_sent_again() {
        let mut window = AckWindow::default();
        let queue = queue([]);
        let (sender, mut received) = sender(&queue, &window);
        let mut old = batch(&mut window, &["old"]);
        window.reset();
        let new = batch(&mut window, &["new"]);
        let expected = [settled(&old), settled(&new)];
        old.extend(new);
        sender.send(old).await;
        assert_eq!(*queue.calls.lock().unwrap(), [["new"]]);
        assert_eq!(received.try_recv().unwrap(), expected[0]);
        assert_eq!(received.try_recv().unwrap(), expected[1]);
    }
}
