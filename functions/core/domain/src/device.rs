//! Devices: the registry's row. What a device does (presence, sessions) is in [`crate::state`].

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::id::{CertificateId, DeviceId};
use crate::time::Timestamp;

/// Whether the owner uses the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceStatus {
    /// In use.
    Active,
    /// Taken out of use; its telemetry is stored all the same.
    Inactive,
}

impl DeviceStatus {
    /// Every value.
    pub const ALL: [Self; 2] = [Self::Active, Self::Inactive];

    /// The API's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }

    /// Reads the API's word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// A registered device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// The registration's id; sorts by `created_at`. A device registered again gets another.
    pub id: Uuid,
    /// The thing's name.
    pub device_id: DeviceId,
    /// For people.
    pub device_name: String,
    /// For people and rules (`power_meter_dc`).
    pub device_type: Option<String>,
    /// For people.
    pub location: Option<String>,
    /// Whether it is in use.
    pub status: DeviceStatus,
    /// The owner's own data.
    pub metadata: Map<String, Value>,
    /// The configuration in force: what accepted `update_config` commands and `PUT …/config` made it.
    pub config: Map<String, Value>,
    /// The secret, as text, with which its commands are signed; none: they are not.
    pub command_key: Option<String>,
    /// Whether fleet provisioning may give its name to who claims it; the first claim ends that.
    pub claimable: bool,
    /// The certificate that fleet provisioning gave its name to last.
    pub claimed_by: Option<CertificateId>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When this row was changed last.
    pub updated_at: Timestamp,
    /// Counts changes of this row: the lock of every update.
    pub revision: u64,
}

impl Device {
    /// The shorter of the intervals at which the configuration has the device send or say hello, in seconds; none:
    /// nothing is configured. The defaults are those of docs/protocol.md.
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
    fn the_shorter_interval_counts_and_one_that_is_not_configured_has_its_default() {
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
