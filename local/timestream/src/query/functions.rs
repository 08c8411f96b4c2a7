//! The functions `ts_…` of the translation, which SQLite does not have.
//!
//! The translation has checked the types, so an argument of another type is NULL, or an integer for
//! a double.

use rusqlite::{
    Connection, Error, Result,
    functions::{Context, FunctionFlags},
    types::{ToSqlOutput, Value, ValueRef},
};

use crate::{
    instant::{self, NANOS_PER_DAY, NANOS_PER_SECOND},
    sql::{DOUBLE_FUNCTIONS, Unit},
    value::{self, Type},
};

/// The value of a function, where `None` is NULL, or an error message.
type FunctionResult = std::result::Result<Option<Value>, String>;

/// Registers all functions at a connection.
pub(super) fn register(connection: &Connection) -> Result<()> {
    for (name, function) in DOUBLE_FUNCTIONS {
        define(connection, &format!("ts_{name}"), 1, move |of| {
            Ok(double(of, 0).map(|number| Value::Real(function(number))))
        })?;
    }
    for (name, function) in [
        ("ts_ceil", f64::ceil as fn(f64) -> f64),
        ("ts_floor", f64::floor),
        ("ts_trunc", f64::trunc),
    ] {
        define(connection, name, 1, move |of| {
            Ok(double(of, 0).map(|number| Value::Real(function(number))))
        })?;
    }
    for (name, function) in [
        ("ts_power", f64::powf as fn(f64, f64) -> f64),
        ("ts_atan2", f64::atan2),
        ("ts_log", |base, number| number.ln() / base.ln()),
        ("ts_divide_double", |left, right| left / right),
        ("ts_modulo_double", |left, right| left % right),
        ("ts_round", round),
    ] {
        define(connection, name, 2, move |of| {
            let (Some(left), Some(right)) = (double(of, 0), double(of, 1)) else { return Ok(None) };
            Ok(Some(Value::Real(function(left, right))))
        })?;
    }
    define(connection, "ts_divide", 2, |of| integer_op(of, i64::checked_div))?;
    define(connection, "ts_modulo", 2, |of| integer_op(of, i64::checked_rem))?;
    register_times(connection)?;
    register_time_conversions(connection)?;
    register_strings(connection)?;
    define(connection, "ts_cast", 3, cast)?;
    define(connection, "ts_try_cast", 3, |of| Ok(cast(of).unwrap_or(None)))
}

fn register_times(connection: &Connection) -> Result<()> {
    define(connection, "ts_bin", 2, |of| {
        let (Some(at), Some(step)) = (integer(of, 0), integer(of, 1)) else { return Ok(None) };
        if step <= 0 {
            return Err("bin() takes a step above zero".to_owned());
        }
        Ok(Some(Value::Integer(at - at.rem_euclid(step))))
    })?;
    define(connection, "ts_truncate", 2, |of| {
        let (Some(unit), Some(at)) = (text(of, 0), integer(of, 1)) else { return Ok(None) };
        Ok(truncate(unit, at).map(Value::Integer))
    })?;
    define(connection, "ts_add", 3, |of| {
        let (Some(unit), Some(count), Some(at)) = (text(of, 0), integer(of, 1), integer(of, 2))
        else {
            return Ok(None);
        };
        let later = match Unit::of(unit) {
            Some(Unit::Nanos(size)) => count.checked_mul(size).and_then(|by| at.checked_add(by)),
            Some(Unit::Months(size)) => {
                count.checked_mul(size).and_then(|months| instant::add_months(at, months))
            }
            None => None,
        };
        later.map(|at| Some(Value::Integer(at))).ok_or_else(out_of_range)
    })?;
    define(connection, "ts_add_months", 2, |of| {
        let (Some(at), Some(months)) = (integer(of, 0), integer(of, 1)) else { return Ok(None) };
        let later = instant::add_months(at, months).ok_or_else(out_of_range)?;
        Ok(Some(Value::Integer(later)))
    })?;
    define(connection, "ts_whole_days", 1, |of| {
        let Some(length) = integer(of, 0) else { return Ok(None) };
        if length % NANOS_PER_DAY != 0 {
            return Err("only whole days can be added to a date".to_owned());
        }
        Ok(Some(Value::Integer(length / NANOS_PER_DAY)))
    })?;
    define(connection, "ts_difference", 3, |of| {
        let (Some(unit), Some(from), Some(to)) = (text(of, 0), integer(of, 1), integer(of, 2))
        else {
            return Ok(None);
        };
        Ok(difference(unit, from, to).map(Value::Integer))
    })?;
    define(connection, "ts_field", 2, |of| {
        let (Some(name), Some(at)) = (text(of, 0), integer(of, 1)) else { return Ok(None) };
        Ok(field(name, at).map(Value::Integer))
    })
}

