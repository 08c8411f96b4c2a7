use meter_domain::command::AckResult;
use meter_domain::state::Rules;
use meter_http::body::{self, Fields};
use meter_http::{Answer, Failure, Problem, Request};
use meter_service::outbox::Outbox;
use meter_service::reporting;
use meter_store::{AlertStore, CommandPublisher, CommandStore, DeviceStore, Finished, StateStore};
use uuid::Uuid;

use super::view::View;

/// The longest `detail`, in characters.
const MAX_DETAIL: usize = 1_024;

/// A device's answer to a command, over HTTP. The first answer stands: a later one is told so by the
/// command as it is.
pub(crate) async fn acknowledge<S, A, C, D, P>(
    stores: &Outbox<S, A, C, D, P>,
    rules: &Rules,
    request: &Request,
) -> Result<Answer, Failure>
where
    S: StateStore,
    A: AlertStore,
    C: CommandStore,
    D: DeviceStore,
    P: CommandPublisher,
{
    const RESULTS: &str = "accepted, rejected, error, unsupported";
    let body = body::object(request)?;
    let fields = Fields::of(&body);
    let result = fields
        .word("result", AckResult::parse, RESULTS)?
        .ok_or_else(|| fields.wrong("result", "is missing"))?;
    let detail = fields.text("detail", 0..=MAX_DETAIL)?;

    let none = || Problem::not_found("Command");
    let cmd_id = Uuid::parse_str(request.params.get("cmd_id")).map_err(|_| none())?;
    let Outbox { commands, states, registry, .. } = stores;
    let device_id = commands.device_of(cmd_id).await?.ok_or_else(none)?;
    let finished = commands.finish(&device_id, cmd_id, result, detail, request.now).await?;
    if finished.brings_configuration() {
        reporting::follow(states, registry, &device_id, request.now, rules).await?;
    }
    match finished {
        Finished::Now(command) | Finished::Before(command) => Answer::ok(&View::new(command)),
        Finished::Unknown => Err(none().into()),
    }
}
