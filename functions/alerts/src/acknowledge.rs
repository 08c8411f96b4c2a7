use axum::extract::State;
use axum::{Extension, Json};
use meter_http::authorization::Caller;
use meter_http::extract::{Path, ReceivedAt};
use meter_http::{ApiError, Problem};
use meter_store::{AlertStore, Stores};
use uuid::Uuid;

use crate::Alerts;
use crate::view::View;

/// Acknowledges an alert; a second acknowledgement has no effect. The body is ignored: older
/// clients send one.
pub(crate) async fn acknowledge<S: Stores>(
    State(Alerts { stores, .. }): State<Alerts<S>>,
    Path(alert_id): Path<String>,
    caller: Option<Extension<Caller>>,
    ReceivedAt(now): ReceivedAt,
) -> Result<Json<View>, ApiError> {
    let not_found = || Problem::not_found("Alert");
    let alert_id = Uuid::parse_str(&alert_id).map_err(|_| not_found())?;
    let by = caller.and_then(|Extension(caller)| caller.name);
    let alert = stores.alerts().acknowledge(alert_id, by.as_deref(), now).await?;
    Ok(Json(View::new(alert.ok_or_else(not_found)?)))
}
