//! Recorded requests with the expected responses, one JSON file each, for tests over stores in
//! memory and over HTTP.
//!
//! The files are in the order of their names. In a template, a text in angle brackets accepts a
//! class of values, and captures the value under the name after a colon: `<id:alert>` accepts an
//! id, and `{alert}` in a later path or template is that id.
//!
//! | text | accepts |
//! |---|---|
//! | `<id>` | a text of the characters that need no escape in a URL |
//! | `<time>` | RFC 3339 in UTC with `Z` |
//! | `<text>` | any text but the empty one |
//! | `<number>` | any number |
//! | `<list>` | any array |
//! | `<now>` | (in what is sent) the time of sending, in RFC 3339 |

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use meter_domain::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// A recorded call.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedCall {
    /// A description of the purpose.
    pub description: String,
    /// The message that a device publishes before the request.
    #[serde(default)]
    pub publish: Option<RecordedPublication>,
    /// The request.
    pub request: RecordedRequest,
    /// The expected response.
    pub response: ExpectedResponse,
    /// Whether the response can differ at first, while the published message is being ingested.
    #[serde(default)]
    pub eventually: bool,
}

/// A message of a device.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedPublication {
    /// The topic.
    pub topic: String,
    /// The payload, a template.
    pub payload: Value,
}

/// A request of a client.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedRequest {
    /// GET and so on.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A body of JSON; none: no body at all.
    #[serde(default)]
    pub body: Option<Value>,
}

/// What a client must get. Of `body`, `has` and `contains` those that are given count.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedResponse {
    /// The status.
    pub status: u16,
    /// Headers, by name in lower case.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// All of the body.
    #[serde(default)]
    pub body: Option<Value>,
    /// Members that the body has, among others.
    #[serde(default)]
    pub has: Option<BTreeMap<String, Value>>,
    /// Items that the body, an array, has, among others, in any order.
    #[serde(default)]
    pub contains: Option<Vec<Value>>,
}

/// The actual response.
#[derive(Clone, Copy)]
pub struct ActualResponse<'a> {
    /// The status.
    pub status: u16,
    /// A header by its name in lower case.
    pub header: &'a dyn Fn(&str) -> Option<String>,
    /// The body.
    pub body: &'a str,
}

/// The values that were captured from earlier responses.
#[derive(Debug, Clone, Default)]
pub struct Captures(BTreeMap<String, String>);

/// Reads all recorded requests of a directory by file name.
pub fn load(folder: &Path) -> io::Result<BTreeMap<String, RecordedCall>> {
    let mut calls = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let call = serde_json::from_str(&std::fs::read_to_string(&path)?)
                .map_err(|error| io::Error::other(format!("{name}: {error}")))?;
            calls.insert(name, call);
        }
    }
    Ok(calls)
}

impl Captures {
    /// Replaces the names in braces by the captured values.
    pub fn substitute(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.0 {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        text
    }

    /// A body or payload with its templates replaced at the time `now`.
    pub fn substitute_value(&self, value: &Value, now: Timestamp) -> Value {
        match value {
            Value::String(text) => self.substitute(&text.replace("<now>", &now.to_string())).into(),
            Value::Array(items) => {
                items.iter().map(|item| self.substitute_value(item, now)).collect()
            }
            Value::Object(members) => members
                .iter()
                .map(|(name, member)| (name.clone(), self.substitute_value(member, now)))
                .collect(),
            other => other.clone(),
        }
    }

    /// Compares a response with the expected one and captures its values.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(
        &mut self,
        expected: &ExpectedResponse,
        actual: ActualResponse<'_>,
    ) -> Result<(), String> {
        let mut captures = self.clone();
        if actual.status != expected.status {
            return Err(format!(
                "status {}, not {}: {}",
                actual.status, expected.status, actual.body
            ));
        }
        for (name, value) in &expected.headers {
            let found = (actual.header)(name);
            if found.as_ref() != Some(value) {
                return Err(format!("header {name}: {found:?}, not {value:?}"));
            }
        }
        let ExpectedResponse { body, has, contains, .. } = expected;
        if body.is_some() || has.is_some() || contains.is_some() {
            let found: Value = serde_json::from_str(actual.body)
                .map_err(|error| format!("no JSON: {error}: {}", actual.body))?;
            if let Some(body) = body {
                captures.match_value("body", body, &found)?;
            }
            for (name, member) in has.iter().flatten() {
                captures.match_value(name, member, &found[name])?;
            }
            for item in contains.iter().flatten() {
                captures.match_any_item(item, &found)?;
            }
        }
        *self = captures;
        Ok(())
    }

    fn match_any_item(&mut self, expected: &Value, found: &Value) -> Result<(), String> {
        for item in found.as_array().into_iter().flatten() {
            let mut captures = self.clone();
            if captures.match_value("item", expected, item).is_ok() {
                *self = captures;
                return Ok(());
            }
        }
        Err(format!("no item is {expected}: {found}"))
    }

