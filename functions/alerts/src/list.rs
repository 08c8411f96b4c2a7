use meter_domain::alert::{AlertState, Severity};
use meter_http::page::{self, MAX_ITEMS, Pagination};
use meter_http::{ApiError, Request, Response};
use meter_store::{AlertFilter, AlertStore, Page};

use crate::view::View;

/// A device's alerts, newest first.
pub(crate) async fn list_for_device<A: AlertStore>(
    alerts: &A,
    request: &Request,
) -> Result<Response, ApiError> {
    let filter = filter(request)?;
    match request.device_id() {
        None => {
            Pagination::from_request(request, MAX_ITEMS, &FILTERS)?;
            Response::ok(&[(); 0])
        }
        device_id => list(alerts, request, AlertFilter { device_id, ..filter }).await,
    }
}

/// The fleet's alerts, newest first.
pub(crate) async fn list_all<A: AlertStore>(
    alerts: &A,
    request: &Request,
) -> Result<Response, ApiError> {
    list(alerts, request, filter(request)?).await
}

const FILTERS: [&str; 3] = ["acknowledged", "severity", "state"];

fn filter(request: &Request) -> Result<AlertFilter, ApiError> {
    let query = &request.query;
    Ok(AlertFilter {
        device_id: None,
        acknowledged: query.one_of("acknowledged", parse_bool, "true, false")?,
        severity: query.one_of("severity", Severity::parse, "info, warning, critical")?,
        state: query.one_of("state", AlertState::parse, "open, acknowledged, resolved")?,
    })
}

/// In any case of letters: Python writes `True`.
fn parse_bool(text: &str) -> Option<bool> {
    text.to_ascii_lowercase().parse().ok()
}

async fn list<A: AlertStore>(
    alerts: &A,
    request: &Request,
    filter: AlertFilter,
) -> Result<Response, ApiError> {
    let paging = Pagination::from_request(request, MAX_ITEMS, &FILTERS)?;
    let filter = &filter;
    page::list(&paging, |request| async move {
        let Page { items, next } = alerts.list(filter, &request).await?;
        Ok(Page { items: items.into_iter().map(View::new).collect::<Vec<_>>(), next })
    })
    .await
}
