//! Points of a range, windows of it, and the newest point of each metric.

mod csv;
mod view;

use meter_domain::aggregate::{Aggregate, WindowSize};
use meter_domain::metric::MetricName;
use meter_http::encoding;
use meter_http::page::{JsonArray, Pagination};
use meter_http::range::TimeRange;
use meter_http::response::{Body, Response};
use meter_http::{ApiError, Problem, Request, StatusCode, header};
use meter_service::optimistic_update;
use meter_store::{MetricStore, PointPage, PointQuery, StateStore, WindowPage, WindowQuery};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::view::View;

/// The most points in one answer, and what a client gets that names no limit: what fits.
const MAX_POINTS: usize = 40_000;

/// Parameters that decide what is in the list.
const FILTERS: [&str; 5] = ["start", "stop", "metric", "every", "aggregate"];

/// Where a page begins. The range is that of the first page: a client that asks for the last hour and
/// turns pages for a minute gets the hour that it asked for.
#[derive(Debug, Serialize, Deserialize)]
struct Position<K> {
    range: TimeRange,
    after: K,
}

/// Points of a time range, or windows of it, oldest first.
pub(crate) async fn list<T: MetricStore>(
    store: &T,
    request: &Request,
) -> Result<Response, ApiError> {
    let metric = request.query.get("metric").map(MetricName::parse).transpose();
    let metric = metric.map_err(|bad| Problem::field("metric", bad.to_string()))?;
    let every = request.query.get("every").map(WindowSize::parse).transpose();
    let every = every.map_err(|bad| Problem::field("every", bad.to_string()))?;
    let words = Aggregate::ALL.map(Aggregate::as_str).join(", ");
    let aggregate = request.query.one_of("aggregate", Aggregate::parse, &words)?;
    let paging = Pagination::from_request(request, MAX_POINTS, &FILTERS)?;
    let requested = TimeRange::from_request_or_last_hour(request)?;
    match (every, aggregate) {
        (None, None) => points(store, request, &paging, requested, metric).await,
        (Some(every), aggregate) => {
            let made = (every, aggregate.unwrap_or_default());
            windows(store, request, &paging, requested, metric, made).await
        }
        (None, Some(_)) => {
            Err(Problem::field("every", "must say how wide the windows of an aggregate are").into())
        }
    }
}

async fn points<T: MetricStore>(
    store: &T,
    request: &Request,
    paging: &Pagination<'_>,
    requested: TimeRange,
    metric: Option<MetricName>,
) -> Result<Response, ApiError> {
    let (range, after) = page_start(paging, requested)?;
    let page = match request.device_id() {
        None => PointPage { points: Vec::new(), next: None },
        Some(device_id) => {
            let TimeRange { start, stop } = range;
            let limit = paging.limit;
            let query = PointQuery { device_id, start, stop, metric, after, limit };
            store.points(&query).await?
        }
    };
    let device_id = request.params.get("device_id");
    let views: Vec<_> = page.points.iter().map(|p| View::new(device_id, p)).collect();
    let (response, shown) = render(request, &views)?;
    let keys = page.points.iter().map(|point| &point.key);
    finish_page(response, paging, range, next_position(shown, keys, page.next.clone()))
}

async fn windows<T: MetricStore>(
    store: &T,
    request: &Request,
    paging: &Pagination<'_>,
    requested: TimeRange,
    metric: Option<MetricName>,
    (every, aggregate): (WindowSize, Aggregate),
) -> Result<Response, ApiError> {
    let (range, after) = page_start(paging, requested)?;
    let page = match request.device_id() {
        None => WindowPage { windows: Vec::new(), next: None },
        Some(device_id) => {
            let TimeRange { start, stop } = range;
            let limit = paging.limit;
            let query =
                WindowQuery { device_id, start, stop, metric, every, aggregate, after, limit };
            store.windows(&query).await?
        }
    };
    let device_id = request.params.get("device_id");
    let views: Vec<_> = page.windows.iter().map(|w| View::of_window(device_id, w)).collect();
    let (response, shown) = render(request, &views)?;
    let keys = page.windows.iter().map(|window| &window.key);
    finish_page(response, paging, range, next_position(shown, keys, page.next.clone()))
}

/// The range, and what comes before the page.
fn page_start<K: DeserializeOwned>(
    paging: &Pagination<'_>,
    requested: TimeRange,
) -> Result<(TimeRange, Option<K>), Problem> {
    Ok(match paging.position::<Position<K>>()? {
        None => (requested, None),
        Some(position) => (position.range, Some(position.after)),
    })
}

/// What comes before the next page: what did not fit into the answer comes with it.
fn next_position<'a, K: Clone + 'a>(
    shown: usize,
    mut keys: impl ExactSizeIterator<Item = &'a K>,
    next: Option<K>,
) -> Option<K> {
    match shown.checked_sub(1) {
        Some(last) if shown < keys.len() => keys.nth(last).cloned(),
        _ => next,
    }
}

fn finish_page<K: Serialize>(
    response: Response,
    paging: &Pagination<'_>,
    range: TimeRange,
    next: Option<K>,
) -> Result<Response, ApiError> {
    Ok(match next {
        None => response,
        Some(after) => {
            let link = paging.next_link(&Position { range, after })?;
            response.with_header(header::LINK, link)
        }
    })
}

/// As many of the points as an answer holds, at least one, in the media type that the client likes.
fn render(request: &Request, views: &[View<'_>]) -> Result<(Response, usize), ApiError> {
    let accept = request.headers.get("accept");
    if encoding::prefers(accept, csv::MEDIA_TYPE, "application/json") {
        let (text, shown) = csv::table(views, request.max_response_bytes)?;
        let response = Response::new(StatusCode::OK, csv::CONTENT_TYPE, Body::Text(text));
        return Ok((response, shown));
    }
    let array = JsonArray::fit(views, request.max_response_bytes)?;
    let shown = array.len;
    Ok((Response::json_text(StatusCode::OK, array.into_text()), shown))
}

/// The newest point of each metric, by its own time.
pub(crate) async fn latest<S: StateStore>(
    states: &S,
    request: &Request,
) -> Result<Response, ApiError> {
    let Some(device_id) = request.device_id() else {
        return Response::ok(&[(); 0]);
    };
    let state = optimistic_update::read_state(states, &device_id).await?;
    let points = state.latest.values();
    let views: Vec<_> = points.map(|p| View::new(device_id.as_str(), p)).collect();
    Response::ok(&views)
}
