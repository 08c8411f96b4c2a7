//! The messages of a fleet and their times: a function of the seed and of the command ids, which
//! the platform creates.
//!
//! The devices cover the protocol: versions 1 and 2, registered or not, with and without a boot id,
//! with clocks that fall back to 1970. They repeat messages, overwrite points, go offline and
//! online, acknowledge commands and publish invalid messages.

mod device;
mod profile;
mod script;

use jiff::{SignedDuration, Timestamp};
pub(super) use profile::{BootIdKind, DeviceProfile, PresencePattern, Registration};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use uuid::Uuid;

/// The random number generator of a seed.
pub(super) type Rng = Xoshiro256PlusPlus;

/// The generator for one purpose of a seed, so that a change in one part changes no other part.
pub(super) fn rng(seed: u64, purpose: u64) -> Rng {
    Rng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(purpose))
}

/// Returns true with this probability.
pub(super) fn chance(rng: &mut Rng, probability: f64) -> bool {
    rng.random_bool(probability)
}

/// The devices of a seed.
pub(super) struct Fleet {
    pub(super) seed: u64,
    pub(super) devices: Vec<DeviceProfile>,
}

/// A command that is created before the first message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlannedCommand {
    /// The index of the device in the fleet.
    pub(super) device: usize,
    pub(super) cmd: &'static str,
    pub(super) params: Value,
}

/// All messages of a fleet and their receipts.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Scenario {
    pub(super) messages: Vec<Message>,
    pub(super) receipts: Vec<Receipt>,
}

/// A published message: the bytes and their meaning for the model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    /// The index of the device in the fleet.
    pub(super) device: usize,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) content: MessageContent,
}

/// The meaning of a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum MessageContent {
    /// Samples; `ts` is the time of the envelope, `None` in a message of version 1 without a time.
    Telemetry {
        ts: Option<Timestamp>,
        samples: Vec<Sample>,
    },
    Hello {
        ts: Timestamp,
        fw_version: String,
    },
    /// A status message. `is_online` is true after the last will of a previous connection.
    Status {
        ts: Timestamp,
        is_online: bool,
    },
    /// A lifecycle event of IoT Core. `is_online` is true after the end of a previous connection.
    Lifecycle {
        ts: Timestamp,
        is_online: bool,
    },
    /// An acknowledgement of a planned command, or of an unknown one (`None`).
    Ack {
        ts: Timestamp,
        planned_command: Option<usize>,
        result: &'static str,
        detail: Option<String>,
    },
    /// The progress of a firmware upgrade.
    Upgrade {
        ts: Timestamp,
        planned_command: usize,
        state: &'static str,
        progress: Option<f64>,
    },
    /// A payload that cannot be parsed.
    InvalidPayload,
    /// A queue message that is not in the format of the IoT rules.
    InvalidEnvelope,
}

/// One sample of a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) metric: &'static str,
    /// The time of the sample, or `None` for that of the envelope.
    pub(super) ts: Option<Timestamp>,
    pub(super) value: f64,
    pub(super) unit: Option<&'static str>,
}

/// The receipt of a message by the platform: an entry of the queue. A message that is published
/// twice has two receipts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Receipt {
    /// The index of the message in the scenario.
    pub(super) message: usize,
    pub(super) at: Timestamp,
    /// Receipts of the same device with a lower phase are processed before this one is delivered.
    /// The order of offline periods is thereby determined by the seed.
    pub(super) phase: usize,
}

/// The phase of late messages, which are delivered after the watchdog has reported them missing.
pub(super) const LATE_PHASE: usize = usize::MAX;

impl Fleet {
    /// The fleet of a seed. The device ids have the prefix `name`.
    pub(super) fn from_seed(seed: u64, name: &str) -> Self {
        let mut rng = rng(seed, 1);
        let devices = (1..=rng.random_range(2..=5))
            .map(|number| DeviceProfile::random(format!("{name}-{number}"), &mut rng));
        Self { seed, devices: devices.collect() }
    }

    /// The commands that are created before the first message.
    pub(super) fn planned_commands(&self) -> Vec<PlannedCommand> {
        let mut rng = rng(self.seed, 2);
        let mut planned_commands = Vec::new();
        for (device, profile) in self.devices.iter().enumerate() {
            if profile.registration != Registration::BeforeMessages {
                continue;
            }
            for number in 0..profile.command_count {
                let (cmd, params) = match (number, rng.random_range(0..4)) {
                    // One upgrade per device: with two, the result would depend on the order.
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

    /// The messages of this fleet. `commands` are the ids of [`Fleet::planned_commands`].
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
            let own = planned_commands.iter().zip(commands).enumerate();
            let own = own.filter(|(_, (planned_command, _))| planned_command.device == number);
            let own = own
                .map(|(index, (planned_command, id))| (index, planned_command.cmd, *id))
                .collect();
            device::script_device(number, profile, own, start_time, &mut rng, &mut scenario);
        }
        scenario
    }
}

/// The firmware version of every upgrade.
pub(super) const TARGET_FW_VERSION: &str = "9.0.0";

fn start_ota_params() -> Value {
    json!({"fw_version": TARGET_FW_VERSION, "fw_url": "https://example.com/fw", "fw_sha256": "0".repeat(64), "fw_size_bytes": 1})
}

/// The time of a seed's first message: in the past, and an hour later for each seed.
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
    fn seed_determines_the_scenario() {
        assert_eq!(scenario(7).1, scenario(7).1);
        assert_ne!(scenario(7).1, scenario(8).1);
    }

    #[test]
    fn messages_of_a_scenario_are_distinct() {
        for seed in 0..50 {
            let (_, scenario) = scenario(seed);
            let distinct: HashSet<_> =
                scenario.messages.iter().map(|m| (&m.topic, &m.payload)).collect();
            assert_eq!(distinct.len(), scenario.messages.len(), "seed {seed}");
        }
    }

    #[test]
    fn one_hundred_seeds_contain_every_variant() {
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
                seen.insert("late message".to_owned());
            }
        }
        for expected in [
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
            "late message",
        ] {
            assert!(seen.contains(expected), "{expected} is not in {seen:?}");
        }
    }
}
