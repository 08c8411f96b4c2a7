//! The expected data after a scenario: a function of the published messages only.
//!
//! Follows docs/protocol.md and shares no code with the functions.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::scenario::{
    BootIdKind, Fleet, LATE_PHASE, Message, MessageContent, PlannedCommand, Registration, Sample,
    Scenario, TARGET_FW_VERSION,
};

/// The time of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VerifyStage {
    /// After all messages but the late ones.
    AfterIngest,
    /// After the watchdog and the late messages.
    AfterWatchdog,
}

/// The expected data of a fleet.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// The expected data of each device, in the order of the fleet.
    pub(super) devices: Vec<ExpectedDevice>,
    /// Quarantined messages by topic and payload, with the possible times of receipt.
    pub(super) quarantine: BTreeMap<(String, Vec<u8>), BTreeSet<Timestamp>>,
}

/// The expected data of a device.
#[derive(Debug, Default)]
pub(super) struct ExpectedDevice {
    pub(super) messages: Vec<ExpectedMessage>,
    /// Points by time, metric and sample index.
    pub(super) points: BTreeMap<PointKey, ExpectedPoint>,
    pub(super) presence: ExpectedPresence,
    pub(super) fw_version: Option<String>,
    /// Missing sequence numbers: at the run of the watchdog, and after the late messages. `None`
    /// for a device without a boot id, whose gaps are undetermined.
    pub(super) gaps: Option<(BTreeSet<Range>, BTreeSet<Range>)>,
    /// Commands by index.
    pub(super) commands: BTreeMap<usize, ExpectedCommand>,
}

/// The first and the last of consecutive sequence numbers.
pub(super) type Range = (u32, u32);

/// A message in the archive.
#[derive(Debug)]
pub(super) struct ExpectedMessage {
    pub(super) category: &'static str,
    pub(super) topic: String,
    pub(super) payload: Value,
    pub(super) size: usize,
    /// Time and message id. `None` for a message without a time, whose id depends on its receipt.
    pub(super) message_id: Option<(Timestamp, String)>,
    /// The possible times of receipt.
    pub(super) received_at: BTreeSet<Timestamp>,
}

/// The key of a point.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PointKey {
    pub(super) time: Timestamp,
    pub(super) metric: &'static str,
    pub(super) sample_index: usize,
}

/// A point and its precedence: the time of the envelope, then the message id.
#[derive(Clone, Debug)]
pub(super) struct ExpectedPoint {
    precedence: (Timestamp, String),
    pub(super) value: f64,
    pub(super) unit: Option<&'static str>,
}

/// The expected presence of a device.
#[derive(Debug, Default)]
pub(super) struct ExpectedPresence {
    /// Whether the last signal was online; `None` without a message.
    pub(super) is_online: Option<bool>,
    /// Whether the watchdog reports the device as silent.
    pub(super) is_silent: bool,
    /// The range of the last activity: either receipt of a repeated message may count.
    pub(super) last_seen: Option<(Timestamp, Timestamp)>,
    /// For each offline period, the possible times of its start and its end; no end for an open
    /// period.
    pub(super) offline_periods: Vec<(BTreeSet<Timestamp>, BTreeSet<Timestamp>)>,
}

