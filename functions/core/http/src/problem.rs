//! Errors of requests (RFC 9457, Problem Details for HTTP APIs): the client gets a description of
//! its own error, the log the causes of an internal one.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;

use ::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use meter_store::StoreError;
use serde_json::{Map, Value, json};

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// A description of an error for the client.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The status of the response.
    pub status: StatusCode,
    /// One sentence for the developer of the client.
    pub detail: String,
    /// The invalid field, parameter or header.
    pub field: Option<String>,
    /// Headers that belong to the status (`Allow`, `WWW-Authenticate`).
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem with a status and a detail.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), field: None, headers: Vec::new() }
    }

    /// 400: a field, a parameter or a header is invalid; the detail begins with its name.
    pub fn field(field: impl Into<String>, reason: impl AsRef<str>) -> Self {
        let field = field.into();
        Self {
            detail: format!("{field}: {}", reason.as_ref()),
            field: Some(field),
            ..Self::new(StatusCode::BAD_REQUEST, "")
        }
    }

    /// 404: the resource does not exist.
    pub fn not_found(resource: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{resource} not found"))
    }

    /// 404: no route has the path.
    pub fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no route has this path")
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The JSON body. Clients of the earlier service read `error` only.
    pub fn body(&self, request_id: &str) -> String {
        let mut body = Map::new();
        body.insert("type".to_owned(), json!("about:blank"));
        body.insert("title".to_owned(), json!(self.status.canonical_reason().unwrap_or("Error")));
        body.insert("status".to_owned(), json!(self.status.as_u16()));
        body.insert("detail".to_owned(), json!(self.detail));
        body.insert("error".to_owned(), json!(self.detail));
        if let Some(field) = &self.field {
            body.insert("field".to_owned(), json!(field));
        }
        body.insert("request_id".to_owned(), json!(request_id));
        Value::Object(body).to_string()
    }
}

/// An error of a handler.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// An error of the client, which gets all of it.
    #[error("{}", .0.detail)]
    Client(Box<Problem>),
    /// A store can never hold a value of the request, for example because it is too large: 400.
    #[error("a store rejected a value")]
    Invalid(#[source] Box<dyn Error + Send + Sync>),
    /// A store is unavailable or throttles: 503. A retry may succeed.
    #[error("a store is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// An internal error: 500. The client gets the request id only.
    #[error("internal error")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

impl ApiError {
    /// The description for the client.
    pub fn problem(&self) -> Cow<'_, Problem> {
        match self {
            Self::Client(problem) => Cow::Borrowed(problem),
            Self::Invalid(_) => Cow::Owned(Problem::new(
                StatusCode::BAD_REQUEST,
                "a value is too large to be stored, or of a form that cannot be stored",
            )),
            Self::Unavailable(_) => Cow::Owned(
                Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "a required service is unavailable; try again later",
                )
                .with_header(header::RETRY_AFTER, HeaderValue::from_static("5")),
            ),
            Self::Internal(_) => Cow::Owned(Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the request failed with an internal error; report its request_id",
            )),
        }
    }

    /// The response to the request of an id, and a log line: an error of the client at debug level,
    /// all others as errors with their causes.
    pub(crate) fn render(&self, request_id: &str, path: &str) -> Response {
        let text = meter_store::error_chain(self);
        match self {
            Self::Client(_) => tracing::debug!(request_id, "refused: {text}"),
            _ => tracing::error!(request_id, path, "failed: {text}"),
        }
        let problem = self.problem();
        let body = problem.body(request_id);
        let mut response =
            (problem.status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        response.headers_mut().extend(problem.headers.iter().cloned());
        response
    }
}

/// The response is complete when [`crate::App`] has rendered it with the request id.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.problem().status.into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self::Client(Box::new(problem))
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            // Only writes return it, and the requests that write contain the value.
            StoreError::Invalid { .. } => Self::Invalid(Box::new(error)),
            StoreError::Conflict { .. } | StoreError::Unavailable { .. } => {
                Self::Unavailable(Box::new(error))
            }
            StoreError::Misconfigured { .. } | StoreError::Corrupt { .. } => {
                Self::Internal(Box::new(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_body_has_the_field_and_the_error_of_older_clients() {
        let problem = Problem::field("params.brokers[0].port", "must be an integer");
        assert_eq!(
            serde_json::from_str::<Value>(&problem.body("r-1")).unwrap(),
            json!({
                "type": "about:blank",
                "title": "Bad Request",
                "status": 400,
                "detail": "params.brokers[0].port: must be an integer",
                "error": "params.brokers[0].port: must be an integer",
                "field": "params.brokers[0].port",
                "request_id": "r-1",
            })
        );
    }

    #[test]
    fn store_errors_map_to_statuses_and_hide_their_causes() {
        let cause = || "table secret-table";
        let corrupt = StoreError::Corrupt { what: "secret".to_owned(), reason: "none".to_owned() };
        for (error, status) in [
            (StoreError::invalid("dynamodb:PutItem", cause()), StatusCode::BAD_REQUEST),
            (
                StoreError::misconfigured("dynamodb:Query", cause()),
                StatusCode::INTERNAL_SERVER_ERROR,
            ),
            (StoreError::conflict("dynamodb:PutItem", cause()), StatusCode::SERVICE_UNAVAILABLE),
            (StoreError::unavailable("dynamodb:Query", cause()), StatusCode::SERVICE_UNAVAILABLE),
            (corrupt, StatusCode::INTERNAL_SERVER_ERROR),
        ] {
            let error = ApiError::from(error);
            let log = meter_store::error_chain(&error);
            assert!(log.contains("secret"), "{log}");
            let problem = error.problem();
            assert_eq!(problem.status, status, "{log}");
            let body = problem.body("r-1").to_lowercase();
            assert!(!body.contains("dynamo") && !body.contains("secret"), "{body}");
            assert!(body.contains("r-1"));
        }
    }
}
