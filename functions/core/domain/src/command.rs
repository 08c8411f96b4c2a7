//! Commands to devices, their acknowledgements, and the progress of firmware upgrades.

mod payload;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

pub use self::payload::{payload, signature};
use crate::id::DeviceId;
use crate::time::Timestamp;

/// The kinds of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandKind {
    /// Change the sampling, send and hello intervals or the brokers.
    UpdateConfig,
    /// Download and start another firmware.
    StartOta,
    /// Restart.
    Reboot,
    /// Delete everything except for the identity.
    FactoryReset,
    /// Publish a hello message.
    RequestStatus,
}

impl CommandKind {
    /// Every command, in the order of docs/protocol.md.
    pub const ALL: [Self; 5] =
        [Self::UpdateConfig, Self::StartOta, Self::Reboot, Self::FactoryReset, Self::RequestStatus];

    /// Name in messages and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UpdateConfig => "update_config",
            Self::StartOta => "start_ota",
            Self::Reboot => "reboot",
            Self::FactoryReset => "factory_reset",
            Self::RequestStatus => "request_status",
        }
    }

    /// Parses the name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl CommandKind {
    /// Whether the command can be published again without harm: when the device comes online, and
    /// when the result of a publish is unknown. A reboot that is repeated at each reconnect would
    /// never end.
    pub fn is_idempotent(self) -> bool {
        matches!(self, Self::UpdateConfig | Self::RequestStatus)
    }
}

/// The result in a command acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckResult {
    /// The device executes or has executed the command.
    Accepted,
    /// The device refuses the command.
    Rejected,
    /// The command failed.
    Error,
    /// The firmware does not implement the command.
    Unsupported,
}

impl AckResult {
    /// Parses the name in messages.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "accepted" => Some(Self::Accepted),
            "rejected" => Some(Self::Rejected),
            "error" => Some(Self::Error),
            "unsupported" => Some(Self::Unsupported),
            _ => None,
        }
    }
}

/// Status of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandStatus {
    /// Stored; published or about to be published.
    Pending,
    /// See [`AckResult::Accepted`].
    Accepted,
    /// See [`AckResult::Rejected`].
    Rejected,
    /// See [`AckResult::Error`].
    Error,
    /// See [`AckResult::Unsupported`].
    Unsupported,
    /// No acknowledgement before the expiry. A later acknowledgement replaces this status.
    Timeout,
}

impl CommandStatus {
    /// Parses the name in the API.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "pending" => Some(Self::Pending),
            "timeout" => Some(Self::Timeout),
            other => AckResult::parse(other).map(Self::from),
        }
    }

    /// Whether an acknowledgement can change the status.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Timeout)
    }
}

impl From<AckResult> for CommandStatus {
    fn from(result: AckResult) -> Self {
        match result {
            AckResult::Accepted => Self::Accepted,
            AckResult::Rejected => Self::Rejected,
            AckResult::Error => Self::Error,
            AckResult::Unsupported => Self::Unsupported,
        }
    }
}

/// Progress of a firmware upgrade, in the order in which the states advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OtaState {
    /// Downloading the image.
    Downloading,
    /// Checking the digest of the image.
    Verifying,
    /// Writing the image.
    Applying,
    /// The device reports success.
    Success,
    /// The device reports failure; `detail` contains the reason.
    Failed,
    /// `success` was received, then a hello message with the target version. Never sent by a
    /// device.
    Completed,
}

impl OtaState {
    /// Parses the name in messages; a device does not send `completed`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "downloading" => Some(Self::Downloading),
            "verifying" => Some(Self::Verifying),
            "applying" => Some(Self::Applying),
            "success" => Some(Self::Success),
            "failed" => Some(Self::Failed),
            _ => None,
        }
    }
}

/// Progress report of a firmware upgrade.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ota {
    /// The state.
    pub state: OtaState,
    /// Percentage of the state, 0 to 100.
    pub progress_pct: Option<f64>,
    /// The target version.
    pub fw_version_target: Option<String>,
    /// Text of the device.
    pub detail: Option<String>,
    /// Receipt time of the report.
    pub updated_at: Timestamp,
}

impl Ota {
    /// Whether `next` advances this report: a later state, or a higher percentage in the same
    /// state. Of `success` and `failed`, the first one stands.
    pub fn is_advanced_by(&self, next: &Self) -> bool {
        match (self.state, next.state) {
            (OtaState::Success, OtaState::Failed) | (OtaState::Failed, _) => false,
            (a, b) if a == b => next.progress_pct > self.progress_pct,
            (a, b) => b > a,
        }
    }
}

/// A command as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Unique id; sorts by `created_at`.
    pub cmd_id: Uuid,
    /// The device that receives the command.
    pub device_id: DeviceId,
    /// The kind of the command.
    pub cmd: CommandKind,
    /// Parameters; validated before the command is stored.
    pub params: Map<String, Value>,
    /// Status of the command.
    pub status: CommandStatus,
    /// Text of the acknowledgement.
    pub ack_detail: Option<String>,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the publish that the broker accepted; `None` before. For a command that must not be
    /// published twice: time before the publish was attempted.
    pub published_at: Option<Timestamp>,
    /// Receipt time of the acknowledgement.
    pub acked_at: Option<Timestamp>,
    /// Time after which the device must ignore the command.
    pub expires_at: Timestamp,
    /// Progress of a `start_ota`.
    pub ota: Option<Ota>,
}

impl Command {
    /// The target version of a `start_ota`.
    pub fn fw_version(&self) -> Option<&str> {
        let params = Some(&self.params).filter(|_| self.cmd == CommandKind::StartOta);
        params?.get("fw_version")?.as_str()
    }
}
