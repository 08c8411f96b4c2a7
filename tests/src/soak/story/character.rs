//! What a device is like.

use rand::RngExt as _;

use super::{Dice, happens};

/// A device.
#[derive(Clone, Debug)]
pub(crate) struct Character {
    pub(crate) id: String,
    pub(crate) registration: Registration,
    pub(crate) presence: Presence,
    pub(super) boot: Boot,
    /// Speaks version 1 of the protocol.
    pub(super) is_old: bool,
    pub(super) power_ons: usize,
    /// Messages between two power-ons, about.
    pub(super) talkativeness: usize,
    /// Commands that it is given.
    pub(super) orders: usize,
    pub(super) is_upgraded: bool,
}

/// When it is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registration {
    /// Before it speaks.
    Before,
    /// While it speaks.
    Meanwhile,
    /// When it has spoken.
    Afterwards,
    Never,
}

/// How it comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It is there.
    Steady,
    /// It goes and comes back, and what it said before is handled before it goes: so each absence is an
    /// alert.
    InActs,
    /// It goes and comes back, and what of that is handled first is left to chance: only the end is known.
    Flapping,
}

/// What it calls its power-ons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boot {
    Unnamed,
    Counted,
    Named,
}

impl Character {
    pub(super) fn random(id: String, dice: &mut Dice) -> Self {
        let registration = match dice.random_range(0..10) {
            0..6 => Registration::Before,
            6 => Registration::Meanwhile,
            7 => Registration::Afterwards,
            _ => Registration::Never,
        };
        let presence = match (registration, dice.random_range(0..10)) {
            // Whether it was registered yet when it went would decide whether there is an alert.
            (Registration::Meanwhile, _) | (_, 0..5) => Presence::Steady,
            (_, 5..8) => Presence::InActs,
            _ => Presence::Flapping,
        };
        let boot = match dice.random_range(0..3) {
            0 => Boot::Unnamed,
            1 => Boot::Counted,
            _ => Boot::Named,
        };
        Self {
            id,
            registration,
            presence,
            boot,
            is_old: presence == Presence::Steady && happens(dice, 0.15),
            power_ons: dice.random_range(1..=3),
            talkativeness: dice.random_range(3..=20),
            orders: dice.random_range(0..=3),
            is_upgraded: happens(dice, 0.5),
        }
    }
}