/// The expected state of a command.
#[derive(Debug, Default)]
pub(super) struct ExpectedCommand {
    /// Result and detail of the acknowledgements, one of which is recorded; the command is pending
    /// without any.
    pub(super) acks: Vec<(&'static str, Option<String>)>,
    pub(super) upgrade: Option<(&'static str, Option<f64>)>,
}

/// A message and its times of receipt.
type ReceivedMessage<'a> = (&'a Message, &'a BTreeSet<Timestamp>);

/// The expected data after a scenario.
pub(super) fn expected(
    fleet: &Fleet,
    planned_commands: &[PlannedCommand],
    scenario: &Scenario,
    stage: VerifyStage,
) -> Expected {
    let mut receipts: Vec<BTreeSet<Timestamp>> = vec![BTreeSet::new(); scenario.messages.len()];
    let mut is_late = vec![false; scenario.messages.len()];
    for receipt in &scenario.receipts {
        receipts[receipt.message].insert(receipt.at);
        is_late[receipt.message] = receipt.phase == LATE_PHASE;
    }
    let mut expected = Expected::default();
    for (number, profile) in fleet.devices.iter().enumerate() {
        let mut device = ExpectedDevice::default();
        let all = scenario.messages.iter().zip(&receipts).zip(&is_late);
        let all: Vec<(ReceivedMessage<'_>, bool)> = all
            .map(|(received, is_late)| (received, *is_late))
            .filter(|((message, _), _)| message.device == number)
            .collect();
        let in_time = || all.iter().filter(|(_, is_late)| !is_late).map(|(received, _)| *received);
        let of_device: Vec<ReceivedMessage<'_>> = match stage {
            VerifyStage::AfterIngest => in_time().collect(),
            VerifyStage::AfterWatchdog => all.iter().map(|(received, _)| *received).collect(),
        };
        for (planned_command, _) in planned_commands
            .iter()
            .enumerate()
            .filter(|(_, planned_command)| planned_command.device == number)
        {
            device.commands.insert(planned_command, ExpectedCommand::default());
        }
        for (message, receipts) in &of_device {
            match message.content {
                MessageContent::InvalidPayload => {
                    let key = (message.topic.clone(), message.payload.clone());
                    expected.quarantine.insert(key, (*receipts).clone());
                }
                MessageContent::InvalidEnvelope => {
                    // The topic is unknown.
                    let key = (String::new(), message.payload.clone());
                    expected.quarantine.insert(key, (*receipts).clone());
                }
                _ => device.apply(message, receipts),
            }
        }
        device.presence = expected_presence(&of_device);
        if stage == VerifyStage::AfterWatchdog && profile.registration != Registration::Never {
            device.presence.is_silent = device.presence.is_online == Some(true);
            device.presence.is_online = Some(false);
        }
        if profile.boot != BootIdKind::Absent {
            device.gaps = Some((missing_seqs(in_time()), missing_seqs(of_device.iter().copied())));
        }
        device.fw_version = latest_firmware(&of_device);
        for command in device.commands.values_mut() {
            let is_new = |(message, _): &(&Message, _)| matches!(&message.content, MessageContent::Hello { fw_version, .. } if fw_version == TARGET_FW_VERSION);
            if command.upgrade.is_some_and(|(state, _)| state == "success")
                && of_device.iter().any(is_new)
            {
                command.upgrade = Some(("completed", Some(100.0)));
            }
        }
        expected.devices.push(device);
    }
    expected
}

impl ExpectedDevice {
    fn apply(&mut self, message: &Message, receipts: &BTreeSet<Timestamp>) {
        match &message.content {
            MessageContent::Telemetry { ts: None, samples } => {
                // Without a time in the message, each receipt is a message of its own.
                for at in receipts {
                    self.expect_archived(message, "telemetry", None, BTreeSet::from([*at]));
                    // The time of receipt is unique, so the message id does not matter.
                    self.expect_points(*at, String::new(), samples);
                }
            }
            MessageContent::Telemetry { ts: Some(ts), samples } => {
                self.expect_archived(message, "telemetry", Some(*ts), receipts.clone());
                self.expect_points(*ts, message_id(message), samples);
            }
            MessageContent::Hello { ts, .. } => {
                self.expect_archived(message, "hello", Some(*ts), receipts.clone())
            }
            MessageContent::Status { ts, .. } => {
                self.expect_archived(message, "status", Some(*ts), receipts.clone());
            }
            MessageContent::Lifecycle { ts, .. } => {
                self.expect_archived(message, "lifecycle", Some(*ts), receipts.clone());
            }
            MessageContent::Ack { ts, planned_command, result, detail } => {
                self.expect_archived(message, "command_ack", Some(*ts), receipts.clone());
                if let Some(command) = planned_command
                    .and_then(|planned_command| self.commands.get_mut(&planned_command))
                {
                    command.acks.push((result, detail.clone()));
                }
            }
            MessageContent::Upgrade { ts, planned_command, state, progress } => {
                self.expect_archived(message, "ota_status", Some(*ts), receipts.clone());
                if let Some(command) = self.commands.get_mut(planned_command) {
                    let later = (*state, *progress);
                    let is_later = |(state, progress): (&str, Option<f64>)| {
                        (upgrade_rank(later.0), later.1) > (upgrade_rank(state), progress)
                    };
                    if command.upgrade.is_none_or(is_later) {
                        command.upgrade = Some(later);
                    }
                }
            }
            MessageContent::InvalidPayload | MessageContent::InvalidEnvelope => {}
        }
    }

    fn expect_archived(
        &mut self,
        message: &Message,
        category: &'static str,
        ts: Option<Timestamp>,
        received_at: BTreeSet<Timestamp>,
    ) {
        self.messages.push(ExpectedMessage {
            category,
            topic: message.topic.clone(),
            payload: parse_payload(message),
            size: message.payload.len(),
            message_id: ts.map(|ts| (ts, message_id(message))),
            received_at,
        });
    }

    fn expect_points(&mut self, envelope: Timestamp, message_id: String, samples: &[Sample]) {
        let mut numbers: BTreeMap<(&str, Timestamp), usize> = BTreeMap::new();
        for sample in samples {
            let time = sample.ts.unwrap_or(envelope);
            let number = numbers.entry((sample.metric, time)).or_default();
            let key = PointKey { time, metric: sample.metric, sample_index: *number };
            *number += 1;
            let point = ExpectedPoint {
                precedence: (envelope, message_id.clone()),
                value: sample.value,
                unit: sample.unit.or(known_unit(sample.metric)),
            };
            match self.points.get(&key) {
                Some(held) if held.precedence >= point.precedence => {}
                _ => {
                    self.points.insert(key, point);
                }
            }
        }
    }

    /// The point of each metric with the latest time.
    pub(super) fn latest(&self) -> BTreeMap<&'static str, (&PointKey, &ExpectedPoint)> {
        // Sorted by time and sample index, so that the last one remains.
        let mut sorted: Vec<_> = self.points.iter().collect();
        sorted.sort_by_key(|(key, _)| (key.time, key.sample_index));
        sorted.into_iter().map(|point| (point.0.metric, point)).collect()
    }
}

/// The unit of a known metric.
fn known_unit(metric: &str) -> Option<&'static str> {
    (metric == "temperature").then_some("Cel")
}

