//! Alerts: something about a device that a person should know.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{DeviceId, Shard, event_id};
use crate::time::Timestamp;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}

impl Severity {
    /// The API's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// Reads the API's word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "info" => Some(Self::Info),
            "warning" => Some(Self::Warning),
            "critical" => Some(Self::Critical),
            _ => None,
        }
    }
}

/// An alert as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Sorts by `created_at`; derived from the cause when the platform raised it.
    pub alert_id: Uuid,
    /// Whose.
    pub device_id: DeviceId,
    /// What kind, a free word (`general`, `device_offline`).
    pub alert_type: String,
    /// How bad.
    pub severity: Severity,
    /// For a person.
    pub message: String,
    /// Somebody has seen it.
    pub acknowledged: bool,
    /// When somebody did.
    pub acknowledged_at: Option<Timestamp>,
    /// Who did, as the token said; none where nobody has to prove who they are.
    pub acknowledged_by: Option<String>,
    /// When its cause ended, for one that the platform raised.
    pub resolved_at: Option<Timestamp>,
    /// When its cause began.
    pub created_at: Timestamp,
    /// The rule that raised it; none for what no rule raised.
    pub rule_id: Option<Uuid>,
}

/// Where an alert is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// Its cause goes on, and nobody has seen it.
    Open,
    /// Its cause goes on, and somebody has seen it.
    Acknowledged,
    /// Its cause has ended, whether somebody has seen it or not.
    Resolved,
}

impl AlertState {
    /// Reads the API's word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "open" => Some(Self::Open),
            "acknowledged" => Some(Self::Acknowledged),
            "resolved" => Some(Self::Resolved),
            _ => None,
        }
    }
}

/// The type of the alert for a device that is gone.
pub const DEVICE_OFFLINE: &str = "device_offline";

/// The type of the alert for sequence numbers that are missing.
pub const SEQUENCE_GAP: &str = "sequence_gap";

impl Alert {
    /// The alert for a device that went offline at `at`: deciding it twice is one alert.
    pub fn device_offline(device_id: &DeviceId, at: Timestamp) -> Self {
        Self::from_device_event(
            device_id,
            DEVICE_OFFLINE,
            at,
            format!("{device_id} went offline at {at}"),
        )
    }

    /// The alert for sequence numbers that were found missing at `at`.
    pub fn sequence_gap(device_id: &DeviceId, at: Timestamp, message: &str) -> Self {
        Self::from_device_event(device_id, SEQUENCE_GAP, at, message.to_owned())
    }

    /// One that the platform raises.
    fn from_device_event(
        device_id: &DeviceId,
        alert_type: &str,
        at: Timestamp,
        message: String,
    ) -> Self {
        Self {
            alert_id: event_id(at, alert_type, device_id.as_str()),
            device_id: device_id.clone(),
            alert_type: alert_type.to_owned(),
            severity: Severity::Warning,
            message,
            acknowledged: false,
            acknowledged_at: None,
            acknowledged_by: None,
            resolved_at: None,
            created_at: at,
            rule_id: None,
        }
    }

    /// Where it is in its life.
    pub fn state(&self) -> AlertState {
        match (self.resolved_at, self.acknowledged) {
            (Some(_), _) => AlertState::Resolved,
            (None, true) => AlertState::Acknowledged,
            (None, false) => AlertState::Open,
        }
    }

    /// Its partition in the index over the fleet's alerts, a function of the id alone, so that the
    /// index also finds one by its id.
    pub fn shard(alert_id: Uuid) -> Shard {
        Shard::of(alert_id.as_bytes())
    }
}
/// A change of an alert by what caused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRevision {
    /// The version of the device's state that decided it; of two revisions the greater one stands.
    pub state_version: u64,
    /// When the cause ended; none: it goes on, or goes on again.
    pub resolved_at: Option<Timestamp>,
    /// New words for a person; none: the old ones.
    pub message: Option<String>,
}
