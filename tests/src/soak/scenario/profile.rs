//! The profile of a device.

use rand::RngExt as _;

use super::{Rng, chance};

/// The properties of a device that determine its messages.
#[derive(Clone, Debug)]
pub(crate) struct DeviceProfile {
    pub(crate) id: String,
    pub(crate) registration: Registration,
    pub(crate) presence: PresencePattern,
    pub(crate) boot: BootIdKind,
    /// Whether the device uses version 1 of the protocol.
    pub(super) uses_protocol_v1: bool,
    pub(super) boot_count: usize,
    /// The approximate number of messages between two boots.
    pub(super) messages_per_boot: usize,
    /// The number of commands for the device.
    pub(super) command_count: usize,
    pub(super) receives_upgrade: bool,
}

/// The time of a device's registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registration {
    /// Before the first message.
    BeforeMessages,
    /// While messages are processed.
    DuringMessages,
    /// After the last message.
    AfterMessages,
    Never,
}

/// The pattern of a device's offline periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PresencePattern {
    /// The device stays online.
    Steady,
    /// The device goes offline and online. All earlier messages are processed before each change,
    /// so that each offline period raises an alert.
    OrderedOutages,
    /// The device goes offline and online. The order of processing is random, so that only the
    /// final state is determined.
    Flapping,
}

/// The boot id in a device's messages. The missing sequence numbers are determined only with a boot
/// id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BootIdKind {
    Absent,
    Counter,
    Text,
}

impl DeviceProfile {
    pub(super) fn random(id: String, rng: &mut Rng) -> Self {
        let registration = match rng.random_range(0..10) {
            0..6 => Registration::BeforeMessages,
            6 => Registration::DuringMessages,
            7 => Registration::AfterMessages,
            _ => Registration::Never,
        };
        let presence = match (registration, rng.random_range(0..10)) {
            // With an offline period, the time of registration would decide whether an alert is
            // raised.
            (Registration::DuringMessages, _) | (_, 0..5) => PresencePattern::Steady,
            (_, 5..8) => PresencePattern::OrderedOutages,
            _ => PresencePattern::Flapping,
        };
        let boot = match rng.random_range(0..3) {
            0 => BootIdKind::Absent,
            1 => BootIdKind::Counter,
            _ => BootIdKind::Text,
        };
        Self {
            id,
            registration,
            presence,
            boot,
            uses_protocol_v1: presence == PresencePattern::Steady && chance(rng, 0.15),
            boot_count: rng.random_range(1..=3),
            messages_per_boot: rng.random_range(3..=20),
            command_count: rng.random_range(0..=3),
            receives_upgrade: chance(rng, 0.5),
        }
    }
}
