//! The messages of one device in a batch, and the state that they result in.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use meter_domain::id::{DeviceId, MessageId};
use meter_domain::message::{Body, Message};
use meter_domain::rule::RuleSet;
use meter_domain::state::{DevicePolicy, DeviceState};
use meter_store::StateWrite;

/// Commands that the messages of one device in one batch can acknowledge, at most. An
/// acknowledgement is in the outbox of the state until it is recorded, with texts of up to 2 KB,
/// which JSON can escape to six times their size; a DynamoDB item is at most 400 KB. Further
/// messages are redelivered.
const MAX_ACKNOWLEDGED_COMMANDS: usize = 25;

/// A device acknowledges more than [`MAX_ACKNOWLEDGED_COMMANDS`] commands in one batch.
#[derive(Debug, thiserror::Error)]
#[error("more than {MAX_ACKNOWLEDGED_COMMANDS} commands of one device acknowledged in one batch")]
pub(super) struct TooManyAcknowledgements;

/// Removes the messages that acknowledge too many commands, and returns their ids.
pub(super) fn take_excess_acknowledgements(messages: &mut Vec<&Message>) -> Vec<MessageId> {
    let mut acknowledged = HashSet::new();
    let mut excess = Vec::new();
    messages.retain(|message| {
        let (Body::CommandAck { cmd_id, .. } | Body::OtaStatus { cmd_id, .. }) = &message.body
        else {
            return true;
        };
        let fits = acknowledged.contains(cmd_id) || acknowledged.len() < MAX_ACKNOWLEDGED_COMMANDS;
        if fits {
            acknowledged.insert(*cmd_id);
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
    /// See [`Batch::redeliveries`](super::batch::Batch::redeliveries).
    redeliveries: Vec<&'a Message>,
    /// The alert rules that the messages were evaluated with.
    rules: Arc<RuleSet>,
}

impl<'a> DeviceBatch<'a> {
    /// Applies the messages of a device to its state; none: the device has no state yet.
    pub(super) fn compute(
        state: Option<&DeviceState>,
        id: &DeviceId,
        (messages, redeliveries): (Vec<&'a Message>, Vec<&'a Message>),
        rules: &Arc<RuleSet>,
        policy: &DevicePolicy,
    ) -> Self {
        let before = state.cloned().unwrap_or_else(|| DeviceState::new(id.clone()));
        let (after, rules) = (before.clone(), Arc::clone(rules));
        let mut batch = Self { after, before, messages, redeliveries, rules };
        batch.apply(policy);
        batch
    }

    /// Excludes messages that were not stored, and computes the state again if there are any.
    pub(super) fn exclude(
        mut self,
        failed: &BTreeSet<MessageId>,
        policy: &DevicePolicy,
    ) -> Recomputed<'a> {
        if !self.messages.iter().any(|m| failed.contains(&m.message_id)) {
            return Recomputed::SameMetrics(self);
        }
        self.messages.retain(|m| !failed.contains(&m.message_id));
        self.redeliveries.retain(|m| !failed.contains(&m.message_id));
        let previous = std::mem::replace(&mut self.after, self.before.clone());
        self.apply(policy);
        self.compared_with(&previous)
    }

    /// Applies the messages to the states that other processes have written meanwhile.
    pub(super) fn rebase(
        self,
        states: &HashMap<DeviceId, DeviceState>,
        rules: &Arc<RuleSet>,
        policy: &DevicePolicy,
    ) -> Recomputed<'a> {
        let Self { before, after: previous, messages, redeliveries, .. } = self;
        let (id, received) = (&before.device_id, (messages, redeliveries));
        Self::compute(states.get(id), id, received, rules, policy).compared_with(&previous)
    }

    fn compared_with(self, previous: &DeviceState) -> Recomputed<'a> {
        match self.after.latest.keys().eq(previous.latest.keys()) {
            true => Recomputed::SameMetrics(self),
            false => Recomputed::OtherMetrics(self),
        }
    }

    fn apply(&mut self, policy: &DevicePolicy) {
        let mut received = [self.messages.as_slice(), self.redeliveries.as_slice()].concat();
        received.sort_by_key(|m| (m.received.received_at, m.ts, m.seq, m.message_id));
        self.after.apply(&received, policy);
        self.after.evaluate(&received, &self.before.latest, &self.rules, policy);
    }

    pub(super) fn message_ids(&self) -> impl Iterator<Item = MessageId> {
        self.messages.iter().map(|m| m.message_id)
    }

    pub(super) fn state_write(&self) -> StateWrite {
        let connection_before = self.before.presence.connection;
        StateWrite { state: self.after.clone(), connection_before }
    }
}

/// A device whose state was computed again. The metrics that the state admits decide which samples
/// the segments of its messages contain.
pub(super) enum Recomputed<'a> {
    /// The segments are stored as the new state requires.
    SameMetrics(DeviceBatch<'a>),
    /// The segments must be written again: another message had the last place for a metric.
    OtherMetrics(DeviceBatch<'a>),
}
