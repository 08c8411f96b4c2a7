//! Errors of the two APIs.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;
use tracing::error;

/// An error response. The names are those of the service model, so that every SDK maps them to its
/// exceptions.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The request is invalid.
    #[error("{0}")]
    Validation(String),
    /// The database, table or tagged resource does not exist.
    #[error("{0}")]
    ResourceNotFound(String),
    /// The resource exists already.
    #[error("{0}")]
    Conflict(String),
    /// A quota of the service is exhausted.
    #[error("{0}")]
    QuotaExceeded(String),
    /// Some records of a write were rejected; the others were stored.
    #[error("One or more records have been rejected. See RejectedRecords for details.")]
    RejectedRecords(Vec<RejectedRecord>),
    /// A valid query failed during execution.
    #[error("{0}")]
    QueryExecution(String),
    /// Too many concurrent requests; a retry can succeed.
    #[error("{0}")]
    Throttling(String),
    /// `X-Amz-Target` names an unknown operation.
    #[error("{0}")]
    UnknownOperation(String),
    /// The body is not JSON, or lacks a member of the operation.
    #[error("{0}")]
    Serialization(String),
    /// The body is larger than any valid request.
    #[error("{0}")]
    TooLarge(String),
    /// An internal error. The cause is logged and not returned to the client.
    #[error("internal error; the log of the emulator contains its cause")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The reason why a record was rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RejectedRecord {
    /// The zero-based index of the record in the request.
    pub record_index: usize,
    /// A message for people.
    pub reason: String,
    /// The version of the stored record that the record conflicts with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing_version: Option<i64>,
}

impl ApiError {
    /// Returns the name of the exception in the service model.
    fn name(&self) -> &'static str {
        match self {
            Self::Validation(_) => "ValidationException",
            Self::ResourceNotFound(_) => "ResourceNotFoundException",
            Self::Conflict(_) => "ConflictException",
            Self::QuotaExceeded(_) => "ServiceQuotaExceededException",
            Self::RejectedRecords(_) => "RejectedRecordsException",
            Self::QueryExecution(_) => "QueryExecutionException",
            Self::Throttling(_) => "ThrottlingException",
            Self::UnknownOperation(_) => "UnknownOperationException",
            Self::Serialization(_) => "SerializationException",
            Self::TooLarge(_) => "RequestEntityTooLargeException",
            Self::Internal(_) => "InternalServerException",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            // The status that the service returns, as reported in
            // https://github.com/dpattmann/prometheus-timestream-adapter/issues/87
            Self::RejectedRecords(_) => {
                StatusCode::from_u16(419).unwrap_or(StatusCode::BAD_REQUEST)
            }
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Self::Internal(cause) = &self {
            error!(%cause, "internal error");
        }
        let mut body = json!({
            "__type": format!("com.amazonaws.timestream.v20181101#{}", self.name()),
            "Message": self.to_string(),
        });
        if let Self::RejectedRecords(records) = &self {
            body["RejectedRecords"] = json!(records);
        }
        (self.status(), Json(body)).into_response()
    }
}

/// SQLite fails only because of the disk or a defect here: errors that a request can cause are
/// checked before.
impl From<rusqlite::Error> for ApiError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Internal(Box::new(error))
    }
}
