//! What went wrong, for two readers: the client, who learns what to do about it, and the log, which
//! learns the cause (RFC 9457, Problem Details for HTTP APIs).

use std::error::Error;

use ::http::{HeaderName, HeaderValue, StatusCode};
use meter_store::StoreError;
use serde_json::{Map, Value, json};

/// The media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What the client did wrong, or must know.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The answer's status.
    pub status: StatusCode,
    /// One sentence for the person who wrote the client.
    pub detail: String,
    /// The field, parameter or header that is wrong.
    pub field: Option<String>,
    /// Headers that belong to the status (`Allow`, `WWW-Authenticate`).
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem with a status and a sentence.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), field: None, headers: Vec::new() }
    }

    /// 400: a field, a parameter or a header is wrong; the sentence begins with its name.
    pub fn field(field: impl Into<String>, reason: impl AsRef<str>) -> Self {
        let field = field.into();
        Self {
            detail: format!("{field}: {}", reason.as_ref()),
            field: Some(field),
            ..Self::new(StatusCode::BAD_REQUEST, "")
        }
    }

    /// 404: there is none of this.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{what} not found"))
    }

    /// The same problem with a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The body. `error` is for clients of the earlier service, which read it and nothing else.
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

/// Why a handler has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The client's fault; it is told all of it.
    #[error("{}", .0.detail)]
    Client(Box<Problem>),
    /// The store can never hold a value of the request, for example because it is too large: 400.
    #[error("a store rejected a value")]
    Invalid(#[source] Box<dyn Error + Send + Sync>),
    /// A store is away or busy: 503, and trying again may help. The client is told no more than that.
    #[error("a store is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// Our fault: 500. The client is told the request's id and nothing else.
    #[error("the request failed inside")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

impl ApiError {
    /// What the client is told.
    pub fn into_problem(self) -> Problem {
        match self {
            Self::Client(problem) => *problem,
            Self::Invalid(_) => Problem::new(
                StatusCode::BAD_REQUEST,
                "a value is too large to be stored, or of a form that cannot be stored",
            ),
            Self::Unavailable(_) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "something that this needs does not answer; try again later",
            )
            .with_header(::http::header::RETRY_AFTER, HeaderValue::from_static("5")),
            Self::Internal(_) => Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the request failed on our side; the request id helps us to find out why",
            ),
        }
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
    fn a_problem_names_the_field_and_speaks_to_older_clients_too() {
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
            let problem = error.into_problem();
            assert_eq!(problem.status, status, "{log}");
            let body = problem.body("r-1").to_lowercase();
            assert!(!body.contains("dynamo") && !body.contains("secret"), "{body}");
            assert!(body.contains("r-1"));
        }
    }
}
