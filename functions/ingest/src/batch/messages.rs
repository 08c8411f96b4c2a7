//! The messages of a batch, each once, and the work that they are for each device.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use meter_core::id::{DeviceId, Mid};
use meter_core::message::{self, Message, Received, Unreadable};
use meter_core::state::{DeviceState, Rules};
use meter_core::store::StateWrite;

use crate::event::Delivery;

/// The messages of a batch, each once.
pub(super) struct Batch {
    pub(super) readable: BTreeMap<Mid, Message>,
    pub(super) unreadable: BTreeMap<Mid, (Received, Unreadable)>,
    /// Which deliveries are of which message.
    pub(super) deliveries: HashMap<Mid, Vec<usize>>,
}

impl Batch {
    pub(super) fn read(deliveries: &[Delivery]) -> Self {
        let mut batch = Self {
            readable: BTreeMap::new(),
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
                Ok(message) => {
                    let mid = message.mid;
                    let held = batch.readable.entry(mid).or_insert_with(|| message.clone());
                    // Of two receipts of a message the first counts, whichever is handled first.
                    if message.received.received_at < held.received.received_at {
                        *held = message;
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

/// The messages of one device, and its state before and after them.
pub(super) struct DeviceWork<'a> {
    pub(super) before: DeviceState,
    pub(super) after: DeviceState,
    /// In the order of receipt.
    pub(super) messages: Vec<&'a Message>,
    pub(super) parts_written: bool,
}

impl<'a> DeviceWork<'a> {
    /// What the messages of a device make of its state.
    pub(super) fn decide(
        state: Option<&DeviceState>,
        id: &DeviceId,
        mut messages: Vec<&'a Message>,
        rules: &Rules,
    ) -> Self {
        let before = state.cloned().unwrap_or_else(|| DeviceState::new(id.clone()));
        messages.sort_by_key(|m| (m.received.received_at, m.ts, m.seq, m.mid));
        let mut work = Self { after: before.clone(), before, messages, parts_written: false };
        work.apply(rules);
        work
    }

    /// Decides without the messages that failed meanwhile.
    pub(super) fn leave_out(&mut self, failed: &BTreeSet<Mid>, rules: &Rules) {
        if self.messages.iter().any(|m| failed.contains(&m.mid)) {
            self.messages.retain(|m| !failed.contains(&m.mid));
            self.after = self.before.clone();
            self.apply(rules);
        }
    }

    fn apply(&mut self, rules: &Rules) {
        self.after.apply(&self.messages, rules);
    }

    pub(super) fn mids(&self) -> impl Iterator<Item = Mid> {
        self.messages.iter().map(|m| m.mid)
    }

    pub(super) fn write(&self) -> StateWrite {
        let connection_before = self.before.presence.connection;
        StateWrite { state: self.after.clone(), connection_before }
    }
}
