//! Registered devices. State derived from messages (presence, sessions) is in [`crate::state`].

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::id::{CertificateId, DeviceId};
use crate::time::Timestamp;

/// Whether a device is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceStatus {
    /// In use.
    Active,
    /// Taken out of use; telemetry is still stored.
    Inactive,
}

impl DeviceStatus {
    /// Every value.
    pub const ALL: [Self; 2] = [Self::Active, Self::Inactive];

    /// Name in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }

    /// Parses the name in the API.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// A device in the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Id of the registration; sorts by `created_at`. A new registration has a new id.
    pub id: Uuid,
    /// Name of the device as an IoT thing.
    pub device_id: DeviceId,
    /// Display name.
    pub device_name: String,
    /// Type of the device (`power_meter_dc`); alert rules can be limited to a type.
    pub device_type: Option<String>,
    /// Location of the device as free text.
    pub location: Option<String>,
    /// Whether the device is in use.
    pub status: DeviceStatus,
    /// Custom data of the owner.
    pub metadata: Map<String, Value>,
    /// Configuration in force: the result of accepted `update_config` commands and `PUT …/config`.
    pub config: Map<String, Value>,
    /// Key for the signatures of commands, as text; `None`: commands are not signed.
    pub command_key: Option<String>,
    /// Whether fleet provisioning may issue a certificate for this device id; the first claim
    /// resets it.
    pub claimable: bool,
    /// The certificate that fleet provisioning issued last.
    pub claimed_by: Option<CertificateId>,
    /// Time of registration.
    pub created_at: Timestamp,
    /// Time of the last change of this item.
    pub updated_at: Timestamp,
    /// Number of changes of this item; each update is conditional on it.
    pub revision: u64,
}

impl Device {
    /// The report interval in seconds: the shorter of the configured send and hello intervals.
    /// `None`: neither is configured, and the defaults of docs/protocol.md apply.
    pub fn report_interval_s(&self) -> Option<u32> {
        const DEFAULT_SEND_S: u32 = 10;
        const DEFAULT_HELLO_S: u32 = 30;
        let read = |name| {
            let seconds = self.config.get(name).and_then(Value::as_u64);
            seconds.and_then(|s| u32::try_from(s).ok())
        };
        let (send, hello) = (read("send_interval_s"), read("hello_interval_s"));
        if send.is_none() && hello.is_none() {
            return None;
        }
        Some(send.unwrap_or(DEFAULT_SEND_S).min(hello.unwrap_or(DEFAULT_HELLO_S)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn report_interval_is_the_shorter_one_with_defaults() {
        let interval = |config: Value| {
            let device = Device {
                id: Uuid::nil(),
                device_id: DeviceId::parse("m").unwrap(),
                device_name: "m".to_owned(),
                device_type: None,
                location: None,
                status: DeviceStatus::Active,
                metadata: Map::new(),
                config: config.as_object().unwrap().clone(),
                command_key: None,
                claimable: false,
                claimed_by: None,
                created_at: Timestamp::EPOCH,
                updated_at: Timestamp::EPOCH,
                revision: 0,
            };
            device.report_interval_s()
        };
        assert_eq!(interval(json!({})), None);
        assert_eq!(interval(json!({"send_interval_s": 600})), Some(30));
        assert_eq!(interval(json!({"send_interval_s": 600, "hello_interval_s": 900})), Some(600));
        assert_eq!(interval(json!({"send_interval_s": "x"})), None);
    }
}
