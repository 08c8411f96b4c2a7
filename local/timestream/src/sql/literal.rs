//! Literals of Timestream, and their form in SQLite.

use sqlparser::ast::{DataType, DateTimeField, Expr, Interval, TypedString, Value, ValueWithSpan};

use super::{TranslationError, expression::SqlExpr};
use crate::{
    instant::{self, NANOS_PER_DAY, NANOS_PER_HOUR, NANOS_PER_SECOND},
    value::Type,
};

pub(super) fn constant(value: &Value) -> Result<SqlExpr, TranslationError> {
    match value {
        Value::Number(digits, false) => number(digits),
        Value::SingleQuotedString(given) => Ok(SqlExpr::constant(text(given), Type::Varchar)),
        Value::Boolean(value) => {
            Ok(SqlExpr::constant(if *value { "1" } else { "0" }, Type::Boolean))
        }
        Value::Null => Ok(SqlExpr::new("NULL", Type::Unknown)),
        other => Err(TranslationError::unsupported(format!("the literal {other}"))),
    }
}

/// Translates `timestamp '2024-01-01 00:00:00'` and `date '2024-01-01'`.
pub(super) fn typed(typed: &TypedString) -> Result<SqlExpr, TranslationError> {
    let Value::SingleQuotedString(text) = &typed.value.value else {
        return Err(TranslationError::unsupported(format!("the literal {typed}")));
    };
    let of = sql_type(&typed.data_type)?;
    let value = match of {
        Type::Timestamp => instant::parse_timestamp(text),
        Type::Date => instant::parse_date(text),
        _ => return Err(TranslationError::unsupported(format!("the literal {typed}"))),
    };
    let value = value.ok_or_else(|| TranslationError::new(format!("'{text}' is not a {of}")))?;
    Ok(SqlExpr::constant(value.to_string(), of))
}

pub(super) fn sql_type(name: &DataType) -> Result<Type, TranslationError> {
    match name {
        DataType::Double(_) | DataType::DoublePrecision => Ok(Type::Double),
        DataType::BigInt(_) => Ok(Type::Bigint),
        DataType::Int(_) | DataType::Integer(_) => Ok(Type::Integer),
        DataType::Boolean | DataType::Bool => Ok(Type::Boolean),
        DataType::Varchar(_) => Ok(Type::Varchar),
        DataType::Timestamp(None, _) => Ok(Type::Timestamp),
        DataType::Date => Ok(Type::Date),
        DataType::Time(None, _) => Ok(Type::Time),
        other => Err(TranslationError::unsupported(format!("the type {other}"))),
    }
}

/// Formats a string for SQLite. Strings that are not plain are in hexadecimal, especially those
/// with a NUL, at which SQLite would stop.
pub(super) fn text(text: &str) -> String {
    if text.chars().any(char::is_control) {
        let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        return format!("CAST(x'{hex}' AS TEXT)");
    }
    format!("'{}'", text.replace('\'', "''"))
}

/// Formats a double for SQLite without loss of precision.
pub(super) fn double(number: f64) -> String {
    let text = format!("{number:?}");
    if text.contains(['.', 'e']) { text } else { format!("{text}.0") }
}

/// Translates a number: whole ones are INTEGER or, if that is too small, BIGINT; all others are
/// DOUBLE.
pub(super) fn number(digits: &str) -> Result<SqlExpr, TranslationError> {
    if digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        let number: i64 = digits.parse().map_err(|_| {
            TranslationError::new(format!("{digits} is out of the range of bigint"))
        })?;
        let of = if i32::try_from(number).is_ok() { Type::Integer } else { Type::Bigint };
        // SQLite parses the magnitude of i64::MIN as a double.
        let text =
            if number == i64::MIN { format!("({} - 1)", -i64::MAX) } else { number.to_string() };
        return Ok(SqlExpr::constant(text, of));
    }
    match digits.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(SqlExpr::constant(double(number), Type::Double)),
        _ => Err(TranslationError::new(format!("{digits} is not a number"))),
    }
}

/// Translates an interval in one word such as `15m`; `None` if the word is not an interval.
pub(super) fn interval_word(word: &str) -> Option<Result<SqlExpr, TranslationError>> {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = word.split_at(digits);
    if count.is_empty() {
        return None;
    }
    Some(interval_of(count, unit))
}

