//! Sending a batch until the queue has all of it.

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

/// A message that needs no sending any more.
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

/// The queue, as far as sending goes.
pub(crate) trait SendBatch: Send + Sync + 'static {
    /// Sends these bodies in one call; returns the refused ones.
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

/// Sends batches; one for all that are in flight.
pub(super) struct Sender<Q> {
    queue: Q,
    connection_start: ConnectionStart,
    outage: Outage,
    settled: UnboundedSender<Vec<Settled>>,
    retry: Backoff,
    counters: Arc<Counters>,
}

impl<Q: SendBatch> Sender<Q> {
    /// A sender that waits up to five seconds between attempts.
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

    /// Tries until each message is accepted, or is about to come again: then the broker still has it.
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
                Ok(refused) => {
                    let (accepted, again) = partition(batch, &refused);
                    self.counters.queued.add(accepted.len());
                    self.settle(accepted);
                    match refused.first() {
                        Some(refused) => self.outage.record_failure(&refused.reason),
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
        // Nobody listens when the edge has already given up waiting at its end; the broker keeps the
        // messages then.
        let _ = self.settled.send(settled);
    }
}

/// Parts a batch into what was accepted and what was refused.
fn partition(batch: Vec<Message>, refused: &[FailedEntry]) -> (Vec<Message>, Vec<Message>) {
    let (mut accepted, mut again) = (Vec::new(), Vec::new());
    for (index, message) in batch.into_iter().enumerate() {
        if refused.iter().any(|refused| refused.index == index) {
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

    /// A queue that follows a script: for each call the positions to refuse, or a failure of the call.
    /// Once the script is over it accepts everything.
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
                Some(Some(refused)) => Ok(refused
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
    async fn a_batch_is_sent_again_until_the_queue_takes_it() {
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
    async fn only_what_was_refused_is_sent_again() {
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
    async fn what_a_lost_connection_brought_is_left_to_the_next() {
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
