//! What can go wrong, as the two APIs say it.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;
use tracing::error;

/// An answer that is no success. The names are those of the service's model, so that every SDK finds
/// its own exception.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The request is wrong, and would be wrong again.
    #[error("{0}")]
    Validation(String),
    /// There is no such database, table or tagged resource.
    #[error("{0}")]
    ResourceNotFound(String),
    /// It exists already.
    #[error("{0}")]
    Conflict(String),
    /// One of the service's quotas is used up.
    #[error("{0}")]
    QuotaExceeded(String),
    /// Some records of a write are not stored; the others are.
    #[error("One or more records have been rejected. See RejectedRecords for details.")]
    RejectedRecords(Vec<RejectedRecord>),
    /// A query that was understood failed while it ran.
    #[error("{0}")]
    QueryExecution(String),
    /// Too much at once; later it may work.
    #[error("{0}")]
    Throttling(String),
    /// `X-Amz-Target` names nothing that is known here.
    #[error("{0}")]
    UnknownOperation(String),
    /// The body is no JSON, or not of the operation's form.
    #[error("{0}")]
    Serialization(String),
    /// The body is larger than any request may be.
    #[error("{0}")]
    TooLarge(String),
    /// The fault is here. The cause is for the log, not for the client.
    #[error("an internal error; the log of the stand-in has its cause")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a record is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RejectedRecord {
    /// Its place in the request, from 0.
    pub record_index: usize,
    /// For a person.
    pub reason: String,
    /// The version of the stored record that it conflicts with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing_version: Option<i64>,
}

impl ApiError {
    /// The exception's name in the service's model.
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
            // What the service answers with: seen in reports of users, as in
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

/// SQLite fails only when the disk or this program is at fault: what a request can cause is checked before.
impl From<rusqlite::Error> for ApiError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Internal(Box::new(error))
    }
}
