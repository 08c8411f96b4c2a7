use meter_domain::command::{Command, CommandKind, CommandStatus};
use meter_domain::id::{DeviceId, new_id};
use meter_domain::time::Timestamp;
use meter_http::body::{self, Fields};
use meter_http::{ApiError, Request, Response, StatusCode, idempotency};
use meter_service::command_publisher::{self, PublishOutcome};
use meter_store::{CommandStore, CreateOutcome, Stores};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::params;
use crate::{device_not_found, require_device_id};

/// What the client gets: the command as it was made, whatever has become of it since.
#[derive(Debug, Serialize)]
struct Receipt {
    cmd_id: Uuid,
    device_id: DeviceId,
    cmd: CommandKind,
    status: CommandStatus,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mqtt_error: Option<&'static str>,
}

/// Stores a command, then publishes it: one that is published but not stored could never be answered.
pub(crate) async fn create<S: Stores>(
    stores: &S,
    timeout_s: u32,
    request: &Request,
) -> Result<Response, ApiError> {
    let device_id = require_device_id(request)?;
    let (cmd, params) = read(request)?;
    let key = idempotency::key(request)?;
    let command = Command {
        cmd_id: new_id(request.now),
        device_id,
        cmd,
        params,
        status: CommandStatus::Pending,
        ack_detail: None,
        created_at: request.now,
        published_at: None,
        acked_at: None,
        expires_at: request.now.plus_seconds(i64::from(timeout_s)),
        ota: None,
    };
    let command = match stores.commands().create(&command, key.as_ref()).await? {
        CreateOutcome::Created => command,
        CreateOutcome::DeviceNotFound => return Err(device_not_found().into()),
        CreateOutcome::AlreadyExists(first)
            if (first.cmd, &first.params) == (command.cmd, &command.params) =>
        {
            first
        }
        CreateOutcome::AlreadyExists(_) => return Err(idempotency::key_reused().into()),
    };
    let mqtt_error = publish(stores, &command, request.now).await?;
    let (status, message) = match mqtt_error {
        None => (StatusCode::CREATED, "Command sent"),
        Some(_) => (StatusCode::ACCEPTED, "Command stored, but not known to be sent"),
    };
    let receipt = Receipt {
        cmd_id: command.cmd_id,
        device_id: command.device_id,
        cmd: command.cmd,
        status: CommandStatus::Pending,
        message,
        mqtt_error,
    };
    Response::json(status, &receipt)
}

fn read(request: &Request) -> Result<(CommandKind, Map<String, Value>), ApiError> {
    let body = body::parse_object(request)?;
    let fields = Fields::new(&body);
    let known = CommandKind::ALL.map(CommandKind::as_str).join(", ");
    let cmd = fields
        .one_of("cmd", CommandKind::parse, &known)?
        .ok_or_else(|| fields.invalid("cmd", "is missing"))?;
    let params = fields.object("params")?.cloned().unwrap_or_default();
    params::check(cmd, &params)?;
    Ok((cmd, params))
}

/// Publishes a command unless the broker has it already; why that failed, in words for the client.
async fn publish<S: Stores>(
    stores: &S,
    command: &Command,
    now: Timestamp,
) -> Result<Option<&'static str>, ApiError> {
    if command.published_at.is_some() {
        return Ok(None);
    }
    Ok(match command_publisher::publish(stores, command, now).await? {
        PublishOutcome::Published => None,
        PublishOutcome::Failed => Some("the broker did not take it"),
        PublishOutcome::OutcomeUnknown => {
            Some("nobody knows whether the broker took it, and it is not sent twice")
        }
        PublishOutcome::AlreadyClaimed => {
            Some("it is being published already, or its time is over")
        }
        PublishOutcome::Expired => Some("it expired before it could be published"),
    })
}
