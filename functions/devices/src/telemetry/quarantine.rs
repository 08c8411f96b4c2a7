//! Quarantined messages, and the reason why they are invalid.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use meter_domain::archive;
use meter_domain::time::Timestamp;
use meter_http::extract::Path;
use meter_http::page::{self, Pagination};
use meter_http::{ApiError, Problem, header};
use meter_store::{Archive, QuarantineEntry, QuarantineStore, Stores};
use serde::Serialize;

use crate::Devices;

/// A quarantined message in a response.
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

/// The quarantined messages, newest first.
pub(crate) async fn list<S: Stores>(
    State(Devices { stores, .. }): State<Devices<S>>,
    paging: Pagination<()>,
) -> Result<Response, ApiError> {
    let quarantine = stores.messages();
    page::list(&paging, View::new, async |page| quarantine.list_quarantined(&page).await).await
}

/// The bytes of a quarantined message, as received.
pub(crate) async fn get<S: Stores>(
    State(Devices { stores, .. }): State<Devices<S>>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, ApiError> {
    let not_found = || Problem::not_found("Quarantined message");
    let (received_at, message_id) = QuarantineEntry::parse_id(&id).ok_or_else(not_found)?;
    let entry = stores.messages().get_quarantined(received_at, message_id).await?;
    let entry = entry.ok_or_else(not_found)?;
    let object = stores.archive().get(&entry.location).await?.ok_or_else(not_found)?;
    let payload = archive::find_quarantined(&object, &entry.location, message_id)
        .map_err(|error| ApiError::Internal(Box::new(error)))?;
    // Every publisher can write these bytes: a browser must save them and not display them.
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment"),
    ];
    Ok((headers, payload.to_vec()))
}
