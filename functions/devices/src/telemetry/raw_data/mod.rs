//! Messages as they were received: their names, or the messages themselves.

mod list_query;
mod ndjson;
mod prefix;

use meter_domain::archive::{self, UnpackError};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_http::encoding;
use meter_http::page::{JsonArray, MAX_ITEMS, Pagination};
use meter_http::range::TimeRange;
use meter_http::response::{Body, Response};
use meter_http::{ApiError, Problem, Request, StatusCode, header};
use meter_store::{Archive, MessageStore};
use serde::Serialize;

use self::list_query::{ListQuery, MessagePage, Position};
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
) -> Result<Response, ApiError>
where
    M: MessageStore,
    O: Archive,
{
    let paging = Pagination::from_request(request, MAX_ITEMS, &["prefix", "start", "stop"])?;
    let requested = TimeRange::from_request_or_all(request)?;
    let from = paging.position()?.unwrap_or(Position { range: requested, after: None });
    let listing = match request.device_id() {
        None => MessagePage::default(),
        Some(device_id) => {
            let wanted = ListQuery {
                device_id,
                prefix: Prefix::parse(request.query.get("prefix").unwrap_or_default()),
                from,
                limit: paging.limit,
            };
            list_query::read(messages, &wanted).await?
        }
    };
    let accept = request.headers.get("accept");
    let (response, shown) = if encoding::prefers(accept, ndjson::MEDIA_TYPE, "application/json") {
        let max_bytes = request.max_response_bytes;
        let (lines, shown) = ndjson::lines(archive, &listing.found, max_bytes).await?;
        let response = Response::new(StatusCode::OK, ndjson::MEDIA_TYPE, Body::Text(lines));
        (response, shown)
    } else {
        let array = JsonArray::fit(&name_views(request, &listing), request.max_response_bytes)?;
        let shown = array.len;
        (Response::json_text(StatusCode::OK, array.into_text()), shown)
    };
    // What did not fit into the answer comes with the next page.
    let next = match shown.checked_sub(1) {
        Some(last) if shown < listing.found.len() => {
            listing.found.get(last).map(|f| Position { after: Some(f.place), ..from })
        }
        _ => listing.next,
    };
    Ok(match next {
        None => response,
        Some(next) => response.with_header(header::LINK, paging.next_link(&next)?),
    })
}

fn name_views(request: &Request, listing: &MessagePage) -> Vec<View> {
    let device_id = request.params.get("device_id");
    let found = listing.found.iter();
    found
        .map(|f| View {
            filename: format!("{device_id}/{}", f.name()),
            size: f.index_entry.size,
            last_modified: f.index_entry.received_at,
        })
        .collect()
}

/// One message with its envelope of receipt.
pub(crate) async fn get<M, O>(
    messages: &M,
    archive: &O,
    request: &Request,
) -> Result<Response, ApiError>
where
    M: MessageStore,
    O: Archive,
{
    let none = || Problem::not_found("Message");
    let device_id = request.device_id().ok_or_else(none)?;
    let name = strip_device_id(&device_id, request.params.get("filename"));
    let (category, ts, message_id) = archive::parse_file_name(name).ok_or_else(none)?;
    let index_entry = messages.get_index_entry(&device_id, ts, message_id).await?;
    let index_entry =
        index_entry.filter(|index_entry| index_entry.category == category).ok_or_else(none)?;
    let object = archive.get(&index_entry.location).await?.ok_or_else(none)?;
    let internal = |error| ApiError::Internal(error);
    let line = match archive::find_line(&object, &index_entry.location, message_id) {
        // A purge of the device is under way.
        Err(UnpackError::Redacted) => return Err(none().into()),
        line => line.map_err(|error| internal(error.into()))?,
    };
    let line = String::from_utf8(line.to_vec()).map_err(|e| internal(e.into()))?;
    Ok(Response::json_text(StatusCode::OK, line))
}

/// What follows `{device_id}/` in a name; the list's names begin with it, older clients leave it out.
fn strip_device_id<'a>(device_id: &DeviceId, name: &'a str) -> &'a str {
    let rest = name.strip_prefix(device_id.as_str());
    rest.and_then(|rest| rest.strip_prefix('/')).unwrap_or(name)
}
