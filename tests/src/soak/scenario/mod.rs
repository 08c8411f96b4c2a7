//! What the devices of a seed say, and when: a function of the seed and of nothing else, but for the ids
//! of the commands that they answer, which the platform makes.
//!
//! Devices are of every kind that the protocol knows: newer and older ones, registered or not, with and
//! without a name for their power-ons, with clocks that fall back to 1970, that repeat themselves, claim
//! points twice, come and go, answer commands, and talk nonsense.

mod device;
mod profile;
mod script;

use jiff::{SignedDuration, Timestamp};
pub(super) use profile::{BootIdKind, DeviceProfile, PresencePattern, Registration};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use uuid::Uuid;

/// The random numbers of everything that a seed decides.
pub(super) type Rng = Xoshiro256PlusPlus;

/// Rng for one purpose, so that a change in what one part throws changes no other part.
pub(super) fn rng(seed: u64, purpose: u64) -> Rng {
    Rng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(purpose))
}

/// Whether something of this probability happens.
pub(super) fn chance(rng: &mut Rng, probability: f64) -> bool {
    rng.random_bool(probability)
}

/// Who is there before anybody speaks.
pub(super) struct Fleet {
    pub(super) seed: u64,
    pub(super) devices: Vec<DeviceProfile>,
}

/// A command that a device of the fleet is to be given.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlannedCommand {
    /// The device, by its place in the fleet.
    pub(super) device: usize,
    pub(super) cmd: &'static str,
    pub(super) params: Value,
}

/// Everything that is said.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Scenario {
    pub(super) messages: Vec<Message>,
    pub(super) receipts: Vec<Receipt>,
}

/// Bytes on a topic, and what they mean.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    /// The device, by its place in the fleet.
    pub(super) device: usize,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) content: MessageContent,
}

/// What a message means.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum MessageContent {
    /// Measurements; `ts` is the envelope's, none in an older device's message without a time.
    Telemetry {
        ts: Option<Timestamp>,
        samples: Vec<Sample>,
    },
    Hello {
        ts: Timestamp,
        fw_version: String,
    },
    /// The device is there, or it is gone; the last will of an old connection means that it is there.
    Status {
        ts: Timestamp,
        is_online: bool,
    },
    /// What IoT Core says of a connection; the end of an old one means that it is there.
    Lifecycle {
        ts: Timestamp,
        is_online: bool,
    },
    /// An answer to one of the orders, or to a command that nobody has given.
    Ack {
        ts: Timestamp,
        planned_command: Option<usize>,
        result: &'static str,
        detail: Option<String>,
    },
    /// Progress of the upgrade that is this order.
    Upgrade {
        ts: Timestamp,
        planned_command: usize,
        state: &'static str,
        progress: Option<f64>,
    },
    /// Nothing that can be read.
    InvalidPayload,
    /// Not even in the form in which an IoT rule hands messages over.
    InvalidEnvelope,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) metric: &'static str,
    /// None: the envelope's.
    pub(super) ts: Option<Timestamp>,
    pub(super) value: f64,
    pub(super) unit: Option<&'static str>,
}

/// One arrival of a message at the platform: an entry of the queue. A message that is sent twice has two.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Receipt {
    /// The message, by its place in the scenario.
    pub(super) message: usize,
    pub(super) at: Timestamp,
    /// What of the same device has an earlier number is handled before this is delivered: the order of a
    /// device's comings and goings is not what a seed wants to leave to chance.
    pub(super) phase: usize,
}

/// The act of what comes when nobody waits for it any more, after the watchdog has missed it.
pub(super) const LATE_PHASE: usize = usize::MAX;

impl Fleet {
    /// The fleet of a seed; its devices' ids begin with `name`.
    pub(super) fn from_seed(seed: u64, name: &str) -> Self {
        let mut rng = rng(seed, 1);
        let devices = (1..=rng.random_range(2..=5))
            .map(|number| DeviceProfile::random(format!("{name}-{number}"), &mut rng));
        Self { seed, devices: devices.collect() }
    }

