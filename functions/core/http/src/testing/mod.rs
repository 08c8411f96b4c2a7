//! Calls and answers for tests of handlers, through everything that a real call goes through.

pub mod recorded;

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::read::GzDecoder;
use meter_domain::time::Timestamp;
use serde_json::{Value, json};

use super::event::{GatewayEvent, GatewayResponse};
use super::request::Request;
use super::serve::{Function, Server};

/// A request to be made.
#[derive(Debug, Clone)]
pub struct TestRequest {
    event: Value,
    now: Timestamp,
}

/// An answer that was got.
#[derive(Debug, Clone)]
pub struct TestResponse {
    /// The status.
    pub status: u16,
    reply: GatewayResponse,
    text: String,
}

/// A call as `cargo lambda watch` would make it: the path may hold a query.
pub fn call(method: &str, path_and_query: &str) -> TestRequest {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    raw(method, path, query)
}

/// A call of any path and query, however odd.
pub fn raw(method: &str, path: &str, query: &str) -> TestRequest {
    TestRequest {
        event: json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": query,
            "headers": {},
            "isBase64Encoded": false,
            "requestContext": {
                "requestId": "request-1",
                "stage": "$default",
                "http": {"method": method},
            },
        }),
        now: Timestamp::EPOCH.plus_seconds(1_800_000_000),
    }
}

/// GET.
pub fn get(path_and_query: &str) -> TestRequest {
    call("GET", path_and_query)
}

/// POST.
pub fn post(path_and_query: &str) -> TestRequest {
    call("POST", path_and_query)
}

/// PUT.
pub fn put(path_and_query: &str) -> TestRequest {
    call("PUT", path_and_query)
}

/// DELETE.
pub fn delete(path_and_query: &str) -> TestRequest {
    call("DELETE", path_and_query)
}

impl TestRequest {
    /// The same call to another path, which may hold a query.
    #[must_use]
    pub fn with_path(mut self, path_and_query: &str) -> Self {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        self.event["rawPath"] = json!(path);
        self.event["rawQueryString"] = json!(query);
        self
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.event["headers"][name] = json!(value);
        self
    }

    /// With a body of JSON, and the header that says so.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.body(&body.to_string()).header("content-type", "application/json")
    }

    /// With a body of text.
    #[must_use]
    pub fn body(mut self, text: &str) -> Self {
        self.event["body"] = json!(text);
        self
    }

    /// With a body of bytes, as the gateway sends what it does not take for text.
    #[must_use]
    pub fn base64(self, bytes: &[u8]) -> Self {
        self.invalid_base64(&BASE64.encode(bytes))
    }

    /// With a body that claims to be base64.
    #[must_use]
    pub fn invalid_base64(mut self, text: &str) -> Self {
        self.event["isBase64Encoded"] = json!(true);
        self.body(text)
    }

    /// With a token of these scopes, checked by the gateway.
    #[must_use]
    pub fn scope(mut self, scope: &str) -> Self {
        self.event["requestContext"]["authorizer"] = json!({"jwt": {"claims": {"scope": scope}}});
        self
    }

    /// With a token, of scopes that were given before, of this subject.
    #[must_use]
    pub fn subject(mut self, subject: &str) -> Self {
        self.event["requestContext"]["authorizer"]["jwt"]["claims"]["sub"] = json!(subject);
        self
    }

    /// To a stage.
    #[must_use]
    pub fn stage(mut self, stage: &str) -> Self {
        self.event["requestContext"]["stage"] = json!(stage);
        self
    }

    /// Received at an instant, in RFC 3339.
    ///
    /// # Panics
    /// If the text is no such instant.
    #[must_use]
    pub fn at(mut self, now: &str) -> Self {
        self.now = Timestamp::parse(now).unwrap_or_else(|bad| panic!("{now} {bad}"));
        self
    }

    /// The event.
    ///
    /// # Panics
    /// Never: the fields above are an event's.
    pub fn event(&self) -> GatewayEvent {
        serde_json::from_value(self.event.clone()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The request, not routed.
    pub fn request(&self) -> Request {
        Request::new(self.event(), "runtime-1", self.now)
    }

    /// Makes the call.
    ///
    /// # Panics
    /// If the answer's body is not what its headers say of it.
    pub async fn send<F: Function>(&self, server: &Server<F>) -> TestResponse {
        let reply = server.handle_event(self.event(), "runtime-1", self.now).await;
        let bytes = reply.bytes();
        TestResponse {
            status: reply.status_code,
            text: String::from_utf8_lossy(&bytes).into_owned(),
            reply,
        }
    }
}

impl GatewayResponse {
    /// The bytes that the client sees in the end.
    ///
    /// # Panics
    /// If the body is not what its headers say of it.
    pub fn bytes(&self) -> Vec<u8> {
        let bytes = if self.is_base64_encoded {
            BASE64.decode(&self.body).unwrap_or_else(|error| panic!("{error}"))
        } else {
            self.body.clone().into_bytes()
        };
        if self.headers.get("content-encoding").is_none_or(|encoding| encoding != "gzip") {
            return bytes;
        }
        let mut unpacked = Vec::new();
        let read = GzDecoder::new(&bytes[..]).read_to_end(&mut unpacked);
        read.map(|_| unpacked).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl TestResponse {
    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.reply.headers.get(name).map(String::as_str)
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The body's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.reply.bytes()
    }

    /// Whether the body travelled as base64.
    pub fn is_base64(&self) -> bool {
        self.reply.is_base64_encoded
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The path and query of the next page, when there is one.
    pub fn next(&self) -> Option<&str> {
        let link = self.header("link")?;
        link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")
    }
}
