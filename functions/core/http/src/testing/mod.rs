//! Requests and responses for tests of handlers, through all layers of a real request.

pub mod recorded;

use std::collections::BTreeMap;
use std::io::Read;

use ::http::request::Parts;
use axum::extract::Request;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::read::GzDecoder;
use lambda_http::request::LambdaRequest;
use meter_domain::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::app::App;
use super::extract::ReceivedAt;
use super::problem::Problem;

/// The id of the invocation, which names a request where the event does not.
const INVOCATION_ID: &str = "runtime-1";

/// A request.
#[derive(Debug, Clone)]
pub struct TestRequest {
    event: Value,
    now: Timestamp,
}

/// A response.
#[derive(Debug, Clone)]
pub struct TestResponse {
    /// The status.
    pub status: u16,
    gateway: GatewayResponse,
    bytes: Vec<u8>,
    text: String,
}

/// A response as API Gateway gets it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GatewayResponse {
    status_code: u16,
    headers: BTreeMap<String, String>,
    body: String,
    is_base64_encoded: bool,
}

/// A request of a method to a path, which may contain a query.
pub fn call(method: &str, path_and_query: &str) -> TestRequest {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    raw(method, path, query)
}

/// A request of any method, path and query, valid or not.
pub fn raw(method: &str, path: &str, query: &str) -> TestRequest {
    event(json!({
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
    }))
}

/// The request of an event, valid or not.
pub fn event(event: Value) -> TestRequest {
    TestRequest { event, now: Timestamp::EPOCH.plus_seconds(1_800_000_000) }
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
    /// The same request to another path, which may contain a query.
    #[must_use]
    pub fn with_path(mut self, path_and_query: &str) -> Self {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        self.event["rawPath"] = json!(path);
        self.event["rawQueryString"] = json!(query);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.event["headers"][name] = json!(value);
        self
    }

    /// Adds a JSON body and its `Content-Type`.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.body(&body.to_string()).header("content-type", "application/json")
    }

    /// Adds a body of text.
    #[must_use]
    pub fn body(mut self, text: &str) -> Self {
        self.event["body"] = json!(text);
        self
    }

    /// Adds a body of bytes in base64, as API Gateway sends a body that is no text.
    #[must_use]
    pub fn base64(self, bytes: &[u8]) -> Self {
        self.invalid_base64(&BASE64.encode(bytes))
    }

    /// Adds a body that the event claims to be base64.
    #[must_use]
    pub fn invalid_base64(mut self, text: &str) -> Self {
        self.event["isBase64Encoded"] = json!(true);
        self.body(text)
    }

    /// Adds a checked token with scopes.
    #[must_use]
    pub fn scope(mut self, scope: &str) -> Self {
        self.event["requestContext"]["authorizer"] = json!({"jwt": {"claims": {"scope": scope}}});
        self
    }

    /// Sets the subject of a token that was added before.
    #[must_use]
    pub fn subject(mut self, subject: &str) -> Self {
        self.event["requestContext"]["authorizer"]["jwt"]["claims"]["sub"] = json!(subject);
        self
    }

    /// Sets the stage.
    #[must_use]
    pub fn stage(mut self, stage: &str) -> Self {
        self.event["requestContext"]["stage"] = json!(stage);
        self
    }

    /// Sets the time of receipt, in RFC 3339.
    ///
    /// # Panics
    /// If the text is no time.
    #[must_use]
    pub fn at(mut self, now: &str) -> Self {
        self.now = Timestamp::parse(now).unwrap_or_else(|bad| panic!("{now} {bad}"));
        self
    }

    /// The request without its body, not routed.
    ///
    /// # Errors
    /// The problem that the event is refused with.
    pub fn parts(&self) -> Result<Parts, Problem> {
        Ok(self.request()?.into_parts().0)
    }

    /// The request, not routed.
    ///
    /// # Errors
    /// The problem that the event is refused with.
    pub fn request(&self) -> Result<Request, Problem> {
        let (event, refusal) = super::event::convert(&self.event, INVOCATION_ID);
        let mut request = ::http::Request::from(LambdaRequest::ApiGatewayV2(event));
        request.extensions_mut().insert(ReceivedAt(self.now));
        refusal.map_or_else(|| Ok(request.map(axum::body::Body::new)), Err)
    }

    /// Sends the request.
    ///
    /// # Panics
    /// If the body of the response is not encoded as its headers claim.
    pub async fn send(&self, app: &App) -> TestResponse {
        let response = app.handle(&self.event, INVOCATION_ID, self.now).await;
        let response = serde_json::to_value(response).and_then(serde_json::from_value);
        let gateway: GatewayResponse = response.unwrap_or_else(|error| panic!("{error}"));
        let bytes = gateway.decode();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        TestResponse { status: gateway.status_code, gateway, bytes, text }
    }
}

impl GatewayResponse {
    fn decode(&self) -> Vec<u8> {
        let bytes = match self.is_base64_encoded {
            true => BASE64.decode(&self.body).unwrap_or_else(|error| panic!("{error}")),
            false => self.body.clone().into_bytes(),
        };
        if self.headers.get("content-encoding").is_none_or(|encoding| encoding != "gzip") {
            return bytes;
        }
        let mut decoded = Vec::new();
        let read = GzDecoder::new(&bytes[..]).read_to_end(&mut decoded);
        read.map(|_| decoded).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl TestResponse {
    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.gateway.headers.get(name).map(String::as_str)
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The body, decoded.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether API Gateway gets the body as base64.
    pub fn is_base64(&self) -> bool {
        self.gateway.is_base64_encoded
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is no JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The path and query of the next page, if there is one.
    pub fn next(&self) -> Option<&str> {
        let link = self.header("link")?;
        link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")
    }
}
