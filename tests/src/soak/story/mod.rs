//! What the devices of a seed say, and when: a function of the seed and of nothing else, but for the ids
//! of the commands that they answer, which the platform makes.
//!
//! Devices are of every kind that the protocol knows: newer and older ones, registered or not, with and
//! without a name for their power-ons, with clocks that fall back to 1970, that repeat themselves, claim
//! points twice, come and go, answer commands, and talk nonsense.

mod character;
mod device;
mod telling;

pub(super) use character::{Boot, Character, Presence, Registration};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use uuid::Uuid;

/// The random numbers of everything that a seed decides.
pub(super) type Dice = Xoshiro256PlusPlus;

/// Dice for one purpose, so that a change in what one part throws changes no other part.
pub(super) fn dice(seed: u64, purpose: u64) -> Dice {
    Dice::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(purpose))
}

/// Whether something of this probability happens.
pub(super) fn happens(dice: &mut Dice, probability: f64) -> bool {
    dice.random_bool(probability)
}

/// Who is there before anybody speaks.
pub(super) struct Cast {
    pub(super) seed: u64,
    pub(super) devices: Vec<Character>,
}

/// A command that a device of the cast is to be given.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Order {
    /// The device, by its place in the cast.
    pub(super) device: usize,
    pub(super) cmd: &'static str,
    pub(super) params: Value,
}

/// Everything that is said.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Story {
    pub(super) messages: Vec<Message>,
    pub(super) receipts: Vec<Receipt>,
}

/// Bytes on a topic, and what they mean.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    /// The device, by its place in the cast.
    pub(super) device: usize,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) meaning: Meaning,
}

/// What a message means.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Meaning {
    /// Measurements; `ts` is the envelope's, none in an older device's message without a time.
    Readings {
        ts: Option<Timestamp>,
        readings: Vec<Reading>,
    },
    Hello {
        ts: Timestamp,
        fw_version: String,
    },
    /// The device is there, or it is gone; the last will of an old connection means that it is there.
    Status {
        ts: Timestamp,
        is_there: bool,
    },
    /// What IoT Core says of a connection; the end of an old one means that it is there.
    Lifecycle {
        ts: Timestamp,
        is_there: bool,
    },
    /// An answer to one of the orders, or to a command that nobody has given.
    Ack {
        ts: Timestamp,
        order: Option<usize>,
        result: &'static str,
        detail: Option<String>,
    },
    /// Progress of the upgrade that is this order.
    Upgrade {
        ts: Timestamp,
        order: usize,
        state: &'static str,
        progress: Option<f64>,
    },
    /// Nothing that can be read.
    Nonsense,
    /// Not even in the form in which an IoT rule hands messages over.
    Wreck,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) metric: &'static str,
    /// None: the envelope's.
    pub(super) ts: Option<Timestamp>,
    pub(super) value: f64,
    pub(super) unit: Option<&'static str>,
}

/// One arrival of a message at the platform: an entry of the queue. A message that is sent twice has two.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Receipt {
    /// The message, by its place in the story.
    pub(super) message: usize,
    pub(super) at: Timestamp,
    /// What of the same device has an earlier number is handled before this is delivered: the order of a
    /// device's comings and goings is not what a seed wants to leave to chance.
    pub(super) act: usize,
}

/// The act of what comes when nobody waits for it any more, after the watchdog has missed it.
pub(super) const STRAGGLER: usize = usize::MAX;

impl Cast {
    /// The cast of a seed; its devices' ids begin with `name`.
    pub(super) fn of(seed: u64, name: &str) -> Self {
        let mut dice = dice(seed, 1);
        let devices = (1..=dice.random_range(2..=5))
            .map(|number| Character::random(format!("{name}-{number}"), &mut dice));
        Self { seed, devices: devices.collect() }
    }

