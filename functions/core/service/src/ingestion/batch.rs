//! The distinct messages of a batch.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use meter_domain::id::{DeviceId, MessageId};
use meter_domain::message::{self, Message, ParseError, ReceivedMessage};

use super::Delivery;

/// The distinct messages of a batch.
pub(super) struct Batch {
    pub(super) messages: BTreeMap<MessageId, Message>,
    /// Further deliveries of the messages. They are not stored, but each is activity of the device:
    /// a last will has the same bytes every time.
    pub(super) redeliveries: Vec<Message>,
    pub(super) rejected: BTreeMap<MessageId, (ReceivedMessage, ParseError)>,
    /// The indexes of the deliveries of each message.
    pub(super) deliveries: HashMap<MessageId, Vec<usize>>,
}

impl Batch {
    pub(super) fn parse(deliveries: &[Delivery]) -> Self {
        let mut batch = Self {
            messages: BTreeMap::new(),
            redeliveries: Vec::new(),
            rejected: BTreeMap::new(),
            deliveries: HashMap::new(),
        };
        for (index, delivery) in deliveries.iter().enumerate() {
            let received = &delivery.received;
            let parsed = match &delivery.parse_error {
                Some(parse_error) => Err(parse_error.clone()),
                None => message::parse(received),
            };
            let message_id = match parsed {
                Ok(message) => batch.add(message),
                Err(reason) => {
                    let message_id = MessageId::of(&received.topic, &received.payload);
                    batch.rejected.entry(message_id).or_insert_with(|| (received.clone(), reason));
                    message_id
                }
            };
            batch.deliveries.entry(message_id).or_default().push(index);
        }
        batch
    }

    fn add(&mut self, mut message: Message) -> MessageId {
        let message_id = message.message_id;
        match self.messages.entry(message_id) {
            Entry::Vacant(vacant) => {
                vacant.insert(message);
            }
            Entry::Occupied(mut stored) => {
                // The earliest receipt of a message is stored, in any order of the deliveries.
                if message.received.received_at < stored.get().received.received_at {
                    std::mem::swap(stored.get_mut(), &mut message);
                }
                self.redeliveries.push(message);
            }
        }
        message_id
    }

    pub(super) fn devices(&self) -> Vec<DeviceId> {
        let ids: BTreeSet<_> = self.messages.values().map(|m| &m.device_id).collect();
        ids.into_iter().cloned().collect()
    }
}