    fn match_value(&mut self, at: &str, expected: &Value, found: &Value) -> Result<(), String> {
        match (expected, found) {
            (Value::String(template), found) => self.match_text(at, template, found),
            (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
                let mut pairs = expected.iter().zip(found).enumerate();
                pairs.try_for_each(|(i, (w, f))| self.match_value(&format!("{at}[{i}]"), w, f))
            }
            (Value::Object(expected), Value::Object(found)) if expected.len() == found.len() => {
                expected.iter().try_for_each(|(name, expected)| {
                    let at = format!("{at}.{name}");
                    let found = found.get(name).ok_or_else(|| format!("{at}: is missing"))?;
                    self.match_value(&at, expected, found)
                })
            }
            (expected, found) if expected == found => Ok(()),
            _ => Err(format!("{at}: {found}, not {expected}")),
        }
    }

    fn match_text(&mut self, at: &str, template: &str, found: &Value) -> Result<(), String> {
        let placeholder = template.strip_prefix('<').and_then(|t| t.strip_suffix('>'));
        let (kind, name) =
            placeholder.map_or((None, None), |placeholder| match placeholder.split_once(':') {
                Some((kind, name)) => (Some(kind), Some(name)),
                None => (Some(placeholder), None),
            });
        let text = found.as_str();
        let is_accepted = match kind {
            Some("id") => text.is_some_and(|t| !t.is_empty() && t.bytes().all(is_unreserved)),
            Some("time") => text.is_some_and(|t| t.ends_with('Z') && Timestamp::parse(t).is_ok()),
            Some("text") => text.is_some_and(|t| !t.is_empty()),
            Some("number") => found.is_number(),
            Some("list") => found.is_array(),
            _ => text == Some(self.substitute(template).as_str()),
        };
        if !is_accepted {
            return Err(format!("{at}: {found}, not {}", self.substitute(template)));
        }
        if let (Some(name), Some(text)) = (name, text) {
            self.0.insert(name.to_owned(), text.to_owned());
        }
        Ok(())
    }
}

/// Whether a byte needs no escape in a URL (RFC 3986, 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(captures: &mut Captures, expected: Value, body: &Value) -> Result<(), String> {
        let mut expected = expected;
        expected["status"] = json!(200);
        let expected = serde_json::from_value(expected).unwrap();
        let body = body.to_string();
        captures.check(&expected, ActualResponse { status: 200, header: &|_| None, body: &body })
    }

    #[test]
    fn template_accepts_matching_values_and_captures_them() {
        let mut captures = Captures::default();
        let expected = json!({"body": {"id": "<id:alert>", "at": "<time>", "n": "<number>", "m": "x", "l": "<list>"}});
        let body =
            json!({"id": "a-1", "at": "2026-01-01T00:00:00.5Z", "n": 1.5, "m": "x", "l": [1]});
        assert_eq!(check(&mut captures, expected, &body), Ok(()));
        assert_eq!(
            captures.substitute("/api/alerts/{alert}/acknowledge"),
            "/api/alerts/a-1/acknowledge"
        );
        let again = |id: &str| {
            check(
                &mut captures.clone(),
                json!({"has": {"id": "{alert}"}}),
                &json!({"id": id, "x": 1}),
            )
        };
        assert_eq!(again("a-1"), Ok(()));
        assert_eq!(again("a-2"), Err("id: \"a-2\", not a-1".to_owned()));
    }

    #[test]
    fn template_refuses_other_values() {
        for (expected, body) in [
            (json!({"body": {"a": 1}}), json!({"a": 2})),
            (json!({"body": {"a": 1}}), json!({"a": 1, "b": 1})),
            (json!({"body": {"a": 1, "b": null}}), json!({"a": 1})),
            (json!({"body": [1]}), json!([1, 2])),
            (json!({"body": "<id>"}), json!("a b")),
            (json!({"body": "<id>"}), json!(7)),
            (json!({"body": "<time>"}), json!("2026-01-01T00:00:00+00:00")),
            (json!({"body": "<text>"}), json!("")),
            (json!({"body": "<number>"}), json!("1")),
            (json!({"has": {"a": "<text>"}}), json!({})),
            (json!({"contains": [{"a": 1}, {"a": 2}]}), json!([{"a": 1}, {"a": 3}])),
            (json!({"contains": [1]}), json!({"a": 1})),
            (json!({"headers": {"x": "y"}}), json!({})),
        ] {
            assert!(
                check(&mut Captures::default(), expected.clone(), &body).is_err(),
                "{expected} {body}"
            );
        }
        let contains = json!({"contains": [{"a": "<number>"}]});
        assert_eq!(check(&mut Captures::default(), contains, &json!([{"b": 1}, {"a": 3}])), Ok(()));
    }
}
