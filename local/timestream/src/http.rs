//! The HTTP interface: the AWS JSON 1.0 protocol with `X-Amz-Target` on one path. Signatures are
//! not checked.

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tracing::debug;

use crate::{api::Service, error::ApiError};

/// The maximum body size. A hundred records of 2 KB in JSON are well below.
const MAX_BODY_BYTES: usize = 4 << 20;
/// The media type of both APIs.
const JSON_1_0: &str = "application/x-amz-json-1.0";

pub(crate) fn routes(service: Service) -> Router {
    Router::new()
        .route("/", post(call))
        .route("/ping", get(async || "ready\n"))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(service)
}

async fn call(
    State(service): State<Service>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let target = text("x-amz-target").unwrap_or_default();
    let host = text("host").unwrap_or("127.0.0.1:4567");
    let result = match body {
        Ok(body) => service.call(target, host, body.into()).await,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(ApiError::TooLarge(format!("a request has at most {MAX_BODY_BYTES} bytes")))
        }
        Err(rejection) => Err(ApiError::Serialization(rejection.body_text())),
    };
    let mut response = match result {
        Ok(result) => axum::Json(result).into_response(),
        Err(error) => {
            debug!(target, %error, "request rejected");
            error.into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(JSON_1_0));
    let id = uuid::Uuid::new_v4().to_string();
    if let Ok(id) = header::HeaderValue::from_str(&id) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}