    /// The commands to give before anybody speaks.
    pub(super) fn planned_commands(&self) -> Vec<PlannedCommand> {
        let mut rng = rng(self.seed, 2);
        let mut planned_commands = Vec::new();
        for (device, profile) in self.devices.iter().enumerate() {
            if profile.registration != Registration::BeforeMessages {
                continue;
            }
            for number in 0..profile.command_count {
                let (cmd, params) = match (number, rng.random_range(0..4)) {
                    // One upgrade a device, or which one it is about would be a matter of the order.
                    (0, _) if profile.receives_upgrade => ("start_ota", start_ota_params()),
                    (_, 0) => ("reboot", json!({})),
                    (_, 1) => ("request_status", json!({})),
                    (_, 2) => {
                        ("update_config", json!({"send_interval_s": rng.random_range(1..=3600)}))
                    }
                    _ => (
                        "update_config",
                        json!({
                            "hello_interval_s": rng.random_range(5..=3600),
                            "sampling_cadence_ms": rng.random_range(100..=60_000),
                        }),
                    ),
                };
                planned_commands.push(PlannedCommand { device, cmd, params });
            }
        }
        planned_commands
    }

    /// What this fleet says, `commands` being the ids of [`Fleet::planned_commands`].
    pub(super) fn scenario(
        &self,
        planned_commands: &[PlannedCommand],
        commands: &[Uuid],
    ) -> Scenario {
        let mut scenario = Scenario::default();
        let mut rng = rng(self.seed, 3);
        let start_time =
            start_time(self.seed) + SignedDuration::from_secs(rng.random_range(0..3_600));
        for (number, profile) in self.devices.iter().enumerate() {
            let mine = planned_commands.iter().zip(commands).enumerate();
            let mine = mine.filter(|(_, (planned_command, _))| planned_command.device == number);
            let mine = mine
                .map(|(index, (planned_command, id))| (index, planned_command.cmd, *id))
                .collect();
            device::script_device(number, profile, mine, start_time, &mut rng, &mut scenario);
        }
        scenario
    }
}

/// The firmware of every upgrade.
pub(super) const TARGET_FW_VERSION: &str = "9.0.0";

fn start_ota_params() -> Value {
    json!({"fw_version": TARGET_FW_VERSION, "fw_url": "https://example.com/fw", "fw_sha256": "0".repeat(64), "fw_size_bytes": 1})
}

/// When a seed is played. In the past on any clock; seeds that follow each other are played one after the
/// other.
pub(super) fn start_time(seed: u64) -> Timestamp {
    const FIRST: i64 = 1_704_067_200; // 2024-01-01
    let hours = i64::try_from(seed % 20_000).unwrap_or(0);
    Timestamp::from_second(FIRST + hours * 3_600).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn scenario(seed: u64) -> (Fleet, Scenario) {
        let fleet = Fleet::from_seed(seed, "s");
        let planned_commands = fleet.planned_commands();
        let commands: Vec<_> =
            (0..planned_commands.len()).map(|n| Uuid::from_u128(n as u128)).collect();
        let scenario = fleet.scenario(&planned_commands, &commands);
        (fleet, scenario)
    }

    #[test]
    fn a_seed_tells_the_same_story_each_time_and_another_seed_another() {
        assert_eq!(scenario(7).1, scenario(7).1);
        assert_ne!(scenario(7).1, scenario(8).1);
    }

    #[test]
    fn no_two_messages_of_a_story_are_the_same() {
        for seed in 0..50 {
            let (_, scenario) = scenario(seed);
            let distinct: HashSet<_> =
                scenario.messages.iter().map(|m| (&m.topic, &m.payload)).collect();
            assert_eq!(distinct.len(), scenario.messages.len(), "seed {seed}");
        }
    }

    #[test]
    fn a_hundred_seeds_have_everything_in_them() {
        let mut seen = HashSet::new();
        for seed in 0..100 {
            let (fleet, scenario) = scenario(seed);
            for profile in &fleet.devices {
                seen.insert(format!("{:?}", profile.registration));
                seen.insert(format!("{:?}", profile.presence));
            }
            for message in &scenario.messages {
                let content = format!("{:?}", message.content);
                seen.insert(content.split([' ', '{']).next().unwrap().to_owned());
            }
            if scenario.receipts.len() > scenario.messages.len() {
                seen.insert("repeat".to_owned());
            }
            if scenario.receipts.iter().any(|receipt| receipt.phase == LATE_PHASE) {
                seen.insert("straggler".to_owned());
            }
        }
        for wanted in [
            "BeforeMessages",
            "Never",
            "DuringMessages",
            "AfterMessages",
            "Steady",
            "OrderedOutages",
            "Flapping",
            "Telemetry",
            "Hello",
            "Status",
            "Lifecycle",
            "Ack",
            "Upgrade",
            "InvalidPayload",
            "InvalidEnvelope",
            "repeat",
            "straggler",
        ] {
            assert!(seen.contains(wanted), "{wanted} is not in {seen:?}");
        }
    }
}
