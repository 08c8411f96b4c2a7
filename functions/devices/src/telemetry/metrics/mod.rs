//! Points of a range, windows of it, and the newest point of each metric.

mod csv;
mod view;

use meter_domain::aggregate::{Aggregate, Every};
use meter_domain::metric::MetricName;
use meter_http::answer::{Answer, Body};
use meter_http::encoding;
use meter_http::page::{Array, Paging};
use meter_http::range::TimeRange;
use meter_http::{Failure, Problem, Request, StatusCode, header};
use meter_service::lock;
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
pub(crate) async fn list<T: MetricStore>(store: &T, request: &Request) -> Result<Answer, Failure> {
    let metric = request.query.get("metric").map(MetricName::parse).transpose();
    let metric = metric.map_err(|bad| Problem::field("metric", bad.to_string()))?;
    let every = request.query.get("every").map(Every::parse).transpose();
    let every = every.map_err(|bad| Problem::field("every", bad.to_string()))?;
    let words = Aggregate::ALL.map(Aggregate::as_str).join(", ");
    let aggregate = request.query.word("aggregate", Aggregate::parse, &words)?;
    let paging = Paging::of(request, MAX_POINTS, &FILTERS)?;
    let asked = TimeRange::last_hour_of(request)?;
    match (every, aggregate) {
        (None, None) => points(store, request, &paging, asked, metric).await,
        (Some(every), aggregate) => {
            let made = (every, aggregate.unwrap_or_default());
            windows(store, request, &paging, asked, metric, made).await
        }
        (None, Some(_)) => {
            Err(Problem::field("every", "must say how wide the windows of an aggregate are").into())
        }
    }
}

async fn points<T: MetricStore>(
    store: &T,
    request: &Request,
    paging: &Paging<'_>,
    asked: TimeRange,
    metric: Option<MetricName>,
) -> Result<Answer, Failure> {
    let (range, after) = begin(paging, asked)?;
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
    let (answer, shown) = show(request, &views)?;
    let keys = page.points.iter().map(|point| &point.key);
    end(answer, paging, range, next(shown, keys, page.next.clone()))
}

async fn windows<T: MetricStore>(
    store: &T,
    request: &Request,
    paging: &Paging<'_>,
    asked: TimeRange,
    metric: Option<MetricName>,
    (every, aggregate): (Every, Aggregate),
) -> Result<Answer, Failure> {
    let (range, after) = begin(paging, asked)?;
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
    let (answer, shown) = show(request, &views)?;
    let keys = page.windows.iter().map(|window| &window.key);
    end(answer, paging, range, next(shown, keys, page.next.clone()))
}

/// The range, and what comes before the page.
fn begin<K: DeserializeOwned>(
    paging: &Paging<'_>,
    asked: TimeRange,
) -> Result<(TimeRange, Option<K>), Problem> {
    Ok(match paging.position::<Position<K>>()? {
        None => (asked, None),
        Some(position) => (position.range, Some(position.after)),
    })
}

/// What comes before the next page: what did not fit into the answer comes with it.
fn next<'a, K: Clone + 'a>(
    shown: usize,
    mut keys: impl ExactSizeIterator<Item = &'a K>,
    next: Option<K>,
) -> Option<K> {
    match shown.checked_sub(1) {
        Some(last) if shown < keys.len() => keys.nth(last).cloned(),
        _ => next,
    }
}

fn end<K: Serialize>(
    answer: Answer,
    paging: &Paging<'_>,
    range: TimeRange,
    next: Option<K>,
) -> Result<Answer, Failure> {
    Ok(match next {
        None => answer,
        Some(after) => {
            let link = paging.next_link(&Position { range, after })?;
            answer.with_header(header::LINK, link)
        }
    })
}

/// As many of the points as an answer holds, at least one, in the media type that the client likes.
fn show(request: &Request, views: &[View<'_>]) -> Result<(Answer, usize), Failure> {
    let accept = request.headers.get("accept");
    if encoding::prefers(accept, csv::MEDIA_TYPE, "application/json") {
        let (text, shown) = csv::table(views, request.max_answer_bytes)?;
        let answer = Answer::new(StatusCode::OK, csv::CONTENT_TYPE, Body::Text(text));
        return Ok((answer, shown));
    }
    let array = Array::of(views, request.max_answer_bytes)?;
    let shown = array.len;
    Ok((Answer::json_text(StatusCode::OK, array.into_text()), shown))
}

/// The newest point of each metric, by its own time.
pub(crate) async fn latest<S: StateStore>(
    states: &S,
    request: &Request,
) -> Result<Answer, Failure> {
    let Some(device_id) = request.device_id() else {
        return Answer::ok(&[(); 0]);
    };
    let state = lock::read_state(states, &device_id).await?;
    let points = state.latest.values();
    let views: Vec<_> = points.map(|p| View::new(device_id.as_str(), p)).collect();
    Answer::ok(&views)
}
