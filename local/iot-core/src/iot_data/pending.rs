//! The assignment of the broker's acknowledgements to published messages.

use std::collections::HashMap;

/// Messages that the broker has not acknowledged, by packet id.
#[derive(Debug)]
pub(super) struct PendingAcks<T> {
    by_id: HashMap<u16, T>,
    last_id: u16,
}

impl<T> PendingAcks<T> {
    pub(super) fn new() -> Self {
        Self { by_id: HashMap::new(), last_id: 0 }
    }

    /// Adds a message; returns its packet id, which is unique among those pending. Fewer than
    /// 65,535 messages may be pending.
    pub(super) fn insert(&mut self, publish: T) -> u16 {
        loop {
            // 0 is not a valid packet id ([MQTT-2.2.1-3]).
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.by_id.contains_key(&self.last_id) {
                self.by_id.insert(self.last_id, publish);
                return self.last_id;
            }
        }
    }

    /// Removes and returns the message that the broker acknowledged.
    pub(super) fn remove(&mut self, packet_id: u16) -> Option<T> {
        self.by_id.remove(&packet_id)
    }

    /// Removes all messages, after the connection was lost.
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
    fn acknowledgements_match_their_messages_in_any_order() {
        let mut pending = PendingAcks::new();
        let [a, b] = ["a", "b"].map(|publish| pending.insert(publish));
        assert_eq!(pending.remove(b), Some("b"));
        assert_eq!(pending.remove(a), Some("a"));
        assert_eq!(pending.remove(a), None);
    }

    #[test]
    fn packet_ids_of_pending_messages_are_unique() {
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
    fn lost_connection_removes_pending_messages() {
        let mut pending = PendingAcks::new();
        let id = pending.insert("a");
        assert_eq!(pending.drain().collect::<Vec<_>>(), ["a"]);
        assert_eq!(pending.remove(id), None);
        assert_eq!(pending.len(), 0);
    }
}
