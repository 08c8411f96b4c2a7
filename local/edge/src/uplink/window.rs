//! Which messages of a connection can be acknowledged to the broker.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// A message's place in the order of receipt, over all connections since the edge started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u64);

/// What was received over the current connection and is not yet acknowledged.
///
/// Acknowledgements go out in the order of receipt, whatever order the queue accepted in: MQTT asks for
/// it ([MQTT-4.6.0-2]), and it keeps the packet ids in use close together.
///
/// A connection that is lost takes its messages along: the broker sends them again over the next one.
/// An acknowledgement for the old one would name a packet id that may belong to another message now, so
/// it is forgotten here, by [`AckWindow::reset`], and nowhere else.
#[derive(Debug, Default)]
pub(super) struct AckWindow {
    waiting: VecDeque<Slot>,
    /// Place of the first slot.
    front: u64,
    horizon: Horizon,
}

#[derive(Debug)]
struct Slot {
    packet_id: u16,
    accepted: bool,
}

/// Where the current connection begins, for those who would otherwise go on working on messages that the
/// broker sends again anyway.
#[derive(Debug, Clone, Default)]
pub(super) struct Horizon(Arc<AtomicU64>);

impl Horizon {
    /// Whether the connection that brought this message is gone.
    pub(super) fn is_past(&self, place: Place) -> bool {
        place.0 < self.0.load(Ordering::Relaxed)
    }
}

impl AckWindow {
    /// Enters a message, and returns the place to settle it by.
    pub(super) fn receive(&mut self, packet_id: u16) -> Place {
        let place = Place(self.front + self.waiting.len() as u64);
        self.waiting.push_back(Slot { packet_id, accepted: false });
        place
    }

    /// Notes that a message needs nothing any more but its acknowledgement. Without effect if it came
    /// over an earlier connection.
    pub(super) fn accept(&mut self, place: Place) {
        let slot = place
            .0
            .checked_sub(self.front)
            .and_then(|offset| self.waiting.get_mut(usize::try_from(offset).ok()?));
        if let Some(slot) = slot {
            slot.accepted = true;
        }
    }

    /// The packet id to acknowledge next, if the oldest message is accepted.
    pub(super) fn next_ack(&mut self) -> Option<u16> {
        let slot = self.waiting.pop_front_if(|slot| slot.accepted)?;
        self.front += 1;
        Some(slot.packet_id)
    }

    /// Forgets everything: the connection is gone.
    pub(super) fn reset(&mut self) {
        self.front += self.waiting.len() as u64;
        self.waiting.clear();
        self.horizon.0.store(self.front, Ordering::Relaxed);
    }

    pub(super) fn horizon(&self) -> Horizon {
        self.horizon.clone()
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
    fn messages_are_acknowledged_in_the_order_of_receipt() {
        let mut window = AckWindow::default();
        let [first, second, third] = [7, 8, 9].map(|id| window.receive(id));
        window.accept(third);
        window.accept(second);
        assert!(acks(&mut window).is_empty());
        window.accept(first);
        assert_eq!(acks(&mut window), [7, 8, 9]);
    }

    #[test]
    fn what_a_lost_connection_brought_is_not_acknowledged_over_the_next() {
        let mut window = AckWindow::default();
        let horizon = window.horizon();
        let old = window.receive(1);
        assert!(!horizon.is_past(old));

        window.reset();
        assert!(horizon.is_past(old));
        let new = window.receive(1);
        window.accept(old);
        assert!(acks(&mut window).is_empty());

        assert!(!horizon.is_past(new));
        window.accept(new);
        assert_eq!(acks(&mut window), [1]);
    }

    #[test]
    fn accepting_twice_acknowledges_once() {
        let mut window = AckWindow::default();
        let place = window.receive(5);
        window.accept(place);
        assert_eq!(acks(&mut window), [5]);
        window.accept(place);
        assert!(acks(&mut window).is_empty());
        window.receive(6);
        window.accept(place);
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
        /// Packet ids count up here, so that each acknowledgement tells which message it is for.
        #[test]
        fn only_accepted_messages_of_this_connection_are_acknowledged_each_once_in_order(
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
                        window.accept(places[index]);
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
            for place in places.split_off(connection_began_at as usize) {
                window.accept(place);
            }
            acks(&mut window);
            prop_assert!(window.waiting.is_empty());
        }
    }
}
