//! Messages as received: their names, or the messages themselves.

mod list_query;
mod ndjson;
mod prefix;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use meter_domain::archive::{self, UnpackError};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_http::extract::{Accept, DevicePath, Path};
use meter_http::fields::{Fields, FromFields};
use meter_http::page::{Filter, JsonArray, Pagination};
use meter_http::range::TimeRange;
use meter_http::{ApiError, Problem, header};
use meter_store::{Archive, MessageStore, Stores};
use serde::{Deserialize, Serialize};

use self::list_query::{FoundMessage, ListQuery, MessagePage, Position};
use self::prefix::Prefix;
use crate::Devices;

/// The name of a message in a response.
#[derive(Debug, Serialize)]
struct View {
    filename: String,
    size: u64,
    last_modified: Timestamp,
}

impl View {
    fn new(device_id: &DeviceId, message: &FoundMessage) -> Self {
        Self {
            filename: format!("{device_id}/{}", message.name()),
            size: message.index_entry.size,
            last_modified: message.index_entry.received_at,
        }
    }
}

/// The parameters of a list of messages.
#[derive(Debug)]
pub(crate) struct ListFilter {
    prefix: Prefix,
    range: TimeRange,
}

impl FromFields for ListFilter {
    fn from_fields(fields: &Fields<'_>, now: Timestamp) -> Result<Self, Problem> {
        let prefix = fields.string("prefix", 0..=usize::MAX)?.unwrap_or_default();
        let range = TimeRange::from_fields_or_all(fields, now)?;
        Ok(Self { prefix: Prefix::parse(prefix), range })
    }
}

impl Filter for ListFilter {
    const NAMES: &'static [&'static str] = &["prefix", "start", "stop"];
}

/// A device's messages, newest first: their names or, for a client that accepts NDJSON, the
/// messages.
pub(crate) async fn list<S: Stores>(
    State(Devices { stores, .. }): State<Devices<S>>,
    device: Option<DevicePath>,
    accept: Accept,
    paging: Pagination<ListFilter>,
) -> Result<Response, ApiError> {
    let ListFilter { prefix, range } = &paging.filter;
    let from = paging.position()?.unwrap_or(Position { range: *range, after: None });
    let device_id = device.map(|DevicePath(id)| id);
    let page = match device_id.clone() {
        None => MessagePage::default(),
        Some(device_id) => {
            let query = ListQuery { device_id, prefix: prefix.clone(), from, limit: paging.limit };
            list_query::read(stores.messages(), &query).await?
        }
    };
    let max_bytes = paging.max_response_bytes;
    let (response, shown) = if accept.prefers(ndjson::MEDIA_TYPE, "application/json") {
        let (lines, shown) = ndjson::lines(stores.archive(), &page.found, max_bytes).await?;
        (([(header::CONTENT_TYPE, ndjson::MEDIA_TYPE)], lines).into_response(), shown)
    } else {
        let names = page.found.iter().zip(device_id.iter().cycle());
        let views: Vec<_> = names.map(|(found, id)| View::new(id, found)).collect();
        let array = JsonArray::fit(&views, max_bytes)?;
        let shown = array.len;
        (array.into_response(), shown)
    };
    // The next page has the messages that did not fit into this one.
    let next = match shown.checked_sub(1) {
        Some(last) if shown < page.found.len() => {
            page.found.get(last).map(|f| Position { after: Some(f.place), ..from })
        }
        _ => page.next,
    };
    Ok((paging.next_link(next.as_ref())?, response).into_response())
}

/// The name of a message in a path.
#[derive(Debug, Deserialize)]
pub(crate) struct MessagePath {
    device_id: String,
    filename: String,
}

/// A message with its envelope of receipt.
pub(crate) async fn get<S: Stores>(
    State(Devices { stores, .. }): State<Devices<S>>,
    Path(path): Path<MessagePath>,
) -> Result<impl IntoResponse, ApiError> {
    let not_found = || Problem::not_found("Message");
    let device_id = DeviceId::parse(&path.device_id).map_err(|_| not_found())?;
    let name = strip_device_id(&device_id, &path.filename);
    let (category, ts, message_id) = archive::parse_file_name(name).ok_or_else(not_found)?;
    let index_entry = stores.messages().get_index_entry(&device_id, ts, message_id).await?;
    let index_entry =
        index_entry.filter(|entry| entry.category == category).ok_or_else(not_found)?;
    let object = stores.archive().get(&index_entry.location).await?.ok_or_else(not_found)?;
    let line = match archive::find_line(&object, &index_entry.location, message_id) {
        // A purge of the device is in progress.
        Err(UnpackError::Redacted) => return Err(not_found().into()),
        line => line.map_err(|error| ApiError::Internal(error.into()))?,
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], line.to_vec()))
}

/// A file name without `{device_id}/`, which the names in a list begin with and older clients leave
/// out.
fn strip_device_id<'a>(device_id: &DeviceId, name: &'a str) -> &'a str {
    let rest = name.strip_prefix(device_id.as_str());
    rest.and_then(|rest| rest.strip_prefix('/')).unwrap_or(name)
}