    /// The commands to give before anybody speaks.
    pub(super) fn orders(&self) -> Vec<Order> {
        let mut dice = dice(self.seed, 2);
        let mut orders = Vec::new();
        for (device, character) in self.devices.iter().enumerate() {
            if character.registration != Registration::Before {
                continue;
            }
            for number in 0..character.orders {
                let (cmd, params) = match (number, dice.random_range(0..4)) {
                    // One upgrade a device, or which one it is about would be a matter of the order.
                    (0, _) if character.is_upgraded => ("start_ota", upgrade()),
                    (_, 0) => ("reboot", json!({})),
                    (_, 1) => ("request_status", json!({})),
                    (_, 2) => {
                        ("update_config", json!({"send_interval_s": dice.random_range(1..=3600)}))
                    }
                    _ => (
                        "update_config",
                        json!({
                            "hello_interval_s": dice.random_range(5..=3600),
                            "sampling_cadence_ms": dice.random_range(100..=60_000),
                        }),
                    ),
                };
                orders.push(Order { device, cmd, params });
            }
        }
        orders
    }

    /// What this cast says, `commands` being the ids of [`Cast::orders`].
    pub(super) fn story(&self, orders: &[Order], commands: &[Uuid]) -> Story {
        let mut story = Story::default();
        let mut dice = dice(self.seed, 3);
        let begin = begin(self.seed) + SignedDuration::from_secs(dice.random_range(0..3_600));
        for (number, character) in self.devices.iter().enumerate() {
            let mine = orders.iter().zip(commands).enumerate();
            let mine = mine.filter(|(_, (order, _))| order.device == number);
            let mine = mine.map(|(index, (order, id))| (index, order.cmd, *id)).collect();
            device::speak(number, character, mine, begin, &mut dice, &mut story);
        }
        story
    }
}

/// The firmware of every upgrade.
pub(super) const TARGET: &str = "9.0.0";

fn upgrade() -> Value {
    json!({"fw_version": TARGET, "fw_url": "https://example.com/fw", "fw_sha256": "0".repeat(64), "fw_size_bytes": 1})
}

/// When a seed is played. In the past on any clock; seeds that follow each other are played one after the
/// other.
pub(super) fn begin(seed: u64) -> Timestamp {
    const FIRST: i64 = 1_704_067_200; // 2024-01-01
    let hours = i64::try_from(seed % 20_000).unwrap_or(0);
    Timestamp::from_second(FIRST + hours * 3_600).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn story(seed: u64) -> (Cast, Story) {
        let cast = Cast::of(seed, "s");
        let orders = cast.orders();
        let commands: Vec<_> = (0..orders.len()).map(|n| Uuid::from_u128(n as u128)).collect();
        let story = cast.story(&orders, &commands);
        (cast, story)
    }

    #[test]
    fn a_seed_tells_the_same_story_each_time_and_another_seed_another() {
        assert_eq!(story(7).1, story(7).1);
        assert_ne!(story(7).1, story(8).1);
    }

    #[test]
    fn no_two_messages_of_a_story_are_the_same() {
        for seed in 0..50 {
            let (_, story) = story(seed);
            let distinct: HashSet<_> =
                story.messages.iter().map(|m| (&m.topic, &m.payload)).collect();
            assert_eq!(distinct.len(), story.messages.len(), "seed {seed}");
        }
    }

    #[test]
    fn a_hundred_seeds_have_everything_in_them() {
        let mut seen = HashSet::new();
        for seed in 0..100 {
            let (cast, story) = story(seed);
            for character in &cast.devices {
                seen.insert(format!("{:?}", character.registration));
                seen.insert(format!("{:?}", character.presence));
            }
            for message in &story.messages {
                let meaning = format!("{:?}", message.meaning);
                seen.insert(meaning.split([' ', '{']).next().unwrap().to_owned());
            }
            if story.receipts.len() > story.messages.len() {
                seen.insert("repeat".to_owned());
            }
            if story.receipts.iter().any(|receipt| receipt.act == STRAGGLER) {
                seen.insert("straggler".to_owned());
            }
        }
        for wanted in [
            "Before",
            "Never",
            "Meanwhile",
            "Afterwards",
            "Steady",
            "InActs",
            "Flapping",
            "Readings",
            "Hello",
            "Status",
            "Lifecycle",
            "Ack",
            "Upgrade",
            "Nonsense",
            "Wreck",
            "repeat",
            "straggler",
        ] {
            assert!(seen.contains(wanted), "{wanted} is not in {seen:?}");
        }
    }
}
