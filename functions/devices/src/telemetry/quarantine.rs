//! What could not be read, and why.

use meter_domain::archive;
use meter_domain::time::Timestamp;
use meter_http::page::{self, MAX_ITEMS, Pagination};
use meter_http::response::{Body, Response};
use meter_http::{ApiError, HeaderValue, Problem, Request, StatusCode, header};
use meter_store::{Archive, Page, QuarantineEntry, QuarantineStore};
use serde::Serialize;

/// An entry as it is answered.
#[derive(Debug, Serialize)]
struct View {
    id: String,
    topic: String,
    received_at: Timestamp,
    reason: String,
    size: u64,
}

impl View {
    fn new(entry: QuarantineEntry) -> Self {
        Self {
            id: entry.id(),
            topic: entry.topic,
            received_at: entry.received_at,
            reason: entry.reason,
            size: entry.size,
        }
    }
}

/// What could not be read, newest first.
pub(crate) async fn list<Q: QuarantineStore>(
    quarantine: &Q,
    request: &Request,
) -> Result<Response, ApiError> {
    let paging = Pagination::from_request(request, MAX_ITEMS, &[])?;
    page::list(&paging, |request| async move {
        let Page { items, next } = quarantine.list_quarantined(&request).await?;
        Ok(Page { items: items.into_iter().map(View::new).collect::<Vec<_>>(), next })
    })
    .await
}

/// The bytes of one entry, exactly as they were received.
pub(crate) async fn get<Q, O>(
    quarantine: &Q,
    archive: &O,
    request: &Request,
) -> Result<Response, ApiError>
where
    Q: QuarantineStore,
    O: Archive,
{
    let none = || Problem::not_found("Quarantined message");
    let (received_at, message_id) =
        QuarantineEntry::parse_id(request.params.get("id")).ok_or_else(none)?;
    let entry = quarantine.get_quarantined(received_at, message_id).await?.ok_or_else(none)?;
    let object = archive.get(&entry.location).await?.ok_or_else(none)?;
    let payload = archive::find_quarantined(&object, &entry.location, message_id)
        .map_err(|error| ApiError::Internal(Box::new(error)))?;
    let body = Body::Bytes(payload.to_vec());
    // Anybody who can publish wrote these bytes: a browser shall keep them, never show them.
    let response = Response::new(StatusCode::OK, "application/octet-stream", body);
    let attachment = HeaderValue::from_static("attachment");
    Ok(response.with_header(header::CONTENT_DISPOSITION, attachment))
}
