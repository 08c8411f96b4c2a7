//! Requests and answers as a whole: what can be lost, repeated and rewritten.

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

/// An answer with its body.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Headers that are between two neighbours and go no further (RFC 9110, 7.6.1), and what the proxy has
/// answered itself when it is done reading.
const HOP_BY_HOP_HEADERS: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

/// A digest of a body that is no longer the one that was sent.
const CRC32_HEADER: HeaderName = HeaderName::from_static("x-amz-crc32");

pub(crate) fn strip_hop_by_hop(mut headers: HeaderMap) -> HeaderMap {
    for name in HOP_BY_HOP_HEADERS {
        headers.remove(name);
    }
    headers
}

impl Request {
    /// The same request with another body.
    pub(crate) fn with_json(mut self, body: &Value) -> Self {
        self.headers.remove(header::CONTENT_LENGTH);
        self.body = body.to_string().into();
        self
    }
}

impl Response {
    /// An answer in JSON, as the services of the AWS JSON protocol send it.
    pub(crate) fn json(status: StatusCode, body: &Value) -> Self {
        let content_type = HeaderValue::from_static("application/x-amz-json-1.0");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]);
        Self { status, headers, body: body.to_string().into() }
    }

    /// The same answer with another body.
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
