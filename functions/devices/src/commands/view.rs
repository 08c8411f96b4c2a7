use meter_domain::command::{Command, CommandKind, CommandStatus, Ota};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

/// A command in a response.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    cmd_id: Uuid,
    device_id: DeviceId,
    cmd: CommandKind,
    params: Map<String, Value>,
    status: CommandStatus,
    ack_detail: Option<String>,
    created_at: Timestamp,
    acked_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ota: Option<Ota>,
}

impl View {
    pub(super) fn new(command: Command) -> Self {
        Self {
            cmd_id: command.cmd_id,
            device_id: command.device_id,
            cmd: command.cmd,
            params: command.params,
            status: command.status,
            ack_detail: command.ack_detail,
            created_at: command.created_at,
            acked_at: command.acked_at,
            ota: command.ota,
        }
    }
}