/// Translates `interval '15' minute`.
pub(super) fn interval(interval: &Interval) -> Result<SqlExpr, TranslationError> {
    let Interval {
        value,
        leading_field: Some(field),
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    } = interval
    else {
        return Err(TranslationError::unsupported("an interval that is not of one unit"));
    };
    let Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(count), .. }) = value.as_ref()
    else {
        return Err(TranslationError::unsupported("an interval with a count that is not a string"));
    };
    let unit = match field {
        DateTimeField::Custom(word) => word.value.clone(),
        known => known.to_string(),
    };
    interval_of(count, &unit)
}

fn interval_of(count: &str, unit: &str) -> Result<SqlExpr, TranslationError> {
    let out_of_range =
        || TranslationError::new(format!("the interval {count} {unit} is out of range"));
    let count: i64 = count.trim().parse().map_err(|_| out_of_range())?;
    let unit = Unit::of(unit)
        .ok_or_else(|| TranslationError::new(format!("'{unit}' is not a unit of an interval")))?;
    let (size, of) = match unit {
        Unit::Nanos(size) => (size, Type::IntervalDayToSecond),
        Unit::Months(size) => (size, Type::IntervalYearToMonth),
    };
    let length = count.checked_mul(size).ok_or_else(out_of_range)?;
    Ok(SqlExpr::constant(length.to_string(), of))
}

/// A unit of time with its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Nanos(i64),
    Months(i64),
}

impl Unit {
    /// Returns the unit of a name or an abbreviation.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        Some(match name.strip_suffix('s').filter(|stem| stem.len() > 2).unwrap_or(&name) {
            "ns" | "nanosecond" => Self::Nanos(1),
            "us" | "microsecond" => Self::Nanos(1_000),
            "ms" | "millisecond" => Self::Nanos(1_000_000),
            "s" | "second" => Self::Nanos(NANOS_PER_SECOND),
            "m" | "min" | "minute" => Self::Nanos(60 * NANOS_PER_SECOND),
            "h" | "hour" => Self::Nanos(NANOS_PER_HOUR),
            "d" | "day" => Self::Nanos(NANOS_PER_DAY),
            "w" | "week" => Self::Nanos(7 * NANOS_PER_DAY),
            "mon" | "month" => Self::Months(1),
            "quarter" => Self::Months(3),
            "y" | "year" => Self::Months(12),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn unit_has_a_short_and_a_long_name() {
        for (names, unit) in [
            (["s", "second", "seconds"], Unit::Nanos(NANOS_PER_SECOND)),
            (["m", "minute", "MINUTES"], Unit::Nanos(60 * NANOS_PER_SECOND)),
            (["d", "day", "days"], Unit::Nanos(NANOS_PER_DAY)),
            (["y", "year", "years"], Unit::Months(12)),
        ] {
            for name in names {
                assert_eq!(Unit::of(name), Some(unit), "{name}");
            }
        }
        assert_eq!(Unit::of("ms"), Some(Unit::Nanos(1_000_000)));
        assert_eq!(Unit::of("fortnight"), None);
    }

    #[test]
    fn interval_longer_than_292_years_is_rejected() {
        assert!(interval_word("200000d").unwrap().is_err());
        assert!(interval_word("99999999999999999999s").unwrap().is_err());
        assert!(interval_word("5parsec").unwrap().is_err());
        assert_eq!(interval_word("5m").unwrap().unwrap().text, "300000000000");
    }

    proptest! {
        #[test]
        fn string_round_trips_through_sqlite(given in any::<String>()) {
            let sqlite = Connection::open_in_memory().unwrap();
            let read: String =
                sqlite.query_row(&format!("SELECT {}", text(&given)), [], |row| row.get(0)).unwrap();
            prop_assert_eq!(read, given);
        }

        #[test]
        fn number_round_trips_through_sqlite(whole in any::<i64>(), broken in any::<f64>()) {
            prop_assume!(broken.is_finite());
            let sqlite = Connection::open_in_memory().unwrap();
            let whole_text = number(&whole.to_string()).unwrap().text;
            let sql = format!("SELECT {whole_text}, {}", double(broken));
            let read: (i64, f64) =
                sqlite.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            prop_assert_eq!(read, (whole, broken));
        }
    }
}
