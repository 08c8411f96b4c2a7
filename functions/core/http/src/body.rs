//! JSON bodies, read such that every failure names the field by its path.

use std::ops::RangeInclusive;

use ::http::StatusCode;
use serde_json::{Map, Value};

use super::problem::Problem;
use super::request::Request;

/// The largest body, in bytes: twice what the largest field may be, and well under the 400 KB of a
/// DynamoDB item.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// The request's body, which must be a JSON object.
pub fn parse_object(request: &Request) -> Result<Map<String, Value>, Problem> {
    match parse(request)? {
        Some(object) => Ok(object),
        None => Err(Problem::field("body", "is missing, a JSON object is expected")),
    }
}

/// The request's body, which must be a JSON object or nothing at all.
pub fn parse_optional_object(request: &Request) -> Result<Map<String, Value>, Problem> {
    Ok(parse(request)?.unwrap_or_default())
}

fn parse(request: &Request) -> Result<Option<Map<String, Value>>, Problem> {
    let bytes = request.body()?;
    if bytes.is_empty() {
        return Ok(None);
    }
    check_content_type(request)?;
    if bytes.len() > MAX_BODY_BYTES {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("body: is {} bytes, more than {MAX_BODY_BYTES}", bytes.len()),
        ));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(_) => Err(Problem::field("body", "must be a JSON object")),
        Err(error) => Err(Problem::field("body", format!("is not JSON: {error}"))),
    }
}

