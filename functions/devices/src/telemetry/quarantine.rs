//! What could not be read, and why.

use meter_domain::archive;
use meter_domain::time::Timestamp;
use meter_http::answer::{Answer, Body};
use meter_http::page::{self, MAX_ITEMS, Paging};
use meter_http::{Failure, HeaderValue, Problem, Request, StatusCode, header};
use meter_store::{Archive, Page, QuarantineStore, Quarantined};
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
    fn new(entry: Quarantined) -> Self {
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
) -> Result<Answer, Failure> {
    let paging = Paging::of(request, MAX_ITEMS, &[])?;
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
) -> Result<Answer, Failure>
where
    Q: QuarantineStore,
    O: Archive,
{
    let none = || Problem::not_found("Quarantined message");
    let (received_at, mid) = Quarantined::parse_id(request.params.get("id")).ok_or_else(none)?;
    let entry = quarantine.get_quarantined(received_at, mid).await?.ok_or_else(none)?;
    let object = archive.get(&entry.location).await?.ok_or_else(none)?;
    let payload = archive::find_quarantined(&object, &entry.location, mid)
        .map_err(|error| Failure::Internal(Box::new(error)))?;
    let body = Body::Bytes(payload.to_vec());
    // Anybody who can publish wrote these bytes: a browser shall keep them, never show them.
    let answer = Answer::new(StatusCode::OK, "application/octet-stream", body);
    let attachment = HeaderValue::from_static("attachment");
    Ok(answer.with_header(header::CONTENT_DISPOSITION, attachment))
}
