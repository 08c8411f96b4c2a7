//! Points: of a range, and the newest of each metric.

mod csv;
mod view;

use meter_core::http::answer::{Answer, Body};
use meter_core::http::encoding;
use meter_core::http::page::{Array, Paging};
use meter_core::http::range::TimeRange;
use meter_core::http::{Failure, Problem, Request, StatusCode, header};
use meter_core::metric::{MetricName, PointKey};
use meter_core::points::{self, PointPage, PointQuery};
use meter_core::store::{MessageStore, StateStore};
use meter_core::{lock, metric::Point};
use serde::{Deserialize, Serialize};

use self::view::View;

/// The most points in one answer, and what a client gets that names no limit: what fits.
const MAX_POINTS: usize = 40_000;

/// Where a page begins. The range is that of the first page: a client that asks for the last hour and
/// turns pages for a minute gets the hour that it asked for.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    range: TimeRange,
    after: PointKey,
}

/// Points of a time range, oldest first.
pub(crate) async fn list<M: MessageStore>(
    messages: &M,
    request: &Request,
) -> Result<Answer, Failure> {
    let metric = request.query.get("metric").map(MetricName::parse).transpose();
    let metric = metric.map_err(|bad| Problem::field("metric", bad.to_string()))?;
    let paging = Paging::of(request, MAX_POINTS, &["start", "stop", "metric"])?;
    let asked = TimeRange::last_hour_of(request)?;
    let (range, after) = match paging.position::<Position>()? {
        None => (asked, None),
        Some(position) => (position.range, Some(position.after)),
    };
    let page = match request.device_id() {
        None => PointPage { points: Vec::new(), next: None },
        Some(device_id) => {
            let query = PointQuery {
                device_id,
                start: range.start,
                stop: range.stop,
                metric,
                after,
                limit: paging.limit,
            };
            points::read(messages, &query).await?
        }
    };
    let (answer, shown) = show(request, &page.points)?;
    // What did not fit into the answer comes with the next page.
    let next = match shown.checked_sub(1) {
        Some(last) if shown < page.points.len() => page.points.get(last).map(|p| p.key.clone()),
        _ => page.next,
    };
    Ok(match next {
        None => answer,
        Some(after) => {
            let link = paging.next_link(&Position { range, after })?;
            answer.with_header(header::LINK, link)
        }
    })
}

/// As many of the points as an answer holds, at least one, in the media type that the client likes.
fn show(request: &Request, points: &[Point]) -> Result<(Answer, usize), Failure> {
    let device_id = request.params.get("device_id");
    let views: Vec<_> = points.iter().map(|p| View::new(device_id, p)).collect();
    let accept = request.headers.get("accept");
    if encoding::prefers(accept, csv::MEDIA_TYPE, "application/json") {
        let (text, shown) = csv::table(&views, request.max_answer_bytes)?;
        let answer = Answer::new(StatusCode::OK, csv::CONTENT_TYPE, Body::Text(text));
        return Ok((answer, shown));
    }
    let array = Array::of(&views, request.max_answer_bytes)?;
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