/// JSON, or no word about it: older clients send none.
fn check_content_type(request: &Request) -> Result<(), Problem> {
    let header = |name| request.headers.get(name).unwrap_or_default();
    let media_type = header("content-type").split(';').next().unwrap_or_default();
    let media_type = media_type.trim().to_ascii_lowercase();
    let is_json = media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"));
    let encoding = header("content-encoding");
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

/// The fields of a JSON object, and where in the body it is. `null` counts as absent.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    /// The fields of the body.
    pub fn new(object: &'a Map<String, Value>) -> Self {
        Self { object, path: String::new() }
    }

    /// The fields of an object at a path within the body, `params` or `params.brokers[0]`.
    pub fn nested(path: &str, object: &'a Map<String, Value>) -> Self {
        Self { object, path: format!("{path}.") }
    }

    /// 400, naming one of these fields.
    pub fn invalid(&self, name: &str, reason: impl AsRef<str>) -> Problem {
        Problem::field(format!("{}{name}", self.path), reason)
    }

    /// Whether the field is there, be it `null`.
    pub fn contains(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    /// The field, unless it is absent or `null`.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Fails with the first name that is none of these.
    pub fn deny_unknown(&self, names: &[&str]) -> Result<(), Problem> {
        let unknown = self.object.keys().find(|key| !names.contains(&key.as_str()));
        match unknown {
            None => Ok(()),
            Some(unknown) if names.is_empty() => {
                Err(self.invalid(unknown, "is unknown; none is expected here"))
            }
            Some(unknown) => {
                let reason = format!("is unknown; known are {}", names.join(", "));
                Err(self.invalid(unknown, reason))
            }
        }
    }

    /// A text of so many characters.
    pub fn string(
        &self,
        name: &str,
        length: RangeInclusive<usize>,
    ) -> Result<Option<&'a str>, Problem> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let Value::String(text) = value else {
            return Err(self.invalid(name, "must be a string"));
        };
        if length.contains(&text.chars().count()) {
            return Ok(Some(text));
        }
        let (least, most) = (length.start(), length.end());
        Err(self.invalid(name, format!("must be {least} to {most} characters long")))
    }

    /// A text that must be there.
    pub fn required_string(
        &self,
        name: &str,
        length: RangeInclusive<usize>,
    ) -> Result<&'a str, Problem> {
        let text = self.string(name, length)?;
        text.ok_or_else(|| self.invalid(name, "is missing"))
    }

    /// One of a few words, read by `parse`.
    pub fn one_of<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Option<T>,
        words: &str,
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let parsed = value.as_str().and_then(parse);
        match parsed {
            Some(value) => Ok(Some(value)),
            None => Err(self.invalid(name, format!("must be one of {words}"))),
        }
    }

    /// An integer in a range.
    pub fn integer(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Problem> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        if let Some(number) = value.as_u64().filter(|number| range.contains(number)) {
            return Ok(Some(number));
        }
        let (least, most) = (range.start(), range.end());
        Err(self.invalid(name, format!("must be an integer from {least} to {most}")))
    }

    /// A number, which is finite as all of JSON's are.
    pub fn number(&self, name: &str) -> Result<Option<f64>, Problem> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value.as_f64().filter(|number| number.is_finite());
        number.map(Some).ok_or_else(|| self.invalid(name, "must be a number"))
    }

    /// `true` or `false`.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, Problem> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value.as_bool().map(Some).ok_or_else(|| self.invalid(name, "must be true or false"))
    }

    /// An object.
    pub fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(self.invalid(name, "must be an object")),
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use serde_json::json;

    use super::*;
    use crate::testing::{self, TestRequest};

    fn read_body(call: TestRequest) -> Result<Value, (u16, String)> {
        parse_object(&call.request())
            .map(Value::Object)
            .map_err(|problem| (problem.status.as_u16(), problem.detail))
    }

    #[test]
    fn a_body_is_a_json_object_whatever_the_client_says_or_does_not_say_of_it() {
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
            assert_eq!(read_body(call), Ok(json!({"a": 1})));
        }
    }

    #[test]
    fn what_is_no_json_object_is_refused_with_the_reason() {
        let post = |body: &str| testing::post("/x").body(body);
        let large = format!("{{\"a\": \"{}\"}}", "x".repeat(MAX_BODY_BYTES));
        let deep = "[".repeat(100_000);
        for (call, status, detail) in [
            (testing::post("/x"), 400, "body: is missing"),
            (post("[]"), 400, "body: must be a JSON object"),
            (post("{\n\"a\": }"), 400, "body: is not JSON: expected value at line 2 column 6"),
            (post(&deep), 400, "body: is not JSON: recursion limit"),
            (post(&large), 413, "body: is 262153 bytes"),
            (post("{}").header("Content-Type", "text/plain"), 415, "Content-Type: must be"),
            (
                post("a=1").header("Content-Type", "application/x-www-form-urlencoded"),
                415,
                "Content-Type",
            ),
            (post("{}").header("Content-Encoding", "gzip"), 415, "Content-Encoding"),
            (testing::post("/x").base64(b"{\"a\": \"\xff\"}"), 400, "body: is not JSON"),
            (testing::post("/x").invalid_base64("%%%"), 400, "body: is not base64"),
        ] {
            let (got, text) = read_body(call).unwrap_err();
            assert_eq!(got, status, "{text}");
            assert!(text.starts_with(detail), "{text}");
        }
        assert!(base64::engine::general_purpose::STANDARD.decode("%%%").is_err());
    }

    #[test]
    fn every_failure_names_the_field_by_its_path() {
        let value = json!({"name": 7, "long": "äöü", "n": 1.0, "o": [], "w": "x", "null": null});
        let object = value.as_object().unwrap();
        let fields = Fields::nested("params", object);
        let detail = |result: Result<(), Problem>| result.unwrap_err().detail;
        for (got, wanted) in [
            (detail(fields.string("name", 1..=9).map(drop)), "params.name: must be a string"),
            (
                detail(fields.string("long", 1..=2).map(drop)),
                "params.long: must be 1 to 2 characters long",
            ),
            (detail(fields.required_string("null", 1..=2).map(drop)), "params.null: is missing"),
            (
                detail(fields.integer("n", 1..=2).map(drop)),
                "params.n: must be an integer from 1 to 2",
            ),
            (detail(fields.object("o").map(drop)), "params.o: must be an object"),
            (
                detail(fields.one_of("w", |_| None::<()>, "a, b").map(drop)),
                "params.w: must be one of a, b",
            ),
            (detail(fields.deny_unknown(&["name"])), "params.long: is unknown; known are name"),
            (detail(fields.deny_unknown(&[])), "params.long: is unknown; none is expected here"),
        ] {
            assert_eq!(got, wanted);
        }
        assert_eq!(fields.string("long", 3..=3), Ok(Some("äöü")));
        assert!(fields.contains("null") && fields.get("null").is_none());
        assert_eq!(Fields::new(object).invalid("x", "y").field.as_deref(), Some("x"));
    }
}
