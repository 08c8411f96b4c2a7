//! What a handler answers, before it is dressed for the way back.

use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::problem::ApiError;

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its headers; those that every answer has are added later.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Body,
}

/// An answer's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// None.
    Empty,
    /// Text, which travels to API Gateway as it is.
    Text(String),
    /// Any bytes, which travel as base64.
    Bytes(Vec<u8>),
}

impl Body {
    /// The bytes that the client gets.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Response {
    /// An answer with a body of a media type.
    pub fn new(status: StatusCode, media_type: &'static str, body: Body) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        Self { status, headers, body }
    }

    /// An answer without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Body::Empty }
    }

    /// A JSON answer.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Result<Self, ApiError> {
        let text =
            serde_json::to_string(value).map_err(|error| ApiError::Internal(Box::new(error)))?;
        Ok(Self::json_text(status, text))
    }

    /// A JSON answer from JSON that is written already.
    pub fn json_text(status: StatusCode, text: String) -> Self {
        Self::new(status, "application/json", Body::Text(text))
    }

    /// 200 with JSON.
    pub fn ok(value: &impl Serialize) -> Result<Self, ApiError> {
        Self::json(StatusCode::OK, value)
    }

    /// 201 with JSON.
    pub fn created(value: &impl Serialize) -> Result<Self, ApiError> {
        Self::json(StatusCode::CREATED, value)
    }

    /// The same answer with a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The same answer with an `ETag`, which makes `If-None-Match` work. A weak one (RFC 9110, 8.8.1),
    /// since the bytes differ with the content encoding.
    #[must_use]
    pub fn with_etag(self) -> Self {
        let digest = hex::encode(&Sha256::digest(self.body.as_bytes())[..12]);
        match HeaderValue::try_from(format!("W/\"{digest}\"")) {
            Ok(etag) => self.with_header(header::ETAG, etag),
            Err(_) => self,
        }
    }

    /// 304 without a body, when the client has this answer already. `if_none_match` is the request's
    /// header, compared weakly (RFC 9110, 13.1.2).
    #[must_use]
    pub fn or_not_modified(self, if_none_match: Option<&str>) -> Self {
        let (Some(wanted), Some(etag)) = (if_none_match, self.headers.get(header::ETAG)) else {
            return self;
        };
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let etag = etag.to_str().map(opaque).unwrap_or_default();
        // No tag of ours holds a comma, so cutting at each of them cuts none of ours.
        let known = wanted.trim() == "*" || wanted.split(',').any(|tag| opaque(tag) == etag);
        if self.status != StatusCode::OK || !known {
            return self;
        }
        let mut headers = self.headers;
        headers.remove(header::CONTENT_TYPE);
        Self { status: StatusCode::NOT_MODIFIED, headers, body: Body::Empty }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Response {
        Response::json_text(StatusCode::OK, "{}".to_owned()).with_etag()
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        let etag = answer().headers[header::ETAG].to_str().unwrap().to_owned();
        let strong = etag.trim_start_matches("W/").to_owned();
        for known in [etag.clone(), strong, "*".to_owned(), format!("\"x\", {etag} ,\"y\"")] {
            let response = answer().or_not_modified(Some(&known));
            assert_eq!(response.status, StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(response.body, Body::Empty);
            assert_eq!(response.headers[header::ETAG], etag.as_str());
        }
        for other in [None, Some("\"x\""), Some(""), Some(",,")] {
            assert_eq!(answer().or_not_modified(other).status, StatusCode::OK);
        }
    }

    #[test]
    fn another_content_is_another_tag() {
        let other = Response::json_text(StatusCode::OK, "[]".to_owned()).with_etag();
        assert_ne!(answer().headers[header::ETAG], other.headers[header::ETAG]);
    }
}
