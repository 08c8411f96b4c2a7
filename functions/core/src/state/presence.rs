//! Presence: is the device there? Signals are ordered by receipt, never by the device's clock,
//! because a last will's payload is fixed when the device connects (protocol.md, Presence).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

/// The answer.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    /// It has spoken and has not gone since.
    Online,
    /// It said goodbye, its last will was published, or it is silent.
    Offline,
    /// It was never heard.
    #[default]
    Unknown,
}

impl Connection {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Online, Self::Offline, Self::Unknown];

    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
        }
    }

    /// Reads the API's word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|connection| connection.as_str() == text)
    }
}

/// What is known of a device's presence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Whether it is there.
    pub connection: Connection,
    /// Receipt of the signal that decided so.
    pub since: Option<Timestamp>,
    /// Receipt of the latest message of any kind.
    pub last_seen: Option<Timestamp>,
    /// Which connection said online, when the device names its connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conn_id: Option<String>,
    /// The alert that is open because it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_alert: Option<Uuid>,
}
