//! Validation of the fields of a JSON object: every failure names the field by its path.

use std::ops::RangeInclusive;

use meter_domain::time::Timestamp;
use serde_json::{Map, Value};

use super::problem::Problem;

/// A type that is read from the fields of a body or the parameters of a query.
pub trait FromFields: Sized {
    /// Reads the fields of a request that was received at `now`.
    ///
    /// # Errors
    /// 400 that names the first invalid field.
    fn from_fields(fields: &Fields<'_>, now: Timestamp) -> Result<Self, Problem>;
}

impl FromFields for () {
    fn from_fields(_: &Fields<'_>, _: Timestamp) -> Result<Self, Problem> {
        Ok(())
    }
}

/// The fields of a JSON object and its path in the body. `null` counts as absent.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    /// The fields of a body, or the parameters of a query.
    pub fn new(object: &'a Map<String, Value>) -> Self {
        Self { object, path: String::new() }
    }

    /// The fields of an object at a path in the body: `params` or `params.brokers[0]`.
    pub fn nested(path: &str, object: &'a Map<String, Value>) -> Self {
        Self { object, path: format!("{path}.") }
    }

    /// 400 that names one of these fields.
    pub fn invalid(&self, name: &str, reason: impl AsRef<str>) -> Problem {
        Problem::field(format!("{}{name}", self.path), reason)
    }

    /// Whether the field is present; it may be `null`.
    pub fn contains(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    /// The value of a field, unless it is absent or `null`.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Refuses the first field whose name is none of `names`.
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

    /// A string with a number of characters in a range.
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

    /// Like [`Fields::string`]; the field must be present.
    pub fn required_string(
        &self,
        name: &str,
        length: RangeInclusive<usize>,
    ) -> Result<&'a str, Problem> {
        let text = self.string(name, length)?;
        text.ok_or_else(|| self.invalid(name, "is missing"))
    }

    /// A value of an enumeration that `parse` reads; `words` lists its values for the client.
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

    /// A number.
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
    use serde_json::json;

    use super::*;

    #[test]
    fn failure_names_the_field_by_its_path() {
        let value = json!({"name": 7, "long": "äöü", "n": 1.0, "o": [], "w": "x", "null": null});
        let object = value.as_object().unwrap();
        let fields = Fields::nested("params", object);
        let detail = |result: Result<(), Problem>| result.unwrap_err().detail;
        for (actual, expected) in [
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
            assert_eq!(actual, expected);
        }
        assert_eq!(fields.string("long", 3..=3), Ok(Some("äöü")));
        assert!(fields.contains("null") && fields.get("null").is_none());
        assert_eq!(Fields::new(object).invalid("x", "y").field.as_deref(), Some("x"));
    }
}
