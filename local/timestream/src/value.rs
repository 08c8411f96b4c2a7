//! The types of the query language, their representation in SQLite and their text form.
//!
//! All types are known before a query runs, because every column has one, so values in SQLite carry
//! no type of their own. Instants are integers, which SQLite compares, indexes and adds fast.

use std::fmt;

use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};

use crate::instant::{self, NANOS_PER_DAY, NANOS_PER_SECOND};

/// A scalar type, with the name in `ColumnInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Type {
    /// 32 bits; the type of literals and some functions, not of columns.
    Integer,
    /// 64 bits.
    Bigint,
    /// IEEE 754 binary64.
    Double,
    /// UTF-8.
    Varchar,
    /// 0 or 1 in SQLite.
    Boolean,
    /// Nanoseconds since the epoch, UTC.
    Timestamp,
    /// Days since the epoch.
    Date,
    /// Nanoseconds since midnight.
    Time,
    /// Nanoseconds.
    IntervalDayToSecond,
    /// Months.
    IntervalYearToMonth,
    /// The type of NULL.
    Unknown,
}

impl Type {
    /// Returns whether arithmetic applies to the type.
    pub(crate) fn is_numeric(self) -> bool {
        matches!(self, Self::Integer | Self::Bigint | Self::Double)
    }

    /// Returns whether the type is an integer type.
    pub(crate) fn is_integral(self) -> bool {
        matches!(self, Self::Integer | Self::Bigint)
    }

    /// Returns the type to which values of both types are promoted, as in CASE, COALESCE and
    /// comparisons.
    pub(crate) fn common(self, other: Self) -> Option<Self> {
        use Type::{Bigint, Date, Double, Integer, Timestamp, Unknown};
        match (self, other) {
            (one, two) if one == two => Some(one),
            (Unknown, known) | (known, Unknown) => Some(known),
            (Integer, Bigint) | (Bigint, Integer) => Some(Bigint),
            (Double, Integer | Bigint) | (Integer | Bigint, Double) => Some(Double),
            (Date, Timestamp) | (Timestamp, Date) => Some(Timestamp),
            _ => None,
        }
    }

    /// Returns the name in SQL and in the catalog.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Bigint => "bigint",
            Self::Double => "double",
            Self::Varchar => "varchar",
            Self::Boolean => "boolean",
            Self::Timestamp => "timestamp",
            Self::Date => "date",
            Self::Time => "time",
            Self::IntervalDayToSecond => "interval day to second",
            Self::IntervalYearToMonth => "interval year to month",
            Self::Unknown => "unknown",
        }
    }

    /// Parses a [`Type::name`] of a type that a column can have.
    pub(crate) fn from_column_type(name: &str) -> Option<Self> {
        [Self::Bigint, Self::Double, Self::Varchar, Self::Boolean, Self::Timestamp]
            .into_iter()
            .find(|known| known.name() == name)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value is out of the range of its type: an integer overflowed.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the result is out of the range of {0}")]
pub(crate) struct OutOfRange(Type);

/// Formats a value of a result; `None` is NULL.
pub(crate) fn render(value: ValueRef<'_>, of: Type) -> Result<Option<String>, OutOfRange> {
    let text = match (value, of) {
        (ValueRef::Null, _) => return Ok(None),
        (ValueRef::Text(text), _) => String::from_utf8_lossy(text).into_owned(),
        (ValueRef::Real(number), Type::Double) => double(number),
        (ValueRef::Integer(number), Type::Double) => double(number as f64),
        (ValueRef::Integer(number), Type::Integer) => {
            i32::try_from(number).map_err(|_| OutOfRange(of))?.to_string()
        }
        (ValueRef::Integer(number), Type::Bigint) => number.to_string(),
        (ValueRef::Integer(number), Type::Boolean) => (number != 0).to_string(),
        (ValueRef::Integer(number), Type::Timestamp) => instant::timestamp(number),
        (ValueRef::Integer(number), Type::Date) => {
            let nanos = number.checked_mul(NANOS_PER_DAY).ok_or(OutOfRange(of))?;
            instant::date(nanos)
        }
        (ValueRef::Integer(number), Type::Time) => instant::time_of_day(number),
        (ValueRef::Integer(number), Type::IntervalDayToSecond) => interval(number),
        (ValueRef::Integer(number), Type::IntervalYearToMonth) => {
            let sign = if number < 0 { "-" } else { "" };
            let months = number.unsigned_abs();
            format!("{sign}{}-{}", months / 12, months % 12)
        }
        // SQLite continues in floating point when integers overflow.
        _ => return Err(OutOfRange(of)),
    };
    Ok(Some(text))
}

/// Formats an interval as `2 03:04:05.000000006`.
fn interval(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let seconds = nanos / NANOS_PER_SECOND as u64;
    format!(
        "{sign}{} {:02}:{:02}:{:02}.{:09}",
        seconds / 86_400,
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60,
        nanos % NANOS_PER_SECOND as u64
    )
}

/// Formats a double as Java does, like the service: `1.0`, `0.001`, `1.0E7`, `-2.5E-4`.
pub(crate) fn double(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let size = number.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{number:?}");
    }
    let text = format!("{number:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn double_is_formatted_as_in_java() {
        for (number, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (35.25, "35.25"),
            (0.001, "0.001"),
            (0.000_25, "2.5E-4"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (-1.25e20, "-1.25E20"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double(number), text);
        }
    }

    #[test]
    fn value_is_formatted_by_its_type() {
        let day = 86_400_000_000_000;
        for (value, of, text) in [
            (0, Type::Timestamp, "1970-01-01 00:00:00.000000000"),
            (1_700_000_000_123_456_789, Type::Timestamp, "2023-11-14 22:13:20.123456789"),
            (19_675, Type::Date, "2023-11-14"),
            (3_723_000_000_004, Type::Time, "01:02:03.000000004"),
            (2 * day + 3_723_000_000_004, Type::IntervalDayToSecond, "2 01:02:03.000000004"),
            (-day, Type::IntervalDayToSecond, "-1 00:00:00.000000000"),
            (50, Type::IntervalYearToMonth, "4-2"),
            (1, Type::Boolean, "true"),
            (0, Type::Boolean, "false"),
            (i64::MIN, Type::Bigint, "-9223372036854775808"),
        ] {
            assert_eq!(render(ValueRef::Integer(value), of), Ok(Some(text.to_owned())), "{of}");
        }
    }

    #[test]
    fn null_has_no_text_in_any_type() {
        assert_eq!(render(ValueRef::Null, Type::Double), Ok(None));
    }

    #[test]
    fn integer_overflow_is_an_error() {
        assert_eq!(render(ValueRef::Real(1e19), Type::Bigint), Err(OutOfRange(Type::Bigint)));
        assert!(render(ValueRef::Integer(1 << 40), Type::Integer).is_err());
    }
}
