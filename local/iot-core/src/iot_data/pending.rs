//! Which publish an acknowledgement of the broker belongs to.

use std::collections::HashMap;

/// Publishes that the broker has not acknowledged, by packet id.
#[derive(Debug)]
pub(super) struct PendingAcks<T> {
    by_id: HashMap<u16, T>,
    last_id: u16,
}

impl<T> PendingAcks<T> {
    pub(super) fn new() -> Self {
        Self { by_id: HashMap::new(), last_id: 0 }
    }

    /// Enters a publish and returns the packet id to send it with, which no other one has. There must be
    /// a free one: fewer than 65,535 are pending.
    pub(super) fn insert(&mut self, publish: T) -> u16 {
        loop {
            // 0 is no packet id ([MQTT-2.2.1-3]).
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.by_id.contains_key(&self.last_id) {
                self.by_id.insert(self.last_id, publish);
                return self.last_id;
            }
        }
    }

    /// The publish that the broker acknowledged.
    pub(super) fn remove(&mut self, packet_id: u16) -> Option<T> {
        self.by_id.remove(&packet_id)
    }

    /// All of them: nothing will be acknowledged any more, as the connection is gone.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> {
        self.by_id.drain().map(|(_, publish)| publish)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_finds_its_message_in_any_order() {
        let mut pending = PendingAcks::new();
        let [a, b] = ["a", "b"].map(|publish| pending.insert(publish));
        assert_eq!(pending.remove(b), Some("b"));
        assert_eq!(pending.remove(a), Some("a"));
        assert_eq!(pending.remove(a), None);
    }

    #[test]
    fn no_two_messages_have_one_id_however_many_come() {
        let mut pending = PendingAcks::new();
        let slow = pending.insert("slow");
        for _ in 0..200_000 {
            let id = pending.insert("fast");
            assert!(id != 0 && id != slow);
            assert_eq!(pending.remove(id), Some("fast"));
        }
        assert_eq!(pending.remove(slow), Some("slow"));
    }

    #[test]
    fn a_lost_connection_abandons_what_is_pending() {
        let mut pending = PendingAcks::new();
        let id = pending.insert("a");
        assert_eq!(pending.drain().collect::<Vec<_>>(), ["a"]);
        assert_eq!(pending.remove(id), None);
        assert_eq!(pending.len(), 0);
    }
}