fn register_time_conversions(connection: &Connection) -> Result<()> {
    define(connection, "ts_from_unixtime", 1, |of| {
        let Some(seconds) = double(of, 0) else { return Ok(None) };
        let nanos = seconds * NANOS_PER_SECOND as f64;
        if nanos.abs() < i64::MAX as f64 {
            Ok(Some(Value::Integer(nanos as i64)))
        } else {
            Err(out_of_range())
        }
    })?;
    define(connection, "ts_from_iso8601", 1, |of| {
        let Some(given) = text(of, 0) else { return Ok(None) };
        match instant::parse_iso8601(given) {
            Some(at) => Ok(Some(Value::Integer(at))),
            None => Err(format!("'{given}' is not an ISO 8601 timestamp")),
        }
    })?;
    define(connection, "ts_to_iso8601", 1, |of| {
        Ok(integer(of, 0).map(|at| Value::Text(instant::iso8601(at))))
    })?;
    define(connection, "ts_parse_duration", 1, |of| {
        let Some(given) = text(of, 0) else { return Ok(None) };
        let words = given.trim();
        let digits = words.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(words.len());
        let (count, unit) = words.split_at(digits);
        match (count.parse::<f64>(), Unit::of(unit.trim())) {
            (Ok(count), Some(Unit::Nanos(size))) => {
                Ok(Some(Value::Integer((count * size as f64).round() as i64)))
            }
            _ => Err(format!("'{given}' is not a duration")),
        }
    })
}

fn register_strings(connection: &Connection) -> Result<()> {
    let one = |name: &str, function: fn(&str) -> String| {
        define(connection, name, 1, move |of| {
            Ok(text(of, 0).map(|given| Value::Text(function(given))))
        })
    };
    one("ts_lower", str::to_lowercase)?;
    one("ts_upper", str::to_uppercase)?;
    one("ts_trim", |given| given.trim().to_owned())?;
    one("ts_ltrim", |given| given.trim_start().to_owned())?;
    one("ts_rtrim", |given| given.trim_end().to_owned())?;
    one("ts_reverse", |given| given.chars().rev().collect())?;
    define(connection, "ts_starts_with", 2, |of| {
        let (Some(given), Some(start)) = (text(of, 0), text(of, 1)) else { return Ok(None) };
        Ok(Some(Value::Integer(given.starts_with(start).into())))
    })?;
    define(connection, "ts_split_part", 3, |of| {
        let (Some(given), Some(by), Some(index)) = (text(of, 0), text(of, 1), integer(of, 2))
        else {
            return Ok(None);
        };
        let index = usize::try_from(index).ok().and_then(|index| index.checked_sub(1));
        let index = index.ok_or_else(|| "split_part() counts from 1".to_owned())?;
        Ok(given.split(by).nth(index).map(|part| Value::Text(part.to_owned())))
    })
}

fn define(
    connection: &Connection,
    name: &str,
    arguments: i32,
    function: impl Fn(&Context<'_>) -> FunctionResult + Send + 'static,
) -> Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function(name, arguments, flags, move |context| {
        match function(context) {
            Ok(value) => Ok(ToSqlOutput::Owned(value.unwrap_or(Value::Null))),
            Err(message) => Err(Error::UserFunctionError(message.into())),
        }
    })
}

fn integer(of: &Context<'_>, at: usize) -> Option<i64> {
    match of.get_raw(at) {
        ValueRef::Integer(number) => Some(number),
        _ => None,
    }
}

fn double(of: &Context<'_>, at: usize) -> Option<f64> {
    match of.get_raw(at) {
        ValueRef::Integer(number) => Some(number as f64),
        ValueRef::Real(number) => Some(number),
        _ => None,
    }
}

fn text<'a>(of: &'a Context<'_>, at: usize) -> Option<&'a str> {
    of.get_raw(at).as_str().ok()
}

fn integer_op(of: &Context<'_>, compute: fn(i64, i64) -> Option<i64>) -> FunctionResult {
    let (Some(left), Some(right)) = (integer(of, 0), integer(of, 1)) else { return Ok(None) };
    if right == 0 {
        return Err("Division by zero".to_owned());
    }
    compute(left, right)
        .map(|number| Some(Value::Integer(number)))
        .ok_or_else(|| "the result is out of the range of bigint".to_owned())
}

/// Rounds half away from zero.
fn round(number: f64, digits: f64) -> f64 {
    let scale = 10_f64.powi(digits as i32);
    let rounded = (number * scale).round() / scale;
    if rounded.is_finite() { rounded } else { number }
}

fn out_of_range() -> String {
    "the result is not a time between 1677 and 2262".to_owned()
}

