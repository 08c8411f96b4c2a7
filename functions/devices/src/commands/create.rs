use axum::Json;
use axum::extract::State;
use meter_domain::command::{Command, CommandKind, CommandStatus};
use meter_domain::id::{DeviceId, new_id};
use meter_domain::time::Timestamp;
use meter_http::extract::{DevicePath, ReceivedAt, ValidJson};
use meter_http::fields::{Fields, FromFields};
use meter_http::idempotency::{self, Idempotency};
use meter_http::{ApiError, Problem, StatusCode};
use meter_service::command_publisher::{self, PublishOutcome};
use meter_store::{CommandStore, CreateOutcome, Stores};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::params;
use crate::{Devices, device_not_found};

/// The response: the command as created, without later changes.
#[derive(Debug, Serialize)]
pub(crate) struct Receipt {
    cmd_id: Uuid,
    device_id: DeviceId,
    cmd: CommandKind,
    status: CommandStatus,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mqtt_error: Option<&'static str>,
}

/// A command to create.
#[derive(Debug)]
pub(crate) struct NewCommand {
    cmd: CommandKind,
    params: Map<String, Value>,
}

impl FromFields for NewCommand {
    fn from_fields(fields: &Fields<'_>, _: Timestamp) -> Result<Self, Problem> {
        let kinds = CommandKind::ALL.map(CommandKind::as_str).join(", ");
        let cmd = fields.one_of("cmd", CommandKind::parse, &kinds)?;
        let cmd = cmd.ok_or_else(|| fields.invalid("cmd", "is missing"))?;
        let params = fields.object("params")?.cloned().unwrap_or_default();
        params::check(cmd, &params)?;
        Ok(Self { cmd, params })
    }
}

/// Stores a command, then publishes it: a published command that is not stored cannot be
/// acknowledged.
pub(crate) async fn create<S: Stores>(
    State(Devices { stores, command_timeout_s, .. }): State<Devices<S>>,
    DevicePath(device_id): DevicePath,
    Idempotency(key): Idempotency,
    ReceivedAt(now): ReceivedAt,
    ValidJson(NewCommand { cmd, params }): ValidJson<NewCommand>,
) -> Result<(StatusCode, Json<Receipt>), ApiError> {
    let command = Command {
        cmd_id: new_id(now),
        device_id,
        cmd,
        params,
        status: CommandStatus::Pending,
        ack_detail: None,
        created_at: now,
        published_at: None,
        acked_at: None,
        expires_at: now.plus_seconds(i64::from(command_timeout_s)),
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
    let mqtt_error = publish(&stores, &command, now).await?;
    let (status, message) = match mqtt_error {
        None => (StatusCode::CREATED, "Command sent"),
        Some(_) => (StatusCode::ACCEPTED, "Command stored; its publication is not confirmed"),
    };
    let receipt = Receipt {
        cmd_id: command.cmd_id,
        device_id: command.device_id,
        cmd: command.cmd,
        status: CommandStatus::Pending,
        message,
        mqtt_error,
    };
    Ok((status, Json(receipt)))
}

/// Publishes a command unless it is published already; returns why the publication failed.
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
        PublishOutcome::Failed => Some("the broker did not accept it"),
        PublishOutcome::OutcomeUnknown => {
            Some("it is unknown whether the broker accepted it; it is not sent twice")
        }
        PublishOutcome::AlreadyClaimed => Some("it is being published already, or has expired"),
        PublishOutcome::Expired => Some("it expired before it could be published"),
    })
}
