//! Batches of messages that fit into one call to the queue.

use std::{collections::VecDeque, time::Duration};

use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{Instant, timeout_at},
};

use super::window::Position;
use crate::queue::MAX_BATCH_ENTRIES;

/// The maximum size of a call in bytes. SQS accepted 256 KiB until August 2025 and accepts 1 MiB
/// since then.
const MAX_BYTES: usize = 250_000;

/// The time for which an incomplete batch waits for further messages: short in comparison with the
/// permitted latency of a message, and long in comparison with the gap between messages under load.
const LINGER: Duration = Duration::from_millis(5);

/// A message to be sent to the queue.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) body: String,
    /// The position among the messages to acknowledge; `None` with QoS 0.
    pub(super) position: Option<Position>,
}

/// Forms batches of the messages of a channel.
pub(super) struct Batcher {
    messages: UnboundedReceiver<Message>,
    /// Messages that were received and are in no batch yet.
    buffer: VecDeque<Message>,
}

impl Batcher {
    pub(super) fn new(messages: UnboundedReceiver<Message>) -> Self {
        Self { messages, buffer: VecDeque::new() }
    }

    /// Returns the next batch, after a short wait if it is not full; `None` when the channel is
    /// closed and empty.
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

/// Returns how many of the first messages fit into one call, at least one.
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

    /// Returns the sizes of the messages of each batch.
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
    async fn batch_contains_at_most_ten_messages() {
        let formed = batches(&[1; 23]).await;
        assert_eq!(formed, [vec![1; 10], vec![1; 10], vec![1; 3]]);
    }

    #[tokio::test]
    async fn batch_is_limited_in_bytes_and_keeps_the_order() {
        let formed = batches(&[100_000, 150_000, 1, 249_999, 250_000, 2]).await;
        assert_eq!(formed, [vec![100_000, 150_000], vec![1, 249_999], vec![250_000], vec![2]]);
    }

    #[tokio::test]
    async fn single_message_is_sent_alone() {
        let (sender, receiver) = unbounded_channel();
        let mut batches = Batcher::new(receiver);
        sender.send(message(3)).unwrap();
        assert_eq!(batches.next().await.unwrap().len(), 1);
        drop(sender);
        assert!(batches.next().await.is_none());
    }
}
