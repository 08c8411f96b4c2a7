use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use meter_domain::alert::{AlertState, Severity};
use meter_domain::time::Timestamp;
use meter_http::extract::DevicePath;
use meter_http::fields::{Fields, FromFields};
use meter_http::page::{self, Filter, Pagination};
use meter_http::{ApiError, Problem};
use meter_store::{AlertFilter, AlertStore, Stores};

use crate::Alerts;
use crate::view::View;

/// The filters of a list of alerts.
#[derive(Debug)]
pub(crate) struct ListQuery(AlertFilter);

impl FromFields for ListQuery {
    fn from_fields(fields: &Fields<'_>, _: Timestamp) -> Result<Self, Problem> {
        Ok(Self(AlertFilter {
            device_id: None,
            acknowledged: fields.one_of("acknowledged", parse_bool, "true, false")?,
            severity: fields.one_of("severity", Severity::parse, "info, warning, critical")?,
            state: fields.one_of("state", AlertState::parse, "open, acknowledged, resolved")?,
        }))
    }
}

impl Filter for ListQuery {
    const NAMES: &'static [&'static str] = &["acknowledged", "severity", "state"];
}

/// In upper or lower case: Python clients send `True`.
fn parse_bool(text: &str) -> Option<bool> {
    text.to_ascii_lowercase().parse().ok()
}

/// A device's alerts, newest first.
pub(crate) async fn list_for_device<S: Stores>(
    State(Alerts { stores, .. }): State<Alerts<S>>,
    device: Option<DevicePath>,
    paging: Pagination<ListQuery>,
) -> Result<Response, ApiError> {
    let Some(DevicePath(device_id)) = device else { return Ok(Json([(); 0]).into_response()) };
    let filter = AlertFilter { device_id: Some(device_id), ..paging.filter.0.clone() };
    list(&stores, &paging, &filter).await
}

/// The fleet's alerts, newest first.
pub(crate) async fn list_all<S: Stores>(
    State(Alerts { stores, .. }): State<Alerts<S>>,
    paging: Pagination<ListQuery>,
) -> Result<Response, ApiError> {
    list(&stores, &paging, &paging.filter.0).await
}

async fn list<S: Stores>(
    stores: &S,
    paging: &Pagination<ListQuery>,
    filter: &AlertFilter,
) -> Result<Response, ApiError> {
    let alerts = stores.alerts();
    page::list(paging, View::new, async |page| alerts.list(filter, &page).await).await
}
