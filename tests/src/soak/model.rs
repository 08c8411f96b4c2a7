//! What must be there in the end: a function of what was said, and of nothing that the platform did.
//!
//! Written from docs/protocol.md alone. It shares no code with the functions.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::story::{
    Boot, Cast, Meaning, Message, Order, Reading, Registration, STRAGGLER, Story, TARGET,
};

/// When it is asked what must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Everything but the stragglers has been handled.
    Told,
    /// Then the watchdog has looked, and the stragglers have come.
    Watched,
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// By device, as in the cast.
    pub(super) devices: Vec<ExpectedDevice>,
    /// What could not be read, by topic and bytes; when it may be said to have come.
    pub(super) quarantine: BTreeMap<(String, Vec<u8>), BTreeSet<Timestamp>>,
}

/// What must be there of a device.
#[derive(Debug, Default)]
pub(super) struct ExpectedDevice {
    pub(super) messages: Vec<ExpectedMessage>,
    /// By time, metric and number.
    pub(super) points: BTreeMap<PointKey, Claimed>,
    pub(super) presence: ExpectedPresence,
    pub(super) fw_version: Option<String>,
    /// Numbers that are missing: when the watchdog looks, and in the end. None: the device does not name
    /// its power-ons, and what it means by a number is guessing.
    pub(super) gaps: Option<(BTreeSet<Range>, BTreeSet<Range>)>,
    /// By order: what its answers allow.
    pub(super) commands: BTreeMap<usize, ExpectedCommand>,
}

/// Numbers from the first to the last one.
pub(super) type Range = (u32, u32);

/// A message in the archive.
#[derive(Debug)]
pub(super) struct ExpectedMessage {
    pub(super) category: &'static str,
    pub(super) topic: String,
    pub(super) payload: Value,
    pub(super) size: usize,
    /// None: it is that of receipt, and so the identity is not said here.
    pub(super) identity: Option<(Timestamp, String)>,
    /// Any of these may have been noted.
    pub(super) received_at: BTreeSet<Timestamp>,
}

/// Which point.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PointKey {
    pub(super) time: Timestamp,
    pub(super) metric: &'static str,
    pub(super) ordinal: usize,
}

/// A point, and by what claim: the envelope's time, then the identity.
#[derive(Clone, Debug)]
pub(super) struct Claimed {
    claim: (Timestamp, String),
    pub(super) value: f64,
    pub(super) unit: Option<&'static str>,
}

/// Whether a device is there.
#[derive(Debug, Default)]
pub(super) struct ExpectedPresence {
    /// None: never heard.
    pub(super) is_there: Option<bool>,
    /// The watchdog says that it is silent.
    pub(super) is_silent: bool,
    /// From and to: of a message that came twice, either receipt may have been the one that counted.
    pub(super) last_seen: Option<(Timestamp, Timestamp)>,
    /// Each time that it went: when it may be said to have gone, and when to have come back (empty: not
    /// at all).
    pub(super) absences: Vec<(BTreeSet<Timestamp>, BTreeSet<Timestamp>)>,
}

