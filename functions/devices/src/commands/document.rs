//! A command as devices read it (protocol.md, Commands).

use bytes::Bytes;
use meter_core::command::{Command, CommandKind};
use meter_core::time::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

#[derive(Serialize)]
struct Document<'a> {
    v: u8,
    cmd_id: Uuid,
    ts: Timestamp,
    expires_at: Timestamp,
    cmd: CommandKind,
    params: &'a Map<String, Value>,
}

/// The payload of a command. A function of what is stored and of nothing else, so that a device that
/// gets it twice gets the same twice.
pub(super) fn document(command: &Command) -> Result<Bytes, serde_json::Error> {
    let document = Document {
        v: 2,
        cmd_id: command.cmd_id,
        ts: command.created_at,
        expires_at: command.expires_at,
        cmd: command.cmd,
        params: &command.params,
    };
    serde_json::to_vec(&document).map(Bytes::from)
}
