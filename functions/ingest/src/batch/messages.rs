//! The messages of a batch, each once, and the work that they are for each device.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use meter_domain::id::{DeviceId, MessageId};
use meter_domain::message::{self, Body, Message, ParseError, ReceivedMessage};
use meter_domain::rule::RuleSet;
use meter_domain::state::{DevicePolicy, DeviceState};
use meter_store::StateWrite;

use crate::event::Delivery;

/// The messages of a batch, each once.
pub(super) struct Batch {
    pub(super) messages: BTreeMap<MessageId, Message>,
    /// The further receipts of readable messages. They store nothing, but each is a signal of presence:
    /// a last will is the same bytes every time.
    pub(super) redeliveries: Vec<Message>,
    pub(super) rejected: BTreeMap<MessageId, (ReceivedMessage, ParseError)>,
    /// Which deliveries are of which message.
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
            let read = match &delivery.parse_error {
                Some(parse_error) => Err(parse_error.clone()),
                None => message::parse(received),
            };
            let message_id = match read {
                Ok(mut message) => {
                    let message_id = message.message_id;
                    match batch.messages.entry(message_id) {
                        Entry::Vacant(vacant) => {
                            vacant.insert(message);
                        }
                        Entry::Occupied(mut held) => {
                            // Of two receipts of a message the first is stored, whichever comes first.
                            if message.received.received_at < held.get().received.received_at {
                                std::mem::swap(held.get_mut(), &mut message);
                            }
                            batch.redeliveries.push(message);
                        }
                    }
                    message_id
                }
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

    pub(super) fn devices(&self) -> Vec<DeviceId> {
        let ids: BTreeSet<_> = self.messages.values().map(|m| &m.device_id).collect();
        ids.into_iter().cloned().collect()
    }
}

/// Commands that the messages of one device in one batch may answer. Each answer waits in the device's
/// state until it is carried out, with texts of up to 2 KB that JSON may escape sixfold, and an item of
/// DynamoDB ends at 400 KB. Answers to more commands come again.
const MAX_ACKNOWLEDGED_COMMANDS: usize = 25;

/// Answers to too many commands in one batch.
#[derive(Debug, thiserror::Error)]
#[error("answers to more than {MAX_ACKNOWLEDGED_COMMANDS} commands of one device in one batch")]
pub(super) struct TooManyAcknowledgements;

/// Takes out the messages that answer too many commands.
pub(super) fn take_excess_acknowledgements(messages: &mut Vec<&Message>) -> Vec<MessageId> {
    let mut answered = HashSet::new();
    let mut excess = Vec::new();
    messages.retain(|message| {
        let (Body::CommandAck { cmd_id, .. } | Body::OtaStatus { cmd_id, .. }) = &message.body
        else {
            return true;
        };
        let fits = answered.contains(cmd_id) || answered.len() < MAX_ACKNOWLEDGED_COMMANDS;
        if fits {
            answered.insert(*cmd_id);
        } else {
            excess.push(message.message_id);
        }
        fits
    });
    excess
}

/// The messages of one device, and its state before and after them.
pub(super) struct DeviceBatch<'a> {
    pub(super) before: DeviceState,
    pub(super) after: DeviceState,
    pub(super) messages: Vec<&'a Message>,
    /// See [`Batch::redeliveries`].
    pub(super) redeliveries: Vec<&'a Message>,
    pub(super) segments_written: bool,
    /// The alert rules that it was decided by.
    pub(super) set: Arc<RuleSet>,
}

impl<'a> DeviceBatch<'a> {
    /// What the messages of a device make of its state.
    pub(super) fn compute(
        state: Option<&DeviceState>,
        id: &DeviceId,
        (messages, redeliveries): (Vec<&'a Message>, Vec<&'a Message>),
        set: &Arc<RuleSet>,
        policy: &DevicePolicy,
    ) -> Self {
        let before = state.cloned().unwrap_or_else(|| DeviceState::new(id.clone()));
        let after = before.clone();
        let set = Arc::clone(set);
        let mut work = Self { after, before, messages, redeliveries, segments_written: false, set };
        work.apply(policy);
        work
    }

    /// Decides without the messages that failed meanwhile. What was written of the others may then not be what should
    /// have been: one that failed may have had the last place for a metric.
    pub(super) fn exclude(&mut self, failed: &BTreeSet<MessageId>, policy: &DevicePolicy) {
        if self.messages.iter().any(|m| failed.contains(&m.message_id)) {
            self.messages.retain(|m| !failed.contains(&m.message_id));
            self.redeliveries.retain(|m| !failed.contains(&m.message_id));
            let with_them = std::mem::replace(&mut self.after, self.before.clone());
            self.apply(policy);
            self.segments_written &= self.has_same_metrics(&with_them);
        }
    }

    /// Whether the parts that are written by one decision are those of the other.
    pub(super) fn has_same_metrics(&self, decided: &DeviceState) -> bool {
        self.after.latest.keys().eq(decided.latest.keys())
    }

    fn apply(&mut self, policy: &DevicePolicy) {
        let mut received = [self.messages.as_slice(), self.redeliveries.as_slice()].concat();
        received.sort_by_key(|m| (m.received.received_at, m.ts, m.seq, m.message_id));
        self.after.apply(&received, policy);
        self.after.evaluate(&received, &self.before.latest, &self.set, policy);
    }

    pub(super) fn message_ids(&self) -> impl Iterator<Item = MessageId> {
        self.messages.iter().map(|m| m.message_id)
    }

    pub(super) fn write(&self) -> StateWrite {
        let connection_before = self.before.presence.connection;
        StateWrite { state: self.after.clone(), connection_before }
    }
}
