//! A request as handlers see it.

use std::collections::BTreeMap;

use ::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use percent_encoding::percent_decode_str;

use super::authorization::Caller;
use super::event::GatewayEvent;
use super::problem::Problem;
use super::response_limit::MAX_ESCAPED_BYTES;

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The gateway's name for it, for logs and for the client.
    pub id: String,
    /// GET and so on.
    pub method: Method,
    /// The path as it was received, stage included: what links are made of.
    pub raw_path: String,
    /// The path that was routed, without the stage.
    pub path: String,
    /// The variable parts of the path.
    pub params: Params,
    /// The query.
    pub query: Query,
    /// The headers.
    pub headers: Headers,
    /// Who asks; none when the gateway checked no token.
    pub caller: Option<Caller>,
    /// When it was received: the one clock that handlers have.
    pub now: Timestamp,
    /// How large the answer may be, in bytes, escaped ([`super::response_limit`]); what is more is for the next page.
    pub max_response_bytes: usize,
    body: Option<String>,
    body_is_base64: bool,
}

/// A query's parameters, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

/// Headers by name in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<String, String>);

/// Variable parts of a path by name, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, String)>);

impl Query {
    /// Decodes a query as HTML forms encode it.
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first parameter of a name. An empty one is as if it were not there: forms send those.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut all = self.iter().filter(|(key, _)| *key == name);
        all.next().map(|(_, value)| value).filter(|v| !v.is_empty())
    }

    /// A parameter that is one of a few words, read by `parse`.
    pub fn one_of<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Option<T>,
        words: &str,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        match parse(text) {
            Some(value) => Ok(Some(value)),
            None => Err(Problem::field(name, format!("must be one of {words}"))),
        }
    }

    /// Every parameter in the client's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

impl Headers {
    /// A header by its name in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl Params {
    /// Decodes the percent-escapes of a path's variable parts; none if they are no UTF-8. Decoding what
    /// AWS has decoded already is harmless, since no name of ours holds a `%`.
    pub fn decode<'a>(raw: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        raw.map(|(name, value)| {
            let value = percent_decode_str(value).decode_utf8().ok()?;
            Some((name.to_owned(), value.into_owned()))
        })
        .collect::<Option<_>>()
        .map(Self)
    }

    /// A variable part; empty when the route has none of this name.
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }
}

impl Request {
    /// The request of an event. `id` is its name where the gateway gave none.
    pub fn new(event: GatewayEvent, id: &str, now: Timestamp) -> Self {
        let id = event.request_id(id).to_owned();
        let context = event.request_context;
        Self {
            id,
            method: context.http.method,
            path: event.raw_path.clone(),
            raw_path: event.raw_path,
            params: Params::default(),
            query: Query::parse(&event.raw_query_string),
            headers: Headers(
                event
                    .headers
                    .into_iter()
                    .map(|(name, value)| (name.to_ascii_lowercase(), value))
                    .collect(),
            ),
            caller: context.authorizer.and_then(|a| a.jwt).map(Caller::from_jwt),
            now,
            max_response_bytes: MAX_ESCAPED_BYTES as usize,
            body: event.body,
            body_is_base64: event.is_base64_encoded,
        }
    }

    /// The device that the path names. A text that can be no device's name is answered like the name
    /// of a device that nobody knows, so it is none rather than an error.
    pub fn device_id(&self) -> Option<DeviceId> {
        DeviceId::parse(self.params.get("device_id")).ok()
    }

    /// The body's bytes; empty when there is none.
    pub fn body(&self) -> Result<Vec<u8>, Problem> {
        match &self.body {
            None => Ok(Vec::new()),
            Some(text) if self.body_is_base64 => {
                BASE64.decode(text).map_err(|_| Problem::field("body", "is not base64"))
            }
            Some(text) => Ok(text.clone().into_bytes()),
        }
    }
}
