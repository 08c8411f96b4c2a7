//! Points of a range, windows of it, and the newest point of each metric.

mod csv;
mod view;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use meter_domain::aggregate::{Aggregate, WindowSize};
use meter_domain::id::DeviceId;
use meter_domain::metric::MetricName;
use meter_domain::time::Timestamp;
use meter_http::extract::{Accept, DevicePath};
use meter_http::fields::{Fields, FromFields};
use meter_http::page::{Filter, JsonArray, Pagination};
use meter_http::range::TimeRange;
use meter_http::{ApiError, Problem, header};
use meter_service::optimistic_update;
use meter_store::{MetricStore, PointQuery, Stores, WindowQuery};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::view::View;
use crate::Devices;

/// The most points in one response, and the default of `limit`: about what fits.
const MAX_POINTS: usize = 40_000;

/// The parameters of a list of points.
#[derive(Debug)]
pub(crate) struct ListQuery {
    range: TimeRange,
    metric: Option<MetricName>,
    windows: Option<(WindowSize, Aggregate)>,
}

impl FromFields for ListQuery {
    fn from_fields(fields: &Fields<'_>, now: Timestamp) -> Result<Self, Problem> {
        let text = |name| fields.string(name, 0..=usize::MAX);
        let metric = text("metric")?.map(MetricName::parse).transpose();
        let metric = metric.map_err(|invalid| fields.invalid("metric", invalid.to_string()))?;
        let every = text("every")?.map(WindowSize::parse).transpose();
        let every = every.map_err(|invalid| fields.invalid("every", invalid.to_string()))?;
        let words = Aggregate::ALL.map(Aggregate::as_str).join(", ");
        let windows = match (every, fields.one_of("aggregate", Aggregate::parse, &words)?) {
            (None, None) => None,
            (Some(every), aggregate) => Some((every, aggregate.unwrap_or_default())),
            (None, Some(_)) => {
                return Err(fields.invalid("every", "is missing: an aggregate needs a window size"));
            }
        };
        let range = TimeRange::from_fields_or_last_hour(fields, now)?;
        Ok(Self { range, metric, windows })
    }
}

impl Filter for ListQuery {
    const NAMES: &'static [&'static str] = &["start", "stop", "metric", "every", "aggregate"];
    const MAX_ITEMS: usize = MAX_POINTS;
}

/// The position at which a page begins. Its range is the one of the first page: the pages of the
/// last hour belong to one hour, however long a client takes to read them.
#[derive(Debug, Serialize, Deserialize)]
struct Position<K> {
    range: TimeRange,
    after: K,
}

/// Points of a time range, or windows of it, oldest first.
pub(crate) async fn list<S: Stores>(
    State(Devices { stores, .. }): State<Devices<S>>,
    device: Option<DevicePath>,
    accept: Accept,
    paging: Pagination<ListQuery>,
) -> Result<Response, ApiError> {
    let Some(DevicePath(id)) = device else { return Ok(render(&accept, &paging, &[])?.0) };
    match paging.filter.windows {
        None => points(stores.metrics(), &paging, &accept, id).await,
        Some(windows_of) => windows(stores.metrics(), &paging, &accept, id, windows_of).await,
    }
}

async fn points<T: MetricStore>(
    store: &T,
    paging: &Pagination<ListQuery>,
    accept: &Accept,
    device_id: DeviceId,
) -> Result<Response, ApiError> {
    let (range, after) = page_start(paging)?;
    let TimeRange { start, stop } = range;
    let (metric, limit) = (paging.filter.metric.clone(), paging.limit);
    let query = PointQuery { device_id, start, stop, metric, after, limit };
    let page = store.points(&query).await?;
    let device_id = query.device_id.as_str();
    let views: Vec<_> = page.points.iter().map(|p| View::new(device_id, p)).collect();
    let (response, shown) = render(accept, paging, &views)?;
    let keys = page.points.iter().map(|point| &point.key);
    finish_page(response, paging, range, next_position(shown, keys, page.next.clone()))
}

async fn windows<T: MetricStore>(
    store: &T,
    paging: &Pagination<ListQuery>,
    accept: &Accept,
    device_id: DeviceId,
    (every, aggregate): (WindowSize, Aggregate),
) -> Result<Response, ApiError> {
    let (range, after) = page_start(paging)?;
    let TimeRange { start, stop } = range;
    let (metric, limit) = (paging.filter.metric.clone(), paging.limit);
    let query = WindowQuery { device_id, start, stop, metric, every, aggregate, after, limit };
    let page = store.windows(&query).await?;
    let device_id = query.device_id.as_str();
    let views: Vec<_> = page.windows.iter().map(|w| View::of_window(device_id, w)).collect();
    let (response, shown) = render(accept, paging, &views)?;
    let keys = page.windows.iter().map(|window| &window.key);
    finish_page(response, paging, range, next_position(shown, keys, page.next.clone()))
}

/// The range of the list, and the key after which the page begins.
fn page_start<K: DeserializeOwned>(
    paging: &Pagination<ListQuery>,
) -> Result<(TimeRange, Option<K>), Problem> {
    Ok(match paging.position::<Position<K>>()? {
        None => (paging.filter.range, None),
        Some(position) => (position.range, Some(position.after)),
    })
}

/// The key after which the next page begins. That page has the items that did not fit into this
/// one.
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
    paging: &Pagination<ListQuery>,
    range: TimeRange,
    next: Option<K>,
) -> Result<Response, ApiError> {
    let next = next.map(|after| Position { range, after });
    Ok((paging.next_link(next.as_ref())?, response).into_response())
}

/// The first points that fit into a response, in the media type that the client prefers, and their
/// number, which is at least one if there are points.
fn render(
    accept: &Accept,
    paging: &Pagination<ListQuery>,
    views: &[View<'_>],
) -> Result<(Response, usize), ApiError> {
    if accept.prefers(csv::MEDIA_TYPE, "application/json") {
        let (text, shown) = csv::table(views, paging.max_response_bytes)?;
        let response = ([(header::CONTENT_TYPE, csv::CONTENT_TYPE)], text).into_response();
        return Ok((response, shown));
    }
    let array = JsonArray::fit(views, paging.max_response_bytes)?;
    let shown = array.len;
    Ok((array.into_response(), shown))
}

/// The newest point of each metric, by the time of the point.
pub(crate) async fn latest<S: Stores>(
    State(Devices { stores, .. }): State<Devices<S>>,
    device: Option<DevicePath>,
) -> Result<Response, ApiError> {
    let Some(DevicePath(id)) = device else { return Ok(Json([(); 0]).into_response()) };
    let state = optimistic_update::read_state(stores.states(), &id).await?;
    let points = state.latest.values();
    let views: Vec<_> = points.map(|point| View::new(id.as_str(), point)).collect();
    Ok(Json(views).into_response())
}
