use meter_domain::command::AckResult;
use meter_domain::state::DevicePolicy;
use meter_http::body::{self, Fields};
use meter_http::{ApiError, Problem, Request, Response};
use meter_service::report_interval;
use meter_store::{AcknowledgeOutcome, CommandStore, Stores};
use uuid::Uuid;

use super::view::View;

/// The longest `detail`, in characters.
const MAX_DETAIL: usize = 1_024;

/// A device's answer to a command, over HTTP. The first answer stands: a later one is told so by the
/// command as it is.
pub(crate) async fn acknowledge<S: Stores>(
    stores: &S,
    policy: &DevicePolicy,
    request: &Request,
) -> Result<Response, ApiError> {
    const RESULTS: &str = "accepted, rejected, error, unsupported";
    let body = body::parse_object(request)?;
    let fields = Fields::new(&body);
    let result = fields
        .one_of("result", AckResult::parse, RESULTS)?
        .ok_or_else(|| fields.invalid("result", "is missing"))?;
    let detail = fields.string("detail", 0..=MAX_DETAIL)?;

    let none = || Problem::not_found("Command");
    let cmd_id = Uuid::parse_str(request.params.get("cmd_id")).map_err(|_| none())?;
    let commands = stores.commands();
    let device_id = commands.find_device(cmd_id).await?.ok_or_else(none)?;
    let finished =
        commands.record_acknowledgement(&device_id, cmd_id, result, detail, request.now).await?;
    if finished.changes_configuration() {
        report_interval::sync(stores, &device_id, request.now, policy).await?;
    }
    match finished {
        AcknowledgeOutcome::Recorded(command) | AcknowledgeOutcome::AlreadyRecorded(command) => {
            Response::ok(&View::new(command))
        }
        AcknowledgeOutcome::CommandNotFound => Err(none().into()),
    }
}
