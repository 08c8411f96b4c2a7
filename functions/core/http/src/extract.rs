//! Extractors of the parts of a request. Their rejections are problems that name the part.

use std::convert::Infallible;

use ::http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE};
use ::http::request::Parts;
use ::http::{HeaderMap, HeaderName, StatusCode};
use axum::RequestPartsExt;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequestParts, Request};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::fields::{Fields, FromFields};
use super::negotiation;
use super::problem::{ApiError, Problem};

/// The largest body in bytes: twice the largest field, and well under the 400 KB of a DynamoDB
/// item.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// The time at which a request was received: the clock of handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedAt(pub Timestamp);

/// The size of a response in bytes, escaped, that lists end a page at ([`super::response_limit`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseLimit(pub usize);

/// The media types that the client accepts: the header `Accept`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept(Option<String>);

/// The variable parts of a path, decoded. If a part is no UTF-8, the path does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path<T>(pub T);

/// The device of a path. A text that is no device id is answered like the id of an unknown device:
/// with 404, or with none as an `Option`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePath(pub DeviceId);

/// The JSON object of a body.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonObject(pub Map<String, Value>);

/// A body that is a JSON object with the fields of `T`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidJson<T>(pub T);

/// Like [`ValidJson`], except that an absent body is an object without fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionalJson<T>(pub T);

impl Accept {
    /// Whether the client prefers the media type `other` to `default`.
    pub fn prefers(&self, other: &str, default: &str) -> bool {
        negotiation::prefers(self.0.as_deref(), other, default)
    }
}

/// A header of a request, if it is present and visible ASCII.
pub fn header(headers: &HeaderMap, name: impl Into<HeaderName>) -> Option<&str> {
    headers.get(name.into())?.to_str().ok()
}

pub(crate) fn received_at(parts: &Parts) -> Result<Timestamp, ApiError> {
    let received_at = parts.extensions.get::<ReceivedAt>().map(|ReceivedAt(now)| *now);
    received_at.ok_or_else(|| ApiError::Internal("the request has no time".into()))
}

impl<S: Sync> FromRequestParts<S> for ReceivedAt {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        received_at(parts).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Accept {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(header(&parts.headers, ACCEPT).map(str::to_owned)))
    }
}

impl<T: DeserializeOwned + Send + 'static, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = parts.extract_with_state::<axum::extract::Path<T>, S>(state).await;
        path.map(|axum::extract::Path(path)| Self(path)).map_err(|_| Problem::no_route().into())
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for DevicePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, ApiError> {
        #[derive(Deserialize)]
        struct Names {
            device_id: String,
        }
        let Path(Names { device_id }) = Path::from_request_parts(parts, state).await?;
        Ok(DeviceId::parse(&device_id).ok().map(Self))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for DevicePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let device = parts.extract_with_state::<Option<Self>, S>(state).await?;
        device.ok_or_else(|| Problem::not_found("Device").into())
    }
}

impl<S: Send + Sync> FromRequest<S> for JsonObject {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let object = json_object(request, state).await?;
        let missing = || Problem::field("body", "is missing, a JSON object is expected");
        Ok(Self(object.ok_or_else(missing)?))
    }
}

impl<T: FromFields, S: Send + Sync> FromRequest<S> for ValidJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let now = received_at(&parts)?;
        let JsonObject(object) =
            JsonObject::from_request(Request::from_parts(parts, body), state).await?;
        Ok(Self(T::from_fields(&Fields::new(&object), now)?))
    }
}

impl<T: FromFields, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let now = received_at(&parts)?;
        let object = json_object(Request::from_parts(parts, body), state).await?;
        Ok(Self(T::from_fields(&Fields::new(&object.unwrap_or_default()), now)?))
    }
}

/// The JSON object of a body; none if there is no body.
async fn json_object<S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<Option<Map<String, Value>>, ApiError> {
    let media_type = check_media_type(request.headers());
    let bytes = Bytes::from_request(request, state).await;
    if bytes.as_ref().is_ok_and(Bytes::is_empty) {
        return Ok(None);
    }
    media_type?;
    let bytes = bytes.map_err(|_| {
        let detail = format!("body: is larger than {MAX_BODY_BYTES} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    })?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(_) => Err(Problem::field("body", "must be a JSON object").into()),
        Err(error) => Err(Problem::field("body", format!("is not JSON: {error}")).into()),
    }
}

/// Checks that the body is JSON without an encoding. Older clients send no media type.
fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let media_type = header(headers, CONTENT_TYPE).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"));
    let encoding = header(headers, CONTENT_ENCODING).unwrap_or_default();
    if !(media_type.is_empty() || is_json) {
        let detail = format!("Content-Type: must be application/json, not {media_type}");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    if !(encoding.is_empty() || encoding.eq_ignore_ascii_case("identity")) {
        let detail = "Content-Encoding: must not be used";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{self, TestRequest};

    async fn read_body(call: TestRequest) -> Result<Value, (u16, String)> {
        let read = async {
            let request = call.request().map_err(ApiError::from)?;
            JsonObject::from_request(request, &()).await
        };
        let refused = |error: ApiError| {
            let problem = error.problem();
            (problem.status.as_u16(), problem.detail.clone())
        };
        read.await.map(|JsonObject(object)| Value::Object(object)).map_err(refused)
    }

    #[tokio::test]
    async fn json_object_needs_no_content_type() {
        let post = || testing::post("/x").body(r#"{"a": 1}"#);
        for call in [
            post(),
            post().header("Content-Type", ""),
            post().header("Content-Type", "application/json"),
            post().header("Content-Type", "Application/JSON; charset=utf-8"),
            post().header("Content-Type", "application/merge-patch+json"),
            post().header("Content-Encoding", "identity"),
            testing::post("/x").base64(b"{\"a\": 1}"),
        ] {
            assert_eq!(read_body(call).await, Ok(json!({"a": 1})));
        }
    }

    #[tokio::test]
    async fn other_body_is_refused_with_the_reason() {
        let post = |body: &str| testing::post("/x").body(body);
        let deep = "[".repeat(100_000);
        for (call, status, detail) in [
            (testing::post("/x"), 400, "body: is missing"),
            (post("[]"), 400, "body: must be a JSON object"),
            (post("{\n\"a\": }"), 400, "body: is not JSON: expected value at line 2 column 6"),
            (post(&deep), 400, "body: is not JSON: recursion limit"),
            (post("{}").header("Content-Type", "text/plain"), 415, "Content-Type: must be"),
            (
                post("a=1").header("Content-Type", "application/x-www-form-urlencoded"),
                415,
                "Content-Type",
            ),
            (post("{}").header("Content-Encoding", "gzip"), 415, "Content-Encoding"),
            (testing::post("/x").base64(b"{\"a\": \"\xff\"}"), 400, "body: is not UTF-8"),
            (testing::post("/x").invalid_base64("%%%"), 400, "body: is not base64"),
        ] {
            let (actual, text) = read_body(call).await.unwrap_err();
            assert_eq!(actual, status, "{text}");
            assert!(text.starts_with(detail), "{text}");
        }
    }
}
