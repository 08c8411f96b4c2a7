//! A command as an item.

use meter_domain::command::{Command, CommandKind, CommandStatus};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_store::{PUBLISH_RETRY_DELAY_S, StoreError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::dynamodb::due;
use crate::dynamodb::item::{Item, decode, encode, from_json, to_json};

/// Status and kind are words of their own, so that conditions can name them.
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

/// The item of a command that was made just now.
pub(super) fn to_item(command: &Command) -> Result<Item, StoreError> {
    let patience_ends = command.created_at.plus_seconds(PUBLISH_RETRY_DELAY_S);
    let due =
        (command.status == CommandStatus::Pending).then(|| patience_ends.min(command.expires_at));
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

/// The reverse of [`to_item`].
pub(super) fn from_item(item: Item) -> Result<Command, StoreError> {
    let row: CommandItem = decode(item)?;
    let name = row.cmd_id.to_string();
    let ota = row.ota.as_deref().map(|json| from_json(&name, json));
    Ok(Command {
        params: from_json(&name, &row.params)?,
        ota: ota.transpose()?,
        cmd_id: row.cmd_id,
        device_id: row.device_id,
        cmd: row.cmd,
        status: row.status,
        ack_detail: row.ack_detail,
        created_at: row.created_at,
        published_at: row.published_at,
        acked_at: row.acked_at,
        expires_at: row.expires_at,
    })
}
