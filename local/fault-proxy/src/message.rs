//! Requests and responses with their bodies.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::Full;
use serde_json::Value;

/// A request with its body.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A response with its body.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Headers of a single connection (RFC 9110, section 7.6.1), and `Expect`, to which the proxy
/// responds by reading the body.
const HOP_BY_HOP_HEADERS: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

/// A checksum of the body, which does not apply to a changed one.
const CRC32_HEADER: HeaderName = HeaderName::from_static("x-amz-crc32");

pub(crate) fn strip_hop_by_hop(mut headers: HeaderMap) -> HeaderMap {
    for name in HOP_BY_HOP_HEADERS {
        headers.remove(name);
    }
    headers
}

impl Request {
    /// Returns the request with another body.
    pub(crate) fn with_json(mut self, body: &Value) -> Self {
        self.headers.remove(header::CONTENT_LENGTH);
        self.body = body.to_string().into();
        self
    }
}

impl Response {
    /// Creates a response in the AWS JSON protocol.
    pub(crate) fn json(status: StatusCode, body: &Value) -> Self {
        let content_type = HeaderValue::from_static("application/x-amz-json-1.0");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]);
        Self { status, headers, body: body.to_string().into() }
    }

    /// Returns the response with another body.
    pub(crate) fn with_json(mut self, body: &Value) -> Self {
        self.headers.remove(header::CONTENT_LENGTH);
        self.headers.remove(CRC32_HEADER);
        self.body = body.to_string().into();
        self
    }

    pub(crate) fn into_http(self) -> http::Response<Full<Bytes>> {
        let mut response = http::Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}
