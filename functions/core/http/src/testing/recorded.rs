//! Recorded calls: a request and what it must be answered, in a JSON file each, the same for a test
//! over stores in memory and for one over HTTP.
//!
//! Files are run in the order of their names. In a template a text in angle brackets stands for what is
//! not known beforehand, and with a name after a colon it is remembered: `<id:alert>` accepts an id, and
//! `{alert}` in a later path or template is that id.
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
    /// What the client wants, for a person.
    pub description: String,
    /// What a device publishes before.
    #[serde(default)]
    pub publish: Option<RecordedPublication>,
    /// What the client sends.
    pub request: RecordedRequest,
    /// What it must get.
    pub response: ExpectedResponse,
    /// Whether the answer may be another at first, since what was published is on its way.
    #[serde(default)]
    pub eventually: bool,
}

/// What a device publishes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedPublication {
    /// Where to.
    pub topic: String,
    /// What; see the module for what may stand in it.
    pub payload: Value,
}

/// What a client sends.
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

/// What was got.
#[derive(Clone, Copy)]
pub struct ActualResponse<'a> {
    /// The status.
    pub status: u16,
    /// A header by its name in lower case.
    pub header: &'a dyn Fn(&str) -> Option<String>,
    /// The body.
    pub body: &'a str,
}

/// What was remembered of earlier answers.
#[derive(Debug, Clone, Default)]
pub struct Captures(BTreeMap<String, String>);

/// Reads every recorded call in a folder, with its file's name.
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
    /// A text with the names in braces replaced by what they stand for.
    pub fn substitute(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.0 {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        text
    }

    /// A body to send, or a payload to publish, `now`.
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

    /// Compares an answer with what is wanted, and remembers; the failure says where they differ.
    pub fn check(
        &mut self,
        wanted: &ExpectedResponse,
        got: ActualResponse<'_>,
    ) -> Result<(), String> {
        let mut memo = self.clone();
        if got.status != wanted.status {
            return Err(format!("status {}, not {}: {}", got.status, wanted.status, got.body));
        }
        for (name, value) in &wanted.headers {
            let found = (got.header)(name);
            if found.as_ref() != Some(value) {
                return Err(format!("header {name}: {found:?}, not {value:?}"));
            }
        }
        let ExpectedResponse { body, has, contains, .. } = wanted;
        if body.is_some() || has.is_some() || contains.is_some() {
            let found: Value = serde_json::from_str(got.body)
                .map_err(|error| format!("no JSON: {error}: {}", got.body))?;
            if let Some(body) = body {
                memo.match_value("body", body, &found)?;
            }
            for (name, member) in has.iter().flatten() {
                memo.match_value(name, member, &found[name])?;
            }
            for item in contains.iter().flatten() {
                memo.match_any_item(item, &found)?;
            }
        }
        *self = memo;
        Ok(())
    }

    fn match_any_item(&mut self, wanted: &Value, found: &Value) -> Result<(), String> {
        for item in found.as_array().into_iter().flatten() {
            let mut memo = self.clone();
            if memo.match_value("item", wanted, item).is_ok() {
                *self = memo;
                return Ok(());
            }
        }
        Err(format!("no item is {wanted}: {found}"))
    }

    fn match_value(&mut self, at: &str, wanted: &Value, found: &Value) -> Result<(), String> {
        match (wanted, found) {
            (Value::String(template), found) => self.match_text(at, template, found),
            (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
                let mut pairs = wanted.iter().zip(found).enumerate();
                pairs.try_for_each(|(i, (w, f))| self.match_value(&format!("{at}[{i}]"), w, f))
            }
            (Value::Object(wanted), Value::Object(found)) if wanted.len() == found.len() => {
                wanted.iter().try_for_each(|(name, wanted)| {
                    let at = format!("{at}.{name}");
                    let found = found.get(name).ok_or_else(|| format!("{at}: is missing"))?;
                    self.match_value(&at, wanted, found)
                })
            }
            (wanted, found) if wanted == found => Ok(()),
            _ => Err(format!("{at}: {found}, not {wanted}")),
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

/// What needs no escape in a URL (RFC 3986, 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(memo: &mut Captures, wanted: Value, body: &Value) -> Result<(), String> {
        let mut wanted = wanted;
        wanted["status"] = json!(200);
        let wanted = serde_json::from_value(wanted).unwrap();
        let body = body.to_string();
        memo.check(&wanted, ActualResponse { status: 200, header: &|_| None, body: &body })
    }

    #[test]
    fn a_template_accepts_what_it_describes_and_remembers_it() {
        let mut memo = Captures::default();
        let wanted = json!({"body": {"id": "<id:alert>", "at": "<time>", "n": "<number>", "m": "x", "l": "<list>"}});
        let body =
            json!({"id": "a-1", "at": "2026-01-01T00:00:00.5Z", "n": 1.5, "m": "x", "l": [1]});
        assert_eq!(check(&mut memo, wanted, &body), Ok(()));
        assert_eq!(
            memo.substitute("/api/alerts/{alert}/acknowledge"),
            "/api/alerts/a-1/acknowledge"
        );
        let again = |id: &str| {
            check(&mut memo.clone(), json!({"has": {"id": "{alert}"}}), &json!({"id": id, "x": 1}))
        };
        assert_eq!(again("a-1"), Ok(()));
        assert_eq!(again("a-2"), Err("id: \"a-2\", not a-1".to_owned()));
    }

    #[test]
    fn a_template_refuses_everything_else() {
        for (wanted, body) in [
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
                check(&mut Captures::default(), wanted.clone(), &body).is_err(),
                "{wanted} {body}"
            );
        }
        let contains = json!({"contains": [{"a": "<number>"}]});
        assert_eq!(check(&mut Captures::default(), contains, &json!([{"b": 1}, {"a": 3}])), Ok(()));
    }
}
