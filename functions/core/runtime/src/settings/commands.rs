//! Commands to devices.

use super::{Environment, Settings};

/// Settings for commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commands {
    /// `COMMAND_TIMEOUT_S`: time after which a command without an acknowledgement expires, in
    /// seconds, 1 to 604,800, default 300.
    pub timeout_s: u32,
}

impl Settings for Commands {
    fn read(environment: &mut Environment<'_>) -> Self {
        Self { timeout_s: environment.integer("COMMAND_TIMEOUT_S", 300, 1..=604_800) }
    }
}
