//! Commands: what the platform asks of a device, and how that went.

mod payload;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

pub use self::payload::{payload, signature};
use crate::id::DeviceId;
use crate::time::Timestamp;

/// What a device can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandKind {
    /// Change sampling, sending, heartbeat or brokers.
    UpdateConfig,
    /// Load and start another firmware.
    StartOta,
    /// Start again.
    Reboot,
    /// Forget everything but the identity.
    FactoryReset,
    /// Say hello now.
    RequestStatus,
}

impl CommandKind {
    /// Every command, in the order of docs/protocol.md.
    pub const ALL: [Self; 5] =
        [Self::UpdateConfig, Self::StartOta, Self::Reboot, Self::FactoryReset, Self::RequestStatus];

    /// The word in messages and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UpdateConfig => "update_config",
            Self::StartOta => "start_ota",
            Self::Reboot => "reboot",
            Self::FactoryReset => "factory_reset",
            Self::RequestStatus => "request_status",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl CommandKind {
    /// Whether a device may be asked again, without harm if it had been asked before: when it comes online, and
    /// when nobody knows whether it got the question. A reboot that is repeated on every reconnect is a loop.
    pub fn is_idempotent(self) -> bool {
        matches!(self, Self::UpdateConfig | Self::RequestStatus)
    }
}

/// What a device answers to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckResult {
    /// It will do it, or has done it.
    Accepted,
    /// It will not.
    Rejected,
    /// It tried and failed.
    Error,
    /// It does not know the command.
    Unsupported,
}

impl AckResult {
    /// Reads the word.
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

/// Where a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandStatus {
    /// Stored; published or about to be.
    Pending,
    /// See [`AckResult::Accepted`].
    Accepted,
    /// See [`AckResult::Rejected`].
    Rejected,
    /// See [`AckResult::Error`].
    Error,
    /// See [`AckResult::Unsupported`].
    Unsupported,
    /// No answer in time. A late one still wins.
    Timeout,
}

impl CommandStatus {
    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "pending" => Some(Self::Pending),
            "timeout" => Some(Self::Timeout),
            other => AckResult::parse(other).map(Self::from),
        }
    }

    /// Whether an answer may still change it.
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

/// How far a firmware upgrade is. The order is the order of life: it never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OtaState {
    /// Fetching the image.
    Downloading,
    /// Checking its digest.
    Verifying,
    /// Writing it.
    Applying,
    /// The device says that it is done.
    Success,
    /// The device gave up; `detail` says why.
    Failed,
    /// `success`, and a hello from the target version came after it. Never sent by a device.
    Completed,
}

impl OtaState {
    /// Reads the word of a device.
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

/// A firmware upgrade's progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ota {
    /// How far.
    pub state: OtaState,
    /// 0 to 100, of the state it is in.
    pub progress_pct: Option<f64>,
    /// Where to.
    pub fw_version_target: Option<String>,
    /// For a person.
    pub detail: Option<String>,
    /// When the platform received this.
    pub updated_at: Timestamp,
}

impl Ota {
    /// Whether `next` is further than this: a later state, or more progress in the same one.
    /// `failed` after `success` is not: both are ends, and the first one stands.
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
    /// Sorts by `created_at`.
    pub cmd_id: Uuid,
    /// For whom.
    pub device_id: DeviceId,
    /// What.
    pub cmd: CommandKind,
    /// With what; checked before it is stored.
    pub params: Map<String, Value>,
    /// How it went.
    pub status: CommandStatus,
    /// The device's words.
    pub ack_detail: Option<String>,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When the broker took it; none while it has not. Of one that must not be published twice: when it was
    /// handed to the broker, noted before that was done.
    pub published_at: Option<Timestamp>,
    /// When the answer was received.
    pub acked_at: Option<Timestamp>,
    /// When a device must no longer obey it.
    pub expires_at: Timestamp,
    /// For `start_ota`: how far it is.
    pub ota: Option<Ota>,
}

impl Command {
    /// The firmware that a `start_ota` is to bring.
    pub fn fw_version(&self) -> Option<&str> {
        let params = Some(&self.params).filter(|_| self.cmd == CommandKind::StartOta);
        params?.get("fw_version")?.as_str()
    }
}
