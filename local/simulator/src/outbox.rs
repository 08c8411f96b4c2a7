//! The send buffer of a device: bounded, ordered, and kept while there is no connection.

use std::collections::VecDeque;

use crate::message::{Kind, Message};

/// A message in the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedMessage {
    /// The message.
    pub message: Message,
    /// Whether it was published before without an acknowledgement.
    pub sent_before: bool,
}

/// Messages that wait for a connection, oldest first.
#[derive(Debug, Clone)]
pub struct Outbox {
    capacity: usize,
    queue: VecDeque<QueuedMessage>,
}

impl Outbox {
    /// An empty buffer for `capacity` messages, at least one.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), queue: VecDeque::new() }
    }

    /// Adds a message, and returns the message that a full buffer evicts.
    ///
    /// That is the oldest telemetry: acknowledgements are few, and the platform waits for them.
    pub fn push(&mut self, message: Message) -> Option<Message> {
        let evicted = if self.queue.len() >= self.capacity {
            let oldest = self.queue.iter().position(|q| q.message.kind == Kind::Telemetry);
            self.queue.remove(oldest.unwrap_or(0)).map(|queued| queued.message)
        } else {
            None
        };
        self.queue.push_back(QueuedMessage { message, sent_before: false });
        evicted
    }

    /// Removes the oldest message, to publish it.
    pub fn pop(&mut self) -> Option<QueuedMessage> {
        self.queue.pop_front()
    }

    /// Puts unacknowledged messages back in their order. They may exceed the capacity, since they
    /// are not new.
    pub fn requeue(&mut self, unacknowledged: Vec<Message>) {
        for message in unacknowledged.into_iter().rev() {
            self.queue.push_front(QueuedMessage { message, sent_before: true });
        }
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The usage, 0 to 100, rounded down: 100 only if the buffer is full.
    pub fn usage_pct(&self) -> u8 {
        let pct = (self.queue.len() * 100 / self.capacity).min(100);
        u8::try_from(pct).unwrap_or(100)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn message(kind: Kind, n: usize) -> Message {
        Message { kind, payload: Bytes::from(n.to_string()) }
    }

    fn drain(outbox: &mut Outbox) -> Vec<usize> {
        std::iter::from_fn(|| outbox.pop())
            .map(|queued| std::str::from_utf8(&queued.message.payload).unwrap().parse().unwrap())
            .collect()
    }

    #[test]
    fn full_buffer_evicts_oldest_telemetry_and_keeps_acknowledgements() {
        let mut outbox = Outbox::new(3);
        outbox.push(message(Kind::CommandAck, 0));
        outbox.push(message(Kind::Telemetry, 1));
        outbox.push(message(Kind::Telemetry, 2));
        assert_eq!(outbox.usage_pct(), 100);
        let evicted = outbox.push(message(Kind::Telemetry, 3));
        assert_eq!(evicted, Some(message(Kind::Telemetry, 1)));
        assert_eq!(drain(&mut outbox), [0, 2, 3]);
    }

    #[test]
    fn usage_is_100_only_when_buffer_is_full() {
        let mut outbox = Outbox::new(3);
        let mut usage = Vec::new();
        for n in 0..4 {
            usage.push(outbox.usage_pct());
            outbox.push(message(Kind::Hello, n));
        }
        assert_eq!(usage, [0, 33, 66, 100]);
    }

    proptest! {
        #[test]
        fn order_is_kept_across_lost_connections(
            total in 1..60_usize,
            losses in proptest::collection::vec((1..20_usize, 0..20_usize), 0..10),
        ) {
            let mut outbox = Outbox::new(100);
            for n in 0..total {
                outbox.push(message(Kind::Telemetry, n));
            }
            let mut acknowledged = Vec::new();
            for (hand_over, acks) in losses {
                let mut in_flight: Vec<_> =
                    std::iter::from_fn(|| outbox.pop()).take(hand_over).map(|q| q.message).collect();
                let acked = in_flight.drain(..acks.min(in_flight.len()));
                acknowledged.extend(acked);
                outbox.requeue(in_flight);
            }
            acknowledged.extend(std::iter::from_fn(|| outbox.pop()).map(|q| q.message));
            let all: Vec<_> = (0..total).map(|n| message(Kind::Telemetry, n)).collect();
            prop_assert_eq!(acknowledged, all);
        }
    }
}