/// The rank of an upgrade state.
fn upgrade_rank(state: &str) -> usize {
    let ranking = ["downloading", "verifying", "applying", "success", "failed"];
    ranking.iter().position(|s| *s == state).unwrap_or(ranking.len())
}

/// The first 128 bits of the SHA-256 hash of topic and payload.
fn message_id(message: &Message) -> String {
    let mut hash = Sha256::new();
    hash.update(message.topic.as_bytes());
    hash.update([0]);
    hash.update(&message.payload);
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The presence that follows from the signals in the order of their receipt.
fn expected_presence(messages: &[ReceivedMessage<'_>]) -> ExpectedPresence {
    let mut signals: Vec<(Timestamp, usize, bool)> = Vec::new();
    let mut seen: Vec<(Timestamp, Timestamp)> = Vec::new();
    for (number, (message, receipts)) in messages.iter().enumerate() {
        let (is_online, is_activity) = match message.content {
            // The broker publishes a last will, so it is no activity of the device.
            MessageContent::Status { is_online, .. }
            | MessageContent::Lifecycle { is_online, .. } => (is_online, !is_disconnect(message)),
            MessageContent::InvalidPayload | MessageContent::InvalidEnvelope => continue,
            _ => (true, true),
        };
        signals.extend(receipts.iter().map(|at| (*at, number, is_online)));
        if is_activity && let (Some(first), Some(last)) = (receipts.first(), receipts.last()) {
            seen.push((*first, *last));
        }
    }
    signals.sort_unstable();
    let mut offline_periods: Vec<(BTreeSet<Timestamp>, BTreeSet<Timestamp>)> = Vec::new();
    let mut was_online = true;
    for (at, _, is_online) in &signals {
        match (was_online, is_online) {
            (true, false) => offline_periods.push((BTreeSet::from([*at]), BTreeSet::new())),
            (_, false) => {
                if let Some((start, _)) = offline_periods.last_mut() {
                    start.insert(*at);
                }
            }
            (_, true) => {
                if let Some((_, end)) = offline_periods.last_mut() {
                    end.insert(*at);
                }
            }
        }
        was_online = *is_online;
    }
    ExpectedPresence {
        is_online: signals.last().map(|(_, _, is_online)| *is_online),
        is_silent: false,
        last_seen: seen.iter().copied().reduce(|(a, b), (first, last)| (a.max(first), b.max(last))),
        offline_periods,
    }
}

/// Whether a message reports the end of a connection.
fn is_disconnect(message: &Message) -> bool {
    let payload = parse_payload(message);
    payload["status"] == "offline" || payload["eventType"] == "disconnected"
}

fn parse_payload(message: &Message) -> Value {
    serde_json::from_slice(&message.payload).unwrap_or_default()
}

/// The missing sequence numbers of each boot. `messages` are in the order of their publication.
fn missing_seqs<'a>(messages: impl Iterator<Item = ReceivedMessage<'a>>) -> BTreeSet<Range> {
    let mut missing = BTreeSet::new();
    let mut last: Option<(Value, u32)> = None;
    for (message, _) in messages {
        if matches!(
            message.content,
            MessageContent::InvalidPayload | MessageContent::InvalidEnvelope
        ) {
            continue;
        }
        let mut payload = parse_payload(message);
        let seq = payload["seq"].as_u64().and_then(|seq| u32::try_from(seq).ok());
        let Some(seq) = seq else { continue };
        let boot = payload["boot"].take();
        if let Some((of, before)) = &last
            && *of == boot
            && seq != before.wrapping_add(1)
        {
            missing.insert((before.wrapping_add(1), seq.wrapping_sub(1)));
        }
        last = Some((boot, seq));
    }
    missing
}

/// The firmware version in the `hello` that was received last.
fn latest_firmware(messages: &[ReceivedMessage<'_>]) -> Option<String> {
    let hellos = messages.iter().filter_map(|(message, receipts)| match &message.content {
        MessageContent::Hello { fw_version, .. } => Some((receipts.last()?, fw_version)),
        _ => None,
    });
    hellos.max().map(|(_, fw_version)| fw_version.clone())
}