fn truncate(unit: &str, at: i64) -> Option<i64> {
    match Unit::of(unit)? {
        // Weeks start on Monday, and the epoch was a Thursday.
        Unit::Nanos(size) if size == 7 * NANOS_PER_DAY => {
            let days = at.div_euclid(NANOS_PER_DAY);
            (days - (days + 3).rem_euclid(7)).checked_mul(NANOS_PER_DAY)
        }
        Unit::Nanos(size) => Some(at - at.rem_euclid(size)),
        Unit::Months(size) => {
            let date = instant::civil(at).date();
            let month = i64::from(date.month()) - 1;
            let first = jiff::civil::Date::new(
                date.year(),
                i8::try_from(month - month % size + 1).ok()?,
                1,
            );
            instant::from_civil(first.ok()?.to_datetime(jiff::civil::Time::midnight()))
        }
    }
}

/// Returns the number of full units between two instants.
fn difference(unit: &str, from: i64, to: i64) -> Option<i64> {
    match Unit::of(unit)? {
        Unit::Nanos(size) => Some(to.checked_sub(from)? / size),
        Unit::Months(size) => {
            let (early, late) = (instant::civil(from.min(to)), instant::civil(from.max(to)));
            let months =
                |at: jiff::civil::DateTime| i64::from(at.year()) * 12 + i64::from(at.month());
            let mut count = months(late) - months(early);
            if (late.day(), late.time()) < (early.day(), early.time()) {
                count -= 1;
            }
            Some(if from <= to { count / size } else { -(count / size) })
        }
    }
}

fn field(name: &str, nanos: i64) -> Option<i64> {
    let at = instant::civil(nanos);
    Some(match name {
        "year" => at.year().into(),
        "quarter" => (i64::from(at.month()) + 2) / 3,
        "month" => at.month().into(),
        "day" | "day_of_month" => at.day().into(),
        "day_of_week" | "dow" => at.weekday().to_monday_one_offset().into(),
        "day_of_year" | "doy" => at.day_of_year().into(),
        "hour" => at.hour().into(),
        "minute" => at.minute().into(),
        "second" => at.second().into(),
        "millisecond" => i64::from(at.subsec_nanosecond()) / 1_000_000,
        _ => return None,
    })
}

/// `ts_cast(value, from, to)`
fn cast(of: &Context<'_>) -> FunctionResult {
    let given = of.get_raw(0);
    let (from, to) = (text(of, 1).unwrap_or_default(), text(of, 2).unwrap_or_default());
    let failed = || {
        let shown = match given {
            ValueRef::Text(text) => format!("'{}'", String::from_utf8_lossy(text)),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Real(number) => value::double(number),
            _ => from.to_owned(),
        };
        format!("Cannot cast {shown} to {to}")
    };
    let small = |number: i64| match to {
        "integer" => i32::try_from(number).ok().map(i64::from),
        _ => Some(number),
    };
    let result = match (given, to) {
        (ValueRef::Null, _) => return Ok(None),
        (given, "varchar") => {
            value::render(given, type_from_name(from)).ok().flatten().map(Value::Text)
        }
        (ValueRef::Text(bytes), to) => {
            let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
            match to {
                "double" => text.parse().ok().map(Value::Real),
                "bigint" | "integer" => text.parse().ok().and_then(small).map(Value::Integer),
                "boolean" => match text.to_ascii_lowercase().as_str() {
                    "true" | "t" | "1" => Some(Value::Integer(1)),
                    "false" | "f" | "0" => Some(Value::Integer(0)),
                    _ => None,
                },
                "timestamp" => instant::parse_timestamp(text).map(Value::Integer),
                "date" => instant::parse_date(text).map(Value::Integer),
                _ => None,
            }
        }
        (ValueRef::Real(number), "bigint" | "integer") => {
            let rounded = number.round();
            let fits = (i64::MIN as f64..i64::MAX as f64).contains(&rounded);
            fits.then_some(rounded as i64).and_then(small).map(Value::Integer)
        }
        (ValueRef::Real(number), "boolean") => Some(Value::Integer((number != 0.0).into())),
        (ValueRef::Integer(number), "boolean") => Some(Value::Integer((number != 0).into())),
        (ValueRef::Integer(number), "double") => Some(Value::Real(number as f64)),
        (ValueRef::Integer(number), "date") => {
            Some(Value::Integer(number.div_euclid(NANOS_PER_DAY)))
        }
        (ValueRef::Integer(number), _) => small(number).map(Value::Integer),
        _ => None,
    };
    result.map(Some).ok_or_else(failed)
}

/// Parses a [`Type::name`].
fn type_from_name(name: &str) -> Type {
    const ALL: [Type; 10] = [
        Type::Integer,
        Type::Bigint,
        Type::Double,
        Type::Varchar,
        Type::Boolean,
        Type::Timestamp,
        Type::Date,
        Type::Time,
        Type::IntervalDayToSecond,
        Type::IntervalYearToMonth,
    ];
    ALL.into_iter().find(|known| known.name() == name).unwrap_or(Type::Unknown)
}
