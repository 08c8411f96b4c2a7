//! Alerts: conditions of a device that a person should know about.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{DeviceId, Shard, event_id};
use crate::time::Timestamp;

/// Severity of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For information.
    Info,
    /// Requires attention within a day.
    Warning,
    /// Requires immediate attention.
    Critical,
}

impl Severity {
    /// Name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// Parses the name in the API.
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
    /// Unique id; sorts by `created_at`. Derived from the cause if the platform opened the alert.
    pub alert_id: Uuid,
    /// Device of the alert.
    pub device_id: DeviceId,
    /// Type of the alert; free text (`general`, `device_offline`).
    pub alert_type: String,
    /// Severity of the alert.
    pub severity: Severity,
    /// Text of the alert.
    pub message: String,
    /// Whether a person has seen the alert.
    pub acknowledged: bool,
    /// Time of the acknowledgement.
    pub acknowledged_at: Option<Timestamp>,
    /// Subject of the token that acknowledged the alert; `None` if authorization is disabled.
    pub acknowledged_by: Option<String>,
    /// End of the cause, for an alert that the platform opened.
    pub resolved_at: Option<Timestamp>,
    /// Start of the cause.
    pub created_at: Timestamp,
    /// The rule that opened the alert, if any.
    pub rule_id: Option<Uuid>,
}

/// State of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// The cause persists, and the alert is not acknowledged.
    Open,
    /// The cause persists, and the alert is acknowledged.
    Acknowledged,
    /// The cause has ended, with or without an acknowledgement.
    Resolved,
}

impl AlertState {
    /// Parses the name in the API.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "open" => Some(Self::Open),
            "acknowledged" => Some(Self::Acknowledged),
            "resolved" => Some(Self::Resolved),
            _ => None,
        }
    }
}

/// Type of the alert for an offline device.
pub const DEVICE_OFFLINE: &str = "device_offline";

/// Type of the alert for missing sequence numbers.
pub const SEQUENCE_GAP: &str = "sequence_gap";

impl Alert {
    /// The alert for a device that went offline at `at`. The id is a function of device and time.
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

    /// An alert that the platform opens.
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

    /// The state of the alert.
    pub fn state(&self) -> AlertState {
        match (self.resolved_at, self.acknowledged) {
            (Some(_), _) => AlertState::Resolved,
            (None, true) => AlertState::Acknowledged,
            (None, false) => AlertState::Open,
        }
    }

    /// The shard of an alert in the index over the fleet: a function of the id alone, so that the
    /// index also finds an alert by its id.
    pub fn shard(alert_id: Uuid) -> Shard {
        Shard::of(alert_id.as_bytes())
    }
}
/// A change of an alert by its cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertRevision {
    /// Version of the device state that decided the change; of two revisions the greater one
    /// applies (docs/adr/0017).
    pub state_version: u64,
    /// End of the cause; `None`: the cause persists or has returned.
    pub resolved_at: Option<Timestamp>,
    /// New text; `None`: the text does not change.
    pub message: Option<String>,
}
