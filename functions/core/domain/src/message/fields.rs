//! Reading fields of a JSON object such that every failure names the field.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::Unreadable;
use crate::time::Timestamp;

/// An object and its path in the message.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    path: String,
}

/// The longest free text (a detail, a unit, a connection id), in bytes. The rest of a longer one is
/// somebody's attempt to fill the state row.
const MAX_TEXT_BYTES: usize = 1_024;

impl<'a> Fields<'a> {
    pub(super) fn new(object: &'a Map<String, Value>) -> Self {
        Self { object, path: String::new() }
    }

    /// The object at `list[index]`.
    pub(super) fn item(list: &str, index: usize, value: &'a Value) -> Result<Self, Unreadable> {
        let path = format!("{list}[{index}]");
        match value {
            Value::Object(object) => Ok(Self { object, path: format!("{path}.") }),
            _ => Err(Unreadable::field(path, "must be an object")),
        }
    }

    pub(super) fn wrong(&self, name: &str, reason: impl Into<String>) -> Unreadable {
        Unreadable::field(format!("{}{name}", self.path), reason)
    }

    /// A field that is there and not null.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn required(&self, name: &str) -> Result<&'a Value, Unreadable> {
        self.get(name).ok_or_else(|| self.wrong(name, "is missing"))
    }

    pub(super) fn text(&self, name: &str) -> Result<&'a str, Unreadable> {
        self.as_text(name, self.required(name)?)
    }

    pub(super) fn text_or_none(&self, name: &str) -> Result<Option<String>, Unreadable> {
        self.get(name).map(|value| self.as_text(name, value).map(str::to_owned)).transpose()
    }

    fn as_text(&self, name: &str, value: &'a Value) -> Result<&'a str, Unreadable> {
        let text = value.as_str().ok_or_else(|| self.wrong(name, "must be text"))?;
        if text.len() > MAX_TEXT_BYTES {
            return Err(self.wrong(name, format!("is longer than {MAX_TEXT_BYTES} bytes")));
        }
        Ok(text)
    }

    /// One of a set of words, read by `parse`.
    pub(super) fn word<T>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Option<T>,
        words: &str,
    ) -> Result<T, Unreadable> {
        parse(self.text(name)?).ok_or_else(|| self.wrong(name, format!("must be one of {words}")))
    }

    pub(super) fn timestamp(&self, name: &str) -> Result<Timestamp, Unreadable> {
        Timestamp::parse(self.text(name)?).map_err(|bad| self.wrong(name, bad.to_string()))
    }

    pub(super) fn integer(
        &self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<u64, Unreadable> {
        self.required(name)?.as_u64().filter(|n| range.contains(n)).ok_or_else(|| {
            self.wrong(
                name,
                format!("must be an integer from {} to {}", range.start(), range.end()),
            )
        })
    }

    /// A finite number. JSON has no others, but 1e999 would be one.
    pub(super) fn number(&self, name: &str) -> Result<f64, Unreadable> {
        self.required(name)?
            .as_f64()
            .filter(|n| n.is_finite())
            .ok_or_else(|| self.wrong(name, "must be a finite number"))
    }

    pub(super) fn number_in(
        &self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<f64, Unreadable> {
        let n = self.number(name)?;
        if range.contains(&n) {
            return Ok(n);
        }
        Err(if range.end().is_finite() {
            self.wrong(name, format!("must be from {} to {}", range.start(), range.end()))
        } else {
            self.wrong(name, format!("must be at least {}", range.start()))
        })
    }

    pub(super) fn number_in_or_none(
        &self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, Unreadable> {
        self.get(name).map(|_| self.number_in(name, range)).transpose()
    }
}
