use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use meter_domain::command::CommandStatus;
use meter_domain::time::Timestamp;
use meter_http::extract::DevicePath;
use meter_http::fields::{Fields, FromFields};
use meter_http::page::{self, Filter, Pagination};
use meter_http::{ApiError, Problem};
use meter_store::{CommandStore, Stores};

use super::view::View;
use crate::Devices;

/// The filter of a list of commands.
#[derive(Debug)]
pub(crate) struct ListQuery {
    status: Option<CommandStatus>,
}

impl FromFields for ListQuery {
    fn from_fields(fields: &Fields<'_>, _: Timestamp) -> Result<Self, Problem> {
        const STATUSES: &str = "pending, accepted, rejected, error, unsupported, timeout";
        Ok(Self { status: fields.one_of("status", CommandStatus::parse, STATUSES)? })
    }
}

impl Filter for ListQuery {
    const NAMES: &'static [&'static str] = &["status"];
}

/// A device's commands, newest first.
pub(crate) async fn list<S: Stores>(
    State(Devices { stores, .. }): State<Devices<S>>,
    device: Option<DevicePath>,
    paging: Pagination<ListQuery>,
) -> Result<Response, ApiError> {
    let Some(DevicePath(id)) = &device else { return Ok(Json([(); 0]).into_response()) };
    let (commands, status) = (stores.commands(), paging.filter.status);
    page::list(&paging, View::new, async |page| commands.list(id, status, &page).await).await
}
