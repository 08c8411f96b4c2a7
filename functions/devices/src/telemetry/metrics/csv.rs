//! Points as a table (RFC 4180).

use csv::{Terminator, WriterBuilder};
use meter_http::ApiError;
use meter_http::response_limit::BoundedText;
use serde::Serialize;

use super::view::View;

/// The media type that a client names.
pub(super) const MEDIA_TYPE: &str = "text/csv";
/// The media type of the response.
pub(super) const CONTENT_TYPE: &str = "text/csv; charset=utf-8; header=present";

/// The table of the first points that fit into a response, and their number.
pub(super) fn table(points: &[View<'_>], max_bytes: usize) -> Result<(String, usize), ApiError> {
    let mut table = BoundedText::new(max_bytes);
    table.push(&record(["time", "device_id", "metric", "value", "unit", "quality"])?);
    let mut shown = 0;
    for p in points {
        // A field without a value is an empty column.
        if !table.push(&record((p.time, p.device_id, p.metric, p.value, p.unit, p.quality))?) {
            break;
        }
        shown += 1;
    }
    Ok((table.into_text(), shown))
}

fn record(fields: impl Serialize) -> Result<String, ApiError> {
    let internal = |error: Box<dyn std::error::Error + Send + Sync>| ApiError::Internal(error);
    let mut writer = WriterBuilder::new()
        .has_headers(false)
        .terminator(Terminator::CRLF)
        .from_writer(Vec::new());
    writer.serialize(fields).map_err(|error| internal(error.into()))?;
    let bytes = writer.into_inner().map_err(|error| internal(error.to_string().into()))?;
    String::from_utf8(bytes).map_err(|error| internal(error.into()))
}
