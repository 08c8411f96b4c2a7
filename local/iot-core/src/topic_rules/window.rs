//! The messages of a connection that can be acknowledged to the broker.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The number of a message in order of receipt, over all connections of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position(u64);

/// The messages of the current connection that are not acknowledged.
///
/// They are acknowledged in order of receipt, independently of the order of acceptance, as MQTT
/// requires ([MQTT-4.6.0-2]).
///
/// [`AckWindow::reset`] removes the messages of a lost connection, because the broker sends them
/// again. An acknowledgement of an old message would use a packet id that now belongs to another
/// one.
#[derive(Debug, Default)]
pub(super) struct AckWindow {
    waiting: VecDeque<Slot>,
    /// The position of the first slot.
    front: u64,
    connection_start: ConnectionStart,
}

#[derive(Debug)]
struct Slot {
    packet_id: u16,
    completed: bool,
}

/// The first position of the current connection, to recognize messages that the broker sends again.
#[derive(Debug, Clone, Default)]
pub(super) struct ConnectionStart(Arc<AtomicU64>);

impl ConnectionStart {
    /// Returns whether the connection of a message was lost.
    pub(super) fn is_stale(&self, position: Position) -> bool {
        position.0 < self.0.load(Ordering::Relaxed)
    }
}

impl AckWindow {
    /// Adds a message; returns its position.
    pub(super) fn receive(&mut self, packet_id: u16) -> Position {
        let position = Position(self.front + self.waiting.len() as u64);
        self.waiting.push_back(Slot { packet_id, completed: false });
        position
    }

    /// Marks a message as ready to be acknowledged. Has no effect for a message of an earlier
    /// connection.
    pub(super) fn complete(&mut self, position: Position) {
        let slot = position
            .0
            .checked_sub(self.front)
            .and_then(|offset| self.waiting.get_mut(usize::try_from(offset).ok()?));
        if let Some(slot) = slot {
            slot.completed = true;
        }
    }

    /// Returns the next packet id to acknowledge, if the oldest message is ready.
    pub(super) fn next_ack(&mut self) -> Option<u16> {
        let slot = self.waiting.pop_front_if(|slot| slot.completed)?;
        self.front += 1;
        Some(slot.packet_id)
    }

    /// Removes all messages after the connection was lost.
    pub(super) fn reset(&mut self) {
        self.front += self.waiting.len() as u64;
        self.waiting.clear();
        self.connection_start.0.store(self.front, Ordering::Relaxed);
    }

    pub(super) fn connection_start(&self) -> ConnectionStart {
        self.connection_start.clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn acks(window: &mut AckWindow) -> Vec<u16> {
        std::iter::from_fn(|| window.next_ack()).collect()
    }

    #[test]
    fn acknowledgements_are_returned_in_order_of_receipt() {
        let mut window = AckWindow::default();
        let [first, second, third] = [7, 8, 9].map(|id| window.receive(id));
        window.complete(third);
        window.complete(second);
        assert!(acks(&mut window).is_empty());
        window.complete(first);
        assert_eq!(acks(&mut window), [7, 8, 9]);
    }

    #[test]
    fn message_of_a_lost_connection_is_not_acknowledged() {
        let mut window = AckWindow::default();
        let connection_start = window.connection_start();
        let old = window.receive(1);
        assert!(!connection_start.is_stale(old));

        window.reset();
        assert!(connection_start.is_stale(old));
        let new = window.receive(1);
        window.complete(old);
        assert!(acks(&mut window).is_empty());

        assert!(!connection_start.is_stale(new));
        window.complete(new);
        assert_eq!(acks(&mut window), [1]);
    }

    #[test]
    fn repeated_completion_acknowledges_once() {
        let mut window = AckWindow::default();
        let position = window.receive(5);
        window.complete(position);
        assert_eq!(acks(&mut window), [5]);
        window.complete(position);
        assert!(acks(&mut window).is_empty());
        window.receive(6);
        window.complete(position);
        assert!(acks(&mut window).is_empty());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Receive,
        Accept(prop::sample::Index),
        Acknowledge,
        Reset,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Receive),
            4 => any::<prop::sample::Index>().prop_map(Step::Accept),
            2 => Just(Step::Acknowledge),
            1 => Just(Step::Reset),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// Packet ids increase, so that each acknowledgement identifies its message.
        #[test]
        fn completed_messages_of_the_connection_are_acknowledged_once_in_order(
            steps in steps()
        ) {
            let mut window = AckWindow::default();
            let mut places = Vec::new();
            let mut accepted = std::collections::HashSet::new();
            let mut connection_began_at = 0;
            let mut last = None;
            for step in steps {
                match step {
                    Step::Receive => places.push(window.receive(places.len() as u16)),
                    Step::Accept(_) if places.is_empty() => {}
                    Step::Accept(index) => {
                        let index = index.index(places.len());
                        window.complete(places[index]);
                        accepted.insert(index as u16);
                    }
                    Step::Acknowledge => for id in acks(&mut window) {
                        prop_assert!(accepted.contains(&id));
                        prop_assert!(id >= connection_began_at);
                        prop_assert!(last.is_none_or(|last| id > last));
                        last = Some(id);
                    },
                    Step::Reset => {
                        window.reset();
                        connection_began_at = places.len() as u16;
                    }
                }
            }
            for position in places.split_off(connection_began_at as usize) {
                window.complete(position);
            }
            acks(&mut window);
            prop_assert!(window.waiting.is_empty());
        }
    }
}
