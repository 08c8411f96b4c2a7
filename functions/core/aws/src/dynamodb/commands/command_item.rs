//! A command as an item.

use meter_domain::command::{Command, CommandKind, CommandStatus};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_store::{PUBLISH_RETRY_DELAY_S, StoreError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::dynamodb::due;
use crate::dynamodb::item::{Item, decode, encode, from_json, to_json};

/// `params` and `ota` are JSON text; the other attributes can appear in conditions.
#[derive(Debug, Serialize, Deserialize)]
struct CommandItem {
    device_id: DeviceId,
    cmd_id: Uuid,
    cmd: CommandKind,
    params: String,
    status: CommandStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ack_detail: Option<String>,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    published_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acked_at: Option<Timestamp>,
    #[serde(serialize_with = "due::serialize_as_key")]
    expires_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ota: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_shard: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    due_at: Option<String>,
}

/// Encodes a new command, which is due at the end of the publish delay.
pub(super) fn to_item(command: &Command) -> Result<Item, StoreError> {
    let publish_due = command.created_at.plus_seconds(PUBLISH_RETRY_DELAY_S);
    let due =
        (command.status == CommandStatus::Pending).then(|| publish_due.min(command.expires_at));
    encode(&CommandItem {
        device_id: command.device_id.clone(),
        cmd_id: command.cmd_id,
        cmd: command.cmd,
        params: to_json(&command.params)?,
        status: command.status,
        ack_detail: command.ack_detail.clone(),
        created_at: command.created_at,
        published_at: command.published_at,
        acked_at: command.acked_at,
        expires_at: command.expires_at,
        ota: command.ota.as_ref().map(to_json).transpose()?,
        due_shard: due.map(|_| due::shard(&command.device_id)),
        due_at: due.map(Timestamp::key),
    })
}

/// Decodes a command.
pub(super) fn from_item(item: Item) -> Result<Command, StoreError> {
    let item: CommandItem = decode(item)?;
    let name = item.cmd_id.to_string();
    let ota = item.ota.as_deref().map(|json| from_json(&name, json));
    Ok(Command {
        params: from_json(&name, &item.params)?,
        ota: ota.transpose()?,
        cmd_id: item.cmd_id,
        device_id: item.device_id,
        cmd: item.cmd,
        status: item.status,
        ack_detail: item.ack_detail,
        created_at: item.created_at,
        published_at: item.published_at,
        acked_at: item.acked_at,
        expires_at: item.expires_at,
    })
}
