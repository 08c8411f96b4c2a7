//! Messages as they were received: their names, or the messages themselves.

mod listing;
mod ndjson;
mod prefix;

use meter_domain::archive::{self, UnpackError};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_http::answer::{Answer, Body};
use meter_http::encoding;
use meter_http::page::{Array, MAX_ITEMS, Paging};
use meter_http::range::TimeRange;
use meter_http::{Failure, Problem, Request, StatusCode, header};
use meter_store::{Archive, MessageStore};
use serde::Serialize;

use self::listing::{Listing, Position, Wanted};
use self::prefix::Prefix;

/// A message's name as it is answered.
#[derive(Debug, Serialize)]
struct View {
    filename: String,
    size: u64,
    last_modified: Timestamp,
}

/// A device's messages, newest first: their names, or, for who accepts NDJSON, the messages.
pub(crate) async fn list<M, O>(
    messages: &M,
    archive: &O,
    request: &Request,
) -> Result<Answer, Failure>
where
    M: MessageStore,
    O: Archive,
{
    let paging = Paging::of(request, MAX_ITEMS, &["prefix", "start", "stop"])?;
    let asked = TimeRange::all_of(request)?;
    let from = paging.position()?.unwrap_or(Position { range: asked, after: None });
    let listing = match request.device_id() {
        None => Listing::default(),
        Some(device_id) => {
            let wanted = Wanted {
                device_id,
                prefix: Prefix::parse(request.query.get("prefix").unwrap_or_default()),
                from,
                limit: paging.limit,
            };
            listing::read(messages, &wanted).await?
        }
    };
    let accept = request.headers.get("accept");
    let (answer, shown) = if encoding::prefers(accept, ndjson::MEDIA_TYPE, "application/json") {
        let max_bytes = request.max_answer_bytes;
        let (lines, shown) = ndjson::lines(archive, &listing.found, max_bytes).await?;
        let answer = Answer::new(StatusCode::OK, ndjson::MEDIA_TYPE, Body::Text(lines));
        (answer, shown)
    } else {
        let array = Array::of(&names(request, &listing), request.max_answer_bytes)?;
        let shown = array.len;
        (Answer::json_text(StatusCode::OK, array.into_text()), shown)
    };
    // What did not fit into the answer comes with the next page.
    let next = match shown.checked_sub(1) {
        Some(last) if shown < listing.found.len() => {
            listing.found.get(last).map(|f| Position { after: Some(f.place), ..from })
        }
        _ => listing.next,
    };
    Ok(match next {
        None => answer,
        Some(next) => answer.with_header(header::LINK, paging.next_link(&next)?),
    })
}

fn names(request: &Request, listing: &Listing) -> Vec<View> {
    let device_id = request.params.get("device_id");
    let found = listing.found.iter();
    found
        .map(|f| View {
            filename: format!("{device_id}/{}", f.name()),
            size: f.head.size,
            last_modified: f.head.received_at,
        })
        .collect()
}

/// One message with its envelope of receipt.
pub(crate) async fn get<M, O>(
    messages: &M,
    archive: &O,
    request: &Request,
) -> Result<Answer, Failure>
where
    M: MessageStore,
    O: Archive,
{
    let none = || Problem::not_found("Message");
    let device_id = request.device_id().ok_or_else(none)?;
    let name = below(&device_id, request.params.get("filename"));
    let (category, ts, mid) = archive::parse_file_name(name).ok_or_else(none)?;
    let head = messages.head(&device_id, ts, mid).await?;
    let head = head.filter(|head| head.category == category).ok_or_else(none)?;
    let object = archive.get(&head.location).await?.ok_or_else(none)?;
    let internal = |error| Failure::Internal(error);
    let line = match archive::find_line(&object, &head.location, mid) {
        // A purge of the device is under way.
        Err(UnpackError::Removed) => return Err(none().into()),
        line => line.map_err(|error| internal(error.into()))?,
    };
    let line = String::from_utf8(line.to_vec()).map_err(|e| internal(e.into()))?;
    Ok(Answer::json_text(StatusCode::OK, line))
}

/// What follows `{device_id}/` in a name; the list's names begin with it, older clients leave it out.
fn below<'a>(device_id: &DeviceId, name: &'a str) -> &'a str {
    let rest = name.strip_prefix(device_id.as_str());
    rest.and_then(|rest| rest.strip_prefix('/')).unwrap_or(name)
}
