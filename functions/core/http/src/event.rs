//! What API Gateway hands over and takes back (HTTP API, payload format 2.0), no more than we use of it.
//!
//! Types of our own, because a request of any kind must get an answer of ours: `lambda_http` panics
//! on a query that is no URI (`?q="x"`) or a body that is not the base64 it claims to be, before a handler
//! could say 400.

use std::collections::BTreeMap;

use ::http::{HeaderMap, Method};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::response::{Body, Response};

/// A request.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayEvent {
    /// The path, with the stage in front unless that is `$default`. AWS decodes its percent-escapes,
    /// `cargo lambda watch` does not.
    pub raw_path: String,
    /// The query as the client wrote it.
    #[serde(default, deserialize_with = "null_as_default")]
    pub raw_query_string: String,
    /// Header names in lower case; repeated ones joined by commas.
    #[serde(default, deserialize_with = "null_as_default")]
    pub headers: BTreeMap<String, String>,
    /// The body, if there is one.
    #[serde(default)]
    pub body: Option<String>,
    /// Whether `body` is base64.
    #[serde(default, deserialize_with = "null_as_default")]
    pub is_base64_encoded: bool,
    /// What the gateway knows.
    pub request_context: RequestContext,
}

impl GatewayEvent {
    /// The gateway's id of the request; `invocation_id` where there is none.
    pub fn request_id<'a>(&'a self, invocation_id: &'a str) -> &'a str {
        let id = self.request_context.request_id.as_deref();
        id.filter(|id| !id.is_empty()).unwrap_or(invocation_id)
    }
}

/// What the gateway knows of a request.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestContext {
    /// Its name for the request.
    #[serde(default)]
    pub request_id: Option<String>,
    /// The stage that was called.
    #[serde(default)]
    pub stage: Option<String>,
    /// How it was called.
    pub http: HttpContext,
    /// Who called, when the route has an authorizer.
    #[serde(default)]
    pub authorizer: Option<Authorizer>,
}

/// How a request came.
#[derive(Debug, Clone, Deserialize)]
pub struct HttpContext {
    /// GET and so on.
    #[serde(deserialize_with = "method")]
    pub method: Method,
}

/// Who called.
#[derive(Debug, Clone, Deserialize)]
pub struct Authorizer {
    /// A token that the gateway has checked.
    #[serde(default)]
    pub jwt: Option<Jwt>,
}

/// A token that the gateway has checked.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Jwt {
    /// What it says. AWS writes every claim as text, an array as `[a b]`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub claims: BTreeMap<String, Value>,
    /// The scopes that the route asks for, of which the token has one.
    #[serde(default)]
    pub scopes: Option<Vec<String>>,
}

/// `cargo lambda watch` writes `null` where API Gateway writes something empty, or nothing.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn method<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Method, D::Error> {
    let text = String::deserialize(deserializer)?;
    Method::from_bytes(text.as_bytes()).map_err(serde::de::Error::custom)
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayResponse {
    /// The status.
    pub status_code: u16,
    /// The headers.
    pub headers: BTreeMap<String, String>,
    /// The body: text as it is, bytes as base64.
    pub body: String,
    /// Whether `body` is base64.
    pub is_base64_encoded: bool,
    /// None of ours; `cargo lambda watch` insists on the field.
    pub cookies: [String; 0],
}

impl From<Response> for GatewayResponse {
    fn from(response: Response) -> Self {
        let (body, is_base64_encoded) = match response.body {
            Body::Empty => (String::new(), false),
            Body::Text(text) => (text, false),
            Body::Bytes(bytes) => (BASE64.encode(bytes), true),
        };
        Self {
            status_code: response.status.as_u16(),
            headers: to_map(&response.headers),
            body,
            is_base64_encoded,
            cookies: [],
        }
    }
}

/// Ours are all ASCII, and each is there once.
fn to_map(headers: &HeaderMap) -> BTreeMap<String, String> {
    headers
        .iter()
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_that_is_null_is_as_if_it_were_not_there() {
        let event = json!({"rawPath": "/health", "rawQueryString": null, "headers": null, "body": null,
            "isBase64Encoded": null, "requestContext": {"http": {"method": "GET"}, "authorizer": null}});
        let event: GatewayEvent = serde_json::from_value(event).unwrap();
        assert_eq!((event.raw_query_string.as_str(), event.is_base64_encoded), ("", false));
        assert!(event.headers.is_empty() && event.body.is_none());
    }
}
