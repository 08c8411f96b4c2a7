//! The messages of a batch, each once, and the work that they are for each device.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use meter_domain::id::{DeviceId, Mid};
use meter_domain::message::{self, Body, Message, Received, Unreadable};
use meter_domain::rule::RuleSet;
use meter_domain::state::{DeviceState, Rules};
use meter_store::StateWrite;

use crate::event::Delivery;

/// The messages of a batch, each once.
pub(super) struct Batch {
    pub(super) readable: BTreeMap<Mid, Message>,
    /// The further receipts of readable messages. They store nothing, but each is a signal of presence:
    /// a last will is the same bytes every time.
    pub(super) echoes: Vec<Message>,
    pub(super) unreadable: BTreeMap<Mid, (Received, Unreadable)>,
    /// Which deliveries are of which message.
    pub(super) deliveries: HashMap<Mid, Vec<usize>>,
}

impl Batch {
    pub(super) fn read(deliveries: &[Delivery]) -> Self {
        let mut batch = Self {
            readable: BTreeMap::new(),
            echoes: Vec::new(),
            unreadable: BTreeMap::new(),
            deliveries: HashMap::new(),
        };
        for (index, delivery) in deliveries.iter().enumerate() {
            let received = &delivery.received;
            let read = match &delivery.damage {
                Some(damage) => Err(damage.clone()),
                None => message::parse(received),
            };
            let mid = match read {
                Ok(mut message) => {
                    let mid = message.mid;
                    match batch.readable.entry(mid) {
                        Entry::Vacant(vacant) => {
                            vacant.insert(message);
                        }
                        Entry::Occupied(mut held) => {
                            // Of two receipts of a message the first is stored, whichever comes first.
                            if message.received.received_at < held.get().received.received_at {
                                std::mem::swap(held.get_mut(), &mut message);
                            }
                            batch.echoes.push(message);
                        }
                    }
                    mid
                }
                Err(reason) => {
                    let mid = Mid::of(&received.topic, &received.payload);
                    batch.unreadable.entry(mid).or_insert_with(|| (received.clone(), reason));
                    mid
                }
            };
            batch.deliveries.entry(mid).or_default().push(index);
        }
        batch
    }

    pub(super) fn devices(&self) -> Vec<DeviceId> {
        let ids: BTreeSet<_> = self.readable.values().map(|m| &m.device_id).collect();
        ids.into_iter().cloned().collect()
    }
}

/// Commands that the messages of one device in one batch may answer. Each answer waits in the device's
/// state until it is carried out, with texts of up to 2 KB that JSON may escape sixfold, and an item of
/// DynamoDB ends at 400 KB. Answers to more commands come again.
const MAX_ANSWERED: usize = 25;

/// Answers to too many commands in one batch.
#[derive(Debug, thiserror::Error)]
#[error("answers to more than {MAX_ANSWERED} commands of one device in one batch")]
pub(super) struct TooManyAnswered;

/// Takes out the messages that answer too many commands.
pub(super) fn take_excess(messages: &mut Vec<&Message>) -> Vec<Mid> {
    let mut answered = HashSet::new();
    let mut excess = Vec::new();
    messages.retain(|message| {
        let (Body::CommandAck { cmd_id, .. } | Body::OtaStatus { cmd_id, .. }) = &message.body
        else {
            return true;
        };
        let fits = answered.contains(cmd_id) || answered.len() < MAX_ANSWERED;
        if fits {
            answered.insert(*cmd_id);
        } else {
            excess.push(message.mid);
        }
        fits
    });
    excess
}

/// The messages of one device, and its state before and after them.
pub(super) struct DeviceWork<'a> {
    pub(super) before: DeviceState,
    pub(super) after: DeviceState,
    pub(super) messages: Vec<&'a Message>,
    /// See [`Batch::echoes`].
    pub(super) echoes: Vec<&'a Message>,
    pub(super) parts_written: bool,
    /// The alert rules that it was decided by.
    pub(super) set: Arc<RuleSet>,
}

impl<'a> DeviceWork<'a> {
    /// What the messages of a device make of its state.
    pub(super) fn decide(
        state: Option<&DeviceState>,
        id: &DeviceId,
        (messages, echoes): (Vec<&'a Message>, Vec<&'a Message>),
        set: &Arc<RuleSet>,
        rules: &Rules,
    ) -> Self {
        let before = state.cloned().unwrap_or_else(|| DeviceState::new(id.clone()));
        let after = before.clone();
        let set = Arc::clone(set);
        let mut work = Self { after, before, messages, echoes, parts_written: false, set };
        work.apply(rules);
        work
    }

    /// Decides without the messages that failed meanwhile. What was written of the others may then not be what should
    /// have been: one that failed may have had the last place for a metric.
    pub(super) fn leave_out(&mut self, failed: &BTreeSet<Mid>, rules: &Rules) {
        if self.messages.iter().any(|m| failed.contains(&m.mid)) {
            self.messages.retain(|m| !failed.contains(&m.mid));
            self.echoes.retain(|m| !failed.contains(&m.mid));
            let with_them = std::mem::replace(&mut self.after, self.before.clone());
            self.apply(rules);
            self.parts_written &= self.has_metrics_of(&with_them);
        }
    }

    /// Whether the parts that are written by one decision are those of the other.
    pub(super) fn has_metrics_of(&self, decided: &DeviceState) -> bool {
        self.after.latest.keys().eq(decided.latest.keys())
    }

    fn apply(&mut self, rules: &Rules) {
        let mut received = [self.messages.as_slice(), self.echoes.as_slice()].concat();
        received.sort_by_key(|m| (m.received.received_at, m.ts, m.seq, m.mid));
        self.after.apply(&received, rules);
        self.after.evaluate(&received, &self.before.latest, &self.set, rules);
    }

    pub(super) fn mids(&self) -> impl Iterator<Item = Mid> {
        self.messages.iter().map(|m| m.mid)
    }

    pub(super) fn write(&self) -> StateWrite {
        let connection_before = self.before.presence.connection;
        StateWrite { state: self.after.clone(), connection_before }
    }
}
