//! What a device is like.

use rand::RngExt as _;

use super::{Rng, chance};

/// A device.
#[derive(Clone, Debug)]
pub(crate) struct DeviceProfile {
    pub(crate) id: String,
    pub(crate) registration: Registration,
    pub(crate) presence: PresencePattern,
    pub(crate) boot: BootIdKind,
    /// Speaks version 1 of the protocol.
    pub(super) uses_protocol_v1: bool,
    pub(super) boot_count: usize,
    /// Messages between two power-ons, about.
    pub(super) messages_per_boot: usize,
    /// Commands that it is given.
    pub(super) command_count: usize,
    pub(super) receives_upgrade: bool,
}

/// When it is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registration {
    /// Before it speaks.
    BeforeMessages,
    /// While it speaks.
    DuringMessages,
    /// When it has spoken.
    AfterMessages,
    Never,
}

/// How it comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PresencePattern {
    /// It is there.
    Steady,
    /// It goes and comes back, and what it said before is handled before it goes: so each absence is an
    /// alert.
    OrderedOutages,
    /// It goes and comes back, and what of that is handled first is left to chance: only the end is known.
    Flapping,
}

/// What it calls its power-ons. Only with a name there is no guessing which numbers are missing.
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
            // Whether it was registered yet when it went would decide whether there is an alert.
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
