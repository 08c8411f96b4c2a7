use std::ops::Not;

use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::{CertificateId, DeviceId};
use meter_domain::state::{Connection, DeviceState};
use meter_domain::time::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

/// A device in a response: its registry entry and its state.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct View {
    id: Uuid,
    device_id: DeviceId,
    device_name: String,
    device_type: Option<String>,
    location: Option<String>,
    status: DeviceStatus,
    pub(crate) connection_status: Connection,
    last_seen: Option<Timestamp>,
    fw_version: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    metadata: Map<String, Value>,
    #[serde(skip_serializing_if = "Not::not")]
    claimable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_by: Option<CertificateId>,
}

impl View {
    /// The view of a device; one without a state has sent no message.
    pub(crate) fn new(device: Device, state: Option<&DeviceState>) -> Self {
        Self {
            id: device.id,
            device_id: device.device_id,
            device_name: device.device_name,
            device_type: device.device_type,
            location: device.location,
            status: device.status,
            connection_status: state.map(|s| s.presence.connection).unwrap_or_default(),
            last_seen: state.and_then(|s| s.presence.last_seen),
            fw_version: state.and_then(|s| s.fw_version.clone()),
            created_at: device.created_at,
            updated_at: device.updated_at,
            metadata: device.metadata,
            claimable: device.claimable,
            claimed_by: device.claimed_by,
        }
    }
}
