//! Which publish an acknowledgement of the broker belongs to.

use std::collections::{HashMap, VecDeque};

/// Publishes between being handed to the MQTT client and the broker's PUBACK.
///
/// The client assigns packet ids when it writes, in the order in which it was handed the messages, and
/// tells each with an event; that is the only link between a message and its id.
#[derive(Debug)]
pub(super) struct Pending<T> {
    /// Handed over and not yet written.
    unsent: VecDeque<T>,
    /// Written and not yet acknowledged, by packet id.
    sent: HashMap<u16, T>,
}

impl<T> Pending<T> {
    pub(super) fn new() -> Self {
        Self { unsent: VecDeque::new(), sent: HashMap::new() }
    }

    /// A message was handed to the client.
    pub(super) fn submitted(&mut self, publish: T) {
        self.unsent.push_back(publish);
    }

    /// The client wrote a message. At QoS 0 (packet id 0) it is finished by that and is returned.
    pub(super) fn written(&mut self, packet_id: u16) -> Option<T> {
        let publish = self.unsent.pop_front()?;
        if packet_id == 0 {
            return Some(publish);
        }
        self.sent.insert(packet_id, publish);
        None
    }

    /// The broker acknowledged a message.
    pub(super) fn acknowledged(&mut self, packet_id: u16) -> Option<T> {
        self.sent.remove(&packet_id)
    }

    pub(super) fn len(&self) -> usize {
        self.unsent.len() + self.sent.len()
    }

    /// The connection is gone: nothing will be acknowledged any more.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = T> {
        let sent: Vec<_> = self.sent.drain().map(|(_, publish)| publish).collect();
        self.unsent.drain(..).chain(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_finds_its_message_in_any_order() {
        let mut pending = Pending::new();
        pending.submitted("a");
        pending.submitted("b");
        assert_eq!(pending.written(1), None);
        assert_eq!(pending.written(2), None);
        assert_eq!(pending.acknowledged(2), Some("b"));
        assert_eq!(pending.acknowledged(1), Some("a"));
        assert_eq!(pending.acknowledged(1), None);
    }

    #[test]
    fn at_qos_0_a_message_is_finished_when_it_is_written() {
        let mut pending = Pending::new();
        for publish in ["qos 1", "qos 0", "qos 1 again"] {
            pending.submitted(publish);
        }
        assert_eq!(pending.written(1), None);
        assert_eq!(pending.written(0), Some("qos 0"));
        assert_eq!(pending.written(2), None);
        assert_eq!(pending.acknowledged(2), Some("qos 1 again"));
    }

    #[test]
    fn a_lost_connection_abandons_what_was_written_and_what_was_not() {
        let mut pending = Pending::new();
        pending.submitted("written");
        pending.written(1);
        pending.submitted("unwritten");
        let mut abandoned: Vec<_> = pending.abandon().collect();
        abandoned.sort_unstable();
        assert_eq!(abandoned, ["unwritten", "written"]);
        assert_eq!(pending.acknowledged(1), None);

        pending.submitted("next");
        pending.written(1);
        assert_eq!(pending.acknowledged(1), Some("next"));
    }
}
