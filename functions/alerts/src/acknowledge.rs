use meter_http::{ApiError, Problem, Request, Response};
use meter_store::AlertStore;
use uuid::Uuid;

use crate::view::View;

/// Says that somebody has seen it; saying it twice is no error. A body is not looked at: older clients
/// send one or none.
pub(crate) async fn acknowledge<A: AlertStore>(
    alerts: &A,
    request: &Request,
) -> Result<Response, ApiError> {
    let none = || Problem::not_found("Alert");
    let alert_id = Uuid::parse_str(request.params.get("alert_id")).map_err(|_| none())?;
    let by = request.caller.as_ref().and_then(|caller| caller.name.as_deref());
    let alert = alerts.acknowledge(alert_id, by, request.now).await?;
    Response::ok(&View::new(alert.ok_or_else(none)?))
}
