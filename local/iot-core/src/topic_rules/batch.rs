//! Messages in groups that one call to the queue can take.

use std::{collections::VecDeque, time::Duration};

use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Instant, timeout_at},
};

use super::window::Position;
use crate::queue::MAX_BATCH_ENTRIES;

/// The most bytes of one call. SQS took 256 KiB for years, and takes 1 MiB since August 2025; this works
/// with both.
const MAX_BYTES: usize = 250_000;

/// How long an incomplete batch waits for company. Small against the second that a message may take from
/// device to answer, large against the gap between two messages under load.
const LINGER: Duration = Duration::from_millis(5);

/// A message on its way to the queue.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) body: String,
    /// Its place among those that the broker waits to see acknowledged; none at QoS 0.
    pub(super) position: Option<Position>,
}

/// Takes messages from a channel and forms batches.
pub(super) struct Batcher {
    messages: UnboundedReceiver<Message>,
    /// Taken from the channel and not yet in a batch.
    buffer: VecDeque<Message>,
}

impl Batcher {
    pub(super) fn new(messages: UnboundedReceiver<Message>) -> Self {
        Self { messages, buffer: VecDeque::new() }
    }

    /// The next batch: what is there, after a short wait for more if that is not enough for a full one.
    /// None when the channel is closed and empty.
    pub(super) async fn next(&mut self) -> Option<Vec<Message>> {
        if self.buffer.is_empty() {
            self.buffer.push_back(self.messages.recv().await?);
        }
        let deadline = Instant::now() + LINGER;
        while batch_len(&self.buffer) == self.buffer.len() && self.buffer.len() < MAX_BATCH_ENTRIES
        {
            match timeout_at(deadline, self.messages.recv()).await {
                Ok(Some(message)) => self.buffer.push_back(message),
                Ok(None) | Err(_) => break,
            }
        }
        let length = batch_len(&self.buffer);
        Some(self.buffer.drain(..length).collect())
    }
}

/// How many of the first messages fit into one call; at least one.
fn batch_len(messages: &VecDeque<Message>) -> usize {
    let mut bytes = 0;
    messages
        .iter()
        .take(MAX_BATCH_ENTRIES)
        .enumerate()
        .take_while(|(index, message)| {
            bytes += message.body.len();
            *index == 0 || bytes <= MAX_BYTES
        })
        .count()
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    fn message(bytes: usize) -> Message {
        Message { body: "x".repeat(bytes), position: None }
    }

    /// The sizes of the messages of each batch that these messages are sent in.
    async fn batches(sizes: &[usize]) -> Vec<Vec<usize>> {
        let (sender, receiver) = unbounded_channel();
        for size in sizes {
            sender.send(message(*size)).unwrap();
        }
        drop(sender);
        let mut batches = Batcher::new(receiver);
        let mut formed = Vec::new();
        while let Some(batch) = batches.next().await {
            formed.push(batch.iter().map(|message| message.body.len()).collect());
        }
        formed
    }

    #[tokio::test]
    async fn a_batch_holds_ten_messages_at_most() {
        let formed = batches(&[1; 23]).await;
        assert_eq!(formed, [vec![1; 10], vec![1; 10], vec![1; 3]]);
    }

    #[tokio::test]
    async fn a_batch_stays_within_the_bytes_of_a_call_and_in_order() {
        let formed = batches(&[100_000, 150_000, 1, 249_999, 250_000, 2]).await;
        assert_eq!(formed, [vec![100_000, 150_000], vec![1, 249_999], vec![250_000], vec![2]]);
    }

    #[tokio::test]
    async fn a_message_alone_is_sent_alone() {
        let (sender, receiver) = unbounded_channel();
        let mut batches = Batcher::new(receiver);
        sender.send(message(3)).unwrap();
        assert_eq!(batches.next().await.unwrap().len(), 1);
        drop(sender);
        assert!(batches.next().await.is_none());
    }
}
