use axum::Json;
use axum::extract::State;
use meter_domain::command::AckResult;
use meter_domain::time::Timestamp;
use meter_http::extract::{Path, ReceivedAt, ValidJson};
use meter_http::fields::{Fields, FromFields};
use meter_http::{ApiError, Problem};
use meter_service::report_interval;
use meter_store::{AcknowledgeOutcome, CommandStore, Stores};
use uuid::Uuid;

use super::view::View;
use crate::Devices;

/// The longest `detail`, in characters.
const MAX_DETAIL: usize = 1_024;

/// An acknowledgement of a command.
#[derive(Debug)]
pub(crate) struct Acknowledgement {
    result: AckResult,
    detail: Option<String>,
}

impl FromFields for Acknowledgement {
    fn from_fields(fields: &Fields<'_>, _: Timestamp) -> Result<Self, Problem> {
        const RESULTS: &str = "accepted, rejected, error, unsupported";
        let result = fields.one_of("result", AckResult::parse, RESULTS)?;
        Ok(Self {
            result: result.ok_or_else(|| fields.invalid("result", "is missing"))?,
            detail: fields.string("detail", 0..=MAX_DETAIL)?.map(str::to_owned),
        })
    }
}

/// Records the acknowledgement of a command. Only the first one counts; the response to a later one
/// is the unchanged command.
pub(crate) async fn acknowledge<S: Stores>(
    State(Devices { stores, policy, .. }): State<Devices<S>>,
    Path(cmd_id): Path<String>,
    ReceivedAt(now): ReceivedAt,
    ValidJson(Acknowledgement { result, detail }): ValidJson<Acknowledgement>,
) -> Result<Json<View>, ApiError> {
    let not_found = || Problem::not_found("Command");
    let cmd_id = Uuid::parse_str(&cmd_id).map_err(|_| not_found())?;
    let commands = stores.commands();
    let device_id = commands.find_device(cmd_id).await?.ok_or_else(not_found)?;
    let detail = detail.as_deref();
    let outcome = commands.record_acknowledgement(&device_id, cmd_id, result, detail, now).await?;
    if outcome.changes_configuration() {
        report_interval::sync(&stores, &device_id, now, &policy).await?;
    }
    match outcome {
        AcknowledgeOutcome::Recorded(command) | AcknowledgeOutcome::AlreadyRecorded(command) => {
            Ok(Json(View::new(command)))
        }
        AcknowledgeOutcome::CommandNotFound => Err(not_found().into()),
    }
}