/// How a command went.
#[derive(Debug, Default)]
pub(super) struct ExpectedCommand {
    /// Result and words of its answers, one of which must be there; none: it is pending.
    pub(super) answers: Vec<(&'static str, Option<String>)>,
    pub(super) upgrade: Option<(&'static str, Option<f64>)>,
}

/// A message and when it was received.
type Told<'a> = (&'a Message, &'a BTreeSet<Timestamp>);

/// What must be there after a story.
pub(super) fn expected(cast: &Cast, orders: &[Order], story: &Story, when: When) -> Expected {
    let mut receipts: Vec<BTreeSet<Timestamp>> = vec![BTreeSet::new(); story.messages.len()];
    let mut straggles = vec![false; story.messages.len()];
    for receipt in &story.receipts {
        receipts[receipt.message].insert(receipt.at);
        straggles[receipt.message] = receipt.act == STRAGGLER;
    }
    let mut expected = Expected::default();
    for (number, character) in cast.devices.iter().enumerate() {
        let mut device = ExpectedDevice::default();
        let all = story.messages.iter().zip(&receipts).zip(&straggles);
        let all: Vec<(Told<'_>, bool)> = all
            .map(|(told, straggles)| (told, *straggles))
            .filter(|((message, _), _)| message.device == number)
            .collect();
        let in_time = || all.iter().filter(|(_, straggles)| !straggles).map(|(told, _)| *told);
        let of_device: Vec<Told<'_>> = match when {
            When::Told => in_time().collect(),
            When::Watched => all.iter().map(|(told, _)| *told).collect(),
        };
        for (order, _) in orders.iter().enumerate().filter(|(_, order)| order.device == number) {
            device.commands.insert(order, ExpectedCommand::default());
        }
        for (message, receipts) in &of_device {
            match message.meaning {
                Meaning::Nonsense => {
                    let key = (message.topic.clone(), message.payload.clone());
                    expected.quarantine.insert(key, (*receipts).clone());
                }
                Meaning::Wreck => {
                    // There is no telling where it came from.
                    let key = (String::new(), message.payload.clone());
                    expected.quarantine.insert(key, (*receipts).clone());
                }
                _ => device.take(message, receipts),
            }
        }
        device.presence = presence(&of_device);
        if when == When::Watched && character.registration != Registration::Never {
            device.presence.is_silent = device.presence.is_there == Some(true);
            device.presence.is_there = Some(false);
        }
        if character.boot != Boot::Unnamed {
            device.gaps = Some((missing(in_time()), missing(of_device.iter().copied())));
        }
        device.fw_version = latest_firmware(&of_device);
        for command in device.commands.values_mut() {
            let is_new = |(message, _): &(&Message, _)| matches!(&message.meaning, Meaning::Hello { fw_version, .. } if fw_version == TARGET);
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
    fn take(&mut self, message: &Message, receipts: &BTreeSet<Timestamp>) {
        match &message.meaning {
            Meaning::Readings { ts: None, readings } => {
                // Without a time of its own a reading is another one each time that it comes.
                for at in receipts {
                    self.archive(message, "telemetry", None, BTreeSet::from([*at]));
                    // Only receipt tells the two apart, so no other can have this claim.
                    self.measure(*at, String::new(), readings);
                }
            }
            Meaning::Readings { ts: Some(ts), readings } => {
                self.archive(message, "telemetry", Some(*ts), receipts.clone());
                self.measure(*ts, identity(message), readings);
            }
            Meaning::Hello { ts, .. } => {
                self.archive(message, "hello", Some(*ts), receipts.clone())
            }
            Meaning::Status { ts, .. } => {
                self.archive(message, "status", Some(*ts), receipts.clone());
            }
            Meaning::Lifecycle { ts, .. } => {
                self.archive(message, "lifecycle", Some(*ts), receipts.clone());
            }
            Meaning::Ack { ts, order, result, detail } => {
                self.archive(message, "command_ack", Some(*ts), receipts.clone());
                if let Some(command) = order.and_then(|order| self.commands.get_mut(&order)) {
                    command.answers.push((result, detail.clone()));
                }
            }
            Meaning::Upgrade { ts, order, state, progress } => {
                self.archive(message, "ota_status", Some(*ts), receipts.clone());
                if let Some(command) = self.commands.get_mut(order) {
                    let further = (*state, *progress);
                    let is_further = |(state, progress): (&str, Option<f64>)| {
                        (rank(further.0), further.1) > (rank(state), progress)
                    };
                    if command.upgrade.is_none_or(is_further) {
                        command.upgrade = Some(further);
                    }
                }
            }
            Meaning::Nonsense | Meaning::Wreck => {}
        }
    }

    fn archive(
        &mut self,
        message: &Message,
        category: &'static str,
        ts: Option<Timestamp>,
        received_at: BTreeSet<Timestamp>,
    ) {
        self.messages.push(ExpectedMessage {
            category,
            topic: message.topic.clone(),
            payload: json_of(message),
            size: message.payload.len(),
            identity: ts.map(|ts| (ts, identity(message))),
            received_at,
        });
    }

    fn measure(&mut self, envelope: Timestamp, identity: String, readings: &[Reading]) {
        let mut numbers: BTreeMap<(&str, Timestamp), usize> = BTreeMap::new();
        for reading in readings {
            let time = reading.ts.unwrap_or(envelope);
            let number = numbers.entry((reading.metric, time)).or_default();
            let key = PointKey { time, metric: reading.metric, ordinal: *number };
            *number += 1;
            let claimed = Claimed {
                claim: (envelope, identity.clone()),
                value: reading.value,
                unit: reading.unit.or(known_unit(reading.metric)),
            };
            match self.points.get(&key) {
                Some(held) if held.claim >= claimed.claim => {}
                _ => {
                    self.points.insert(key, claimed);
                }
            }
        }
    }

    /// The newest point of each metric by its own time.
    pub(super) fn latest(&self) -> BTreeMap<&'static str, (&PointKey, &Claimed)> {
        // In the order of time and number, so that the last one stays.
        let mut by_number: Vec<_> = self.points.iter().collect();
        by_number.sort_by_key(|(key, _)| (key.time, key.ordinal));
        by_number.into_iter().map(|point| (point.0.metric, point)).collect()
    }
}

/// The unit that the platform knows of a metric by name.
fn known_unit(metric: &str) -> Option<&'static str> {
    (metric == "temperature").then_some("Cel")
}

/// The order of an upgrade's life.
fn rank(state: &str) -> usize {
    let order = ["downloading", "verifying", "applying", "success", "failed"];
    order.iter().position(|s| *s == state).unwrap_or(order.len())
}

/// The first 128 bits of SHA-256 over topic and payload.
fn identity(message: &Message) -> String {
    let mut hash = Sha256::new();
    hash.update(message.topic.as_bytes());
    hash.update([0]);
    hash.update(&message.payload);
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Signals in the order of their receipt.
fn presence(messages: &[Told<'_>]) -> ExpectedPresence {
    let mut signals: Vec<(Timestamp, usize, bool)> = Vec::new();
    let mut seen: Vec<(Timestamp, Timestamp)> = Vec::new();
    for (number, (message, receipts)) in messages.iter().enumerate() {
        let (is_there, is_heard) = match message.meaning {
            // A last will is published when nobody is there, even that of an old connection.
            Meaning::Status { is_there, .. } | Meaning::Lifecycle { is_there, .. } => {
                (is_there, !is_end(message))
            }
            Meaning::Nonsense | Meaning::Wreck => continue,
            _ => (true, true),
        };
        signals.extend(receipts.iter().map(|at| (*at, number, is_there)));
        if is_heard && let (Some(first), Some(last)) = (receipts.first(), receipts.last()) {
            seen.push((*first, *last));
        }
    }
    signals.sort_unstable();
    let mut absences: Vec<(BTreeSet<Timestamp>, BTreeSet<Timestamp>)> = Vec::new();
    let mut was_there = true;
    for (at, _, is_there) in &signals {
        match (was_there, is_there) {
            (true, false) => absences.push((BTreeSet::from([*at]), BTreeSet::new())),
            (_, false) => {
                if let Some((gone, _)) = absences.last_mut() {
                    gone.insert(*at);
                }
            }
            (_, true) => {
                if let Some((_, back)) = absences.last_mut() {
                    back.insert(*at);
                }
            }
        }
        was_there = *is_there;
    }
    ExpectedPresence {
        is_there: signals.last().map(|(_, _, is_there)| *is_there),
        is_silent: false,
        last_seen: seen.iter().copied().reduce(|(a, b), (first, last)| (a.max(first), b.max(last))),
        absences,
    }
}

/// Whether a message is about the end of a connection, whichever.
fn is_end(message: &Message) -> bool {
    let payload = json_of(message);
    payload["status"] == "offline" || payload["eventType"] == "disconnected"
}

fn json_of(message: &Message) -> Value {
    serde_json::from_slice(&message.payload).unwrap_or_default()
}

/// The numbers between those that came, power-on by power-on. `messages` in the order in which they were
/// said.
fn missing<'a>(messages: impl Iterator<Item = Told<'a>>) -> BTreeSet<Range> {
    let mut missing = BTreeSet::new();
    let mut last: Option<(Value, u32)> = None;
    for (message, _) in messages {
        if matches!(message.meaning, Meaning::Nonsense | Meaning::Wreck) {
            continue;
        }
        let mut payload = json_of(message);
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

/// Of the heartbeat that came last.
fn latest_firmware(messages: &[Told<'_>]) -> Option<String> {
    let hellos = messages.iter().filter_map(|(message, receipts)| match &message.meaning {
        Meaning::Hello { fw_version, .. } => Some((receipts.last()?, fw_version)),
        _ => None,
    });
    hellos.max().map(|(_, fw_version)| fw_version.clone())
}
