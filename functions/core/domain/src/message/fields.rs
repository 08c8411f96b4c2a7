//! Access to the fields of a JSON object; every error contains the path of the field.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::ParseError;
use crate::time::Timestamp;

/// A JSON object and its path in the message.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
}

/// Maximum length of a text field in bytes. Bounds the size of the device state, which contains
/// texts such as `detail` and `conn_id`.
const MAX_TEXT_BYTES: usize = 1_024;

impl<'a> Fields<'a> {
    pub(super) fn new(object: &'a Map<String, Value>) -> Self {
        Self { object, path: String::new() }
    }

    /// The object at `list[index]`.
    pub(super) fn element(list: &str, index: usize, value: &'a Value) -> Result<Self, ParseError> {
        let path = format!("{list}[{index}]");
        match value {
            Value::Object(object) => Ok(Self { object, path: format!("{path}.") }),
            _ => Err(ParseError::invalid_field(path, "must be an object")),
        }
    }

    pub(super) fn invalid(&self, name: &str, reason: impl Into<String>) -> ParseError {
        ParseError::invalid_field(format!("{}{name}", self.path), reason)
    }

    /// The field, if it is present and not null.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn required(&self, name: &str) -> Result<&'a Value, ParseError> {
        self.get(name).ok_or_else(|| self.invalid(name, "is missing"))
    }

    pub(super) fn text(&self, name: &str) -> Result<&'a str, ParseError> {
        self.as_text(name, self.required(name)?)
    }

    pub(super) fn optional_text(&self, name: &str) -> Result<Option<String>, ParseError> {
        self.get(name).map(|value| self.as_text(name, value).map(str::to_owned)).transpose()
    }

    fn as_text(&self, name: &str, value: &'a Value) -> Result<&'a str, ParseError> {
        let text = value.as_str().ok_or_else(|| self.invalid(name, "must be a string"))?;
        if text.len() > MAX_TEXT_BYTES {
            return Err(self.invalid(name, format!("is longer than {MAX_TEXT_BYTES} bytes")));
        }
        Ok(text)
    }

    /// One of the words that `parse` accepts; `words` lists them for the error.
    pub(super) fn one_of<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Option<T>,
        words: &str,
    ) -> Result<T, ParseError> {
        parse(self.text(name)?).ok_or_else(|| self.invalid(name, format!("must be one of {words}")))
    }

    pub(super) fn timestamp(&self, name: &str) -> Result<Timestamp, ParseError> {
        Timestamp::parse(self.text(name)?).map_err(|error| self.invalid(name, error.to_string()))
    }

    pub(super) fn integer(
        &self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<u64, ParseError> {
        self.required(name)?.as_u64().filter(|n| range.contains(n)).ok_or_else(|| {
            self.invalid(
                name,
                format!("must be an integer from {} to {}", range.start(), range.end()),
            )
        })
    }

    /// A finite number.
    pub(super) fn number(&self, name: &str) -> Result<f64, ParseError> {
        self.required(name)?
            .as_f64()
            .filter(|n| n.is_finite())
            .ok_or_else(|| self.invalid(name, "must be a finite number"))
    }

    pub(super) fn number_in(
        &self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<f64, ParseError> {
        let n = self.number(name)?;
        if range.contains(&n) {
            return Ok(n);
        }
        Err(if range.end().is_finite() {
            self.invalid(name, format!("must be from {} to {}", range.start(), range.end()))
        } else {
            self.invalid(name, format!("must be at least {}", range.start()))
        })
    }

    pub(super) fn optional_number_in(
        &self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, ParseError> {
        self.get(name).map(|_| self.number_in(name, range)).transpose()
    }
}
