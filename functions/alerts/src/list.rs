use meter_domain::alert::{AlertState, Severity};
use meter_http::page::{self, MAX_ITEMS, Paging};
use meter_http::{Answer, Failure, Request};
use meter_store::{AlertFilter, AlertStore, Page};

use crate::view::View;

/// A device's alerts, newest first.
pub(crate) async fn of_device<A: AlertStore>(
    alerts: &A,
    request: &Request,
) -> Result<Answer, Failure> {
    let filter = filter(request)?;
    match request.device_id() {
        None => {
            Paging::of(request, MAX_ITEMS, &FILTERS)?;
            Answer::ok(&[(); 0])
        }
        device_id => list(alerts, request, AlertFilter { device_id, ..filter }).await,
    }
}

/// The fleet's alerts, newest first.
pub(crate) async fn of_fleet<A: AlertStore>(
    alerts: &A,
    request: &Request,
) -> Result<Answer, Failure> {
    list(alerts, request, filter(request)?).await
}

const FILTERS: [&str; 3] = ["acknowledged", "severity", "state"];

fn filter(request: &Request) -> Result<AlertFilter, Failure> {
    let query = &request.query;
    Ok(AlertFilter {
        device_id: None,
        acknowledged: query.word("acknowledged", parse_bool, "true, false")?,
        severity: query.word("severity", Severity::parse, "info, warning, critical")?,
        state: query.word("state", AlertState::parse, "open, acknowledged, resolved")?,
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
) -> Result<Answer, Failure> {
    let paging = Paging::of(request, MAX_ITEMS, &FILTERS)?;
    let filter = &filter;
    page::list(&paging, |request| async move {
        let Page { items, next } = alerts.list(filter, &request).await?;
        Ok(Page { items: items.into_iter().map(View::new).collect::<Vec<_>>(), next })
    })
    .await
}
