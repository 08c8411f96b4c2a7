//! Scalar functions with their types and translations. Functions named `ts_…` are those of
//! `query::functions`.

use sqlparser::ast::{
    CeilFloorKind, DateTimeField, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, ObjectName, ObjectNamePart,
};

use super::{
    TranslationError, aggregate,
    expression::{ExprContext, SqlExpr, unify},
    literal::{self, Unit},
    select::Translator,
};
use crate::{instant::NANOS_PER_DAY, value::Type};

/// The form in which the parser returns a plain `floor(x)`.
const NO_FIELD: CeilFloorKind = CeilFloorKind::DateTimeField(DateTimeField::NoDateTime);
/// A function of a double.
type DoubleFunction = fn(f64) -> f64;
/// Functions of a double that are registered in SQLite as `ts_{name}`.
pub(crate) const DOUBLE_FUNCTIONS: [(&str, DoubleFunction); 15] = [
    ("acos", f64::acos),
    ("asin", f64::asin),
    ("atan", f64::atan),
    ("cbrt", f64::cbrt),
    ("cos", f64::cos),
    ("cosh", f64::cosh),
    ("degrees", f64::to_degrees),
    ("exp", f64::exp),
    ("ln", f64::ln),
    ("log10", f64::log10),
    ("log2", f64::log2),
    ("radians", f64::to_radians),
    ("sin", f64::sin),
    ("sqrt", f64::sqrt),
    ("tan", f64::tan),
];

/// The fields of an instant that are also functions.
pub(crate) const FIELDS: [&str; 13] = [
    "day",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "dow",
    "doy",
    "hour",
    "millisecond",
    "minute",
    "month",
    "quarter",
    "second",
    "year",
];

impl Translator<'_> {
    pub(super) fn function(
        &mut self,
        call: &Function,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        let name = lower_name(&call.name)
            .ok_or_else(|| TranslationError::unsupported(format!("the function {}", call.name)))?;
        if call.uses_odbc_syntax
            || call.null_treatment.is_some()
            || !call.within_group.is_empty()
            || !matches!(call.parameters, FunctionArguments::None)
        {
            return Err(TranslationError::unsupported(format!("this form of {name}()")));
        }
        if let Some(window) = &call.over {
            return self.windowed(&name, call, window, context);
        }
        if aggregate::is_aggregate(&call.name) {
            return self.aggregate(&name, call, context);
        }
        if call.filter.is_some() {
            return Err(TranslationError::new(format!(
                "FILTER stands only after an aggregate, not {name}()"
            )));
        }
        let (list, None) = arguments(call)? else {
            return Err(TranslationError::new(format!(
                "DISTINCT stands only in an aggregate, not {name}()"
            )));
        };
        let values = self.values(list, context)?;
        self.scalar(&name, values)
    }

    /// Translates functions that the parser treats as syntax.
    pub(super) fn spelled_function(
        &mut self,
        expression: &Expr,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        let (name, parts) = match expression {
            Expr::Floor { expr, field: NO_FIELD } => ("floor", Vec::from([expr.as_ref()])),
            Expr::Ceil { expr, field: NO_FIELD } => ("ceil", Vec::from([expr.as_ref()])),
            Expr::Substring { expr, substring_from: Some(from), substring_for, .. } => {
                let mut parts = Vec::from([expr.as_ref(), from.as_ref()]);
                parts.extend(substring_for.as_deref());
                ("substr", parts)
            }
            Expr::Trim { expr, trim_where: None, trim_what: None, trim_characters: None } => {
                ("trim", Vec::from([expr.as_ref()]))
            }
            other => return Err(TranslationError::unsupported(format!("{other}"))),
        };
        let mut values = Vec::new();
        for part in parts {
            values.push(self.expression(part, context)?);
        }
        self.scalar(name, values)
    }

    pub(super) fn values(
        &mut self,
        list: &[FunctionArg],
        context: ExprContext<'_>,
    ) -> Result<Vec<SqlExpr>, TranslationError> {
        let mut values = Vec::new();
        for argument in list {
            match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => {
                    values.push(self.expression(expression, context)?);
                }
                other => {
                    return Err(TranslationError::unsupported(format!("the argument {other}")));
                }
            }
        }
        Ok(values)
    }

    fn scalar(&self, name: &str, values: Vec<SqlExpr>) -> Result<SqlExpr, TranslationError> {
        let of: Vec<Type> = values.iter().map(|value| value.of).collect();
        time(name, &values, self.now)
            .or_else(|| time_conversion(name, &values).map(Ok))
            .or_else(|| conditional(name, &values))
            .or_else(|| mathematical(name, &values))
            .or_else(|| textual(name, &values))
            .unwrap_or_else(|| Err(unknown_function(name, &of)))
    }
}

/// Translates functions of instants; `None` for other functions or types.
fn time(name: &str, values: &[SqlExpr], now: i64) -> Option<Result<SqlExpr, TranslationError>> {
    use Type::{Bigint, Date, Integer, IntervalDayToSecond, Time, Timestamp, Unknown, Varchar};
    let of: Vec<Type> = values.iter().map(|value| value.of).collect();
    let text: Vec<&str> = values.iter().map(|value| value.text.as_str()).collect();
    let instant = |at: usize| values.get(at).cloned().map(|value| value.promoted(Timestamp).text);
    let constant = |value: i64, of: Type| SqlExpr::constant(value.to_string(), of);
    let sql = match (name, of.as_slice()) {
        ("now" | "current_timestamp", []) => constant(now, Timestamp),
        ("current_date", []) => constant(now.div_euclid(NANOS_PER_DAY), Date),
        ("current_time", []) => constant(now.rem_euclid(NANOS_PER_DAY), Time),
        ("ago", [IntervalDayToSecond]) => {
            let [length] = text.as_slice() else { return None };
            // Computed here, so that the bound of a time range is a constant that an index can use.
            match length.parse::<i64>().ok().and_then(|length| now.checked_sub(length)) {
                Some(at) => constant(at, Timestamp),
                None => SqlExpr::new(format!("({now} - {length})"), Timestamp),
            }
        }
        ("bin", [Timestamp | Date, IntervalDayToSecond]) => {
            let ([_, step], Some(at)) = (text.as_slice(), instant(0)) else { return None };
            match step.parse::<i64>() {
                Ok(length) if length <= 0 => {
                    return Some(Err(TranslationError::new("bin() takes an interval above zero")));
                }
                _ => SqlExpr {
                    nullable: values[0].nullable,
                    ..SqlExpr::new(format!("ts_bin({at}, {step})"), Timestamp)
                },
            }
        }
        ("bin", [Bigint | Integer, Bigint | Integer]) => {
            SqlExpr::new(format!("ts_bin({}, {})", text[0], text[1]), Bigint)
        }
        ("date_trunc", [Varchar, Timestamp | Date]) => {
            SqlExpr::new(format!("ts_truncate({}, {})", unit(&values[0])?, instant(1)?), Timestamp)
        }
        ("date_add", [Varchar, Integer | Bigint, Timestamp | Date]) => SqlExpr::new(
            format!("ts_add({}, {}, {})", unit(&values[0])?, text[1], instant(2)?),
            Timestamp,
        ),
        ("date_diff", [Varchar, Timestamp | Date, Timestamp | Date]) => SqlExpr::new(
            format!("ts_difference({}, {}, {})", unit(&values[0])?, instant(1)?, instant(2)?),
            Bigint,
        ),
        (_, [Timestamp | Date | IntervalDayToSecond | Unknown]) if FIELDS.contains(&name) => {
            return Some(field(name, values[0].clone()));
        }
        _ => return None,
    };
    Some(Ok(sql))
}

/// Translates conversions from and to instants; `None` for other functions or types.
fn time_conversion(name: &str, values: &[SqlExpr]) -> Option<SqlExpr> {
    use Type::{Bigint, Date, Double, Integer, IntervalDayToSecond, Timestamp, Varchar};
    let [value] = values else { return None };
    let text = value.text.as_str();
    let instant = || value.clone().promoted(Timestamp).text;
    Some(match (name, value.of) {
        ("from_milliseconds", Integer | Bigint) => {
            SqlExpr::new(format!("({} * 1000000)", text), Timestamp)
        }
        ("from_nanoseconds", Integer | Bigint) => SqlExpr::new(text, Timestamp),
        ("from_unixtime", of) if of.is_numeric() => {
            SqlExpr::new(format!("ts_from_unixtime({})", text), Timestamp)
        }
        ("to_milliseconds", Timestamp | Date) => {
            SqlExpr::new(format!("({} / 1000000)", instant()), Bigint)
        }
        ("to_milliseconds", IntervalDayToSecond) => {
            SqlExpr::new(format!("({} / 1000000)", text), Bigint)
        }
        ("to_nanoseconds", Timestamp | Date) => SqlExpr::new(instant(), Bigint),
        ("to_nanoseconds", IntervalDayToSecond) => SqlExpr::new(text, Bigint),
        ("to_unixtime", Timestamp | Date) => {
            SqlExpr::new(format!("({} / 1000000000.0)", instant()), Double)
        }
        ("from_iso8601_timestamp", Varchar) => {
            SqlExpr::new(format!("ts_from_iso8601({})", text), Timestamp)
        }
        ("from_iso8601_date", Varchar) => {
            SqlExpr::new(format!("ts_cast({}, 'varchar', 'date')", text), Date)
        }
        ("to_iso8601", Timestamp) => SqlExpr::new(format!("ts_to_iso8601({})", text), Varchar),
        ("to_iso8601", Date) => {
            SqlExpr::new(format!("ts_cast({}, 'date', 'varchar')", text), Varchar)
        }
        ("date", Timestamp) => {
            SqlExpr::new(format!("ts_cast({}, 'timestamp', 'date')", text), Date)
        }
        ("parse_duration", Varchar) => {
            SqlExpr::new(format!("ts_parse_duration({})", text), IntervalDayToSecond)
        }
        _ => return None,
    })
}

/// Translates `year(time)` and `extract(year FROM time)`.
pub(super) fn field(name: &str, at: SqlExpr) -> Result<SqlExpr, TranslationError> {
    let name = name.to_ascii_lowercase();
    if !FIELDS.contains(&name.as_str()) {
        return Err(TranslationError::unsupported(format!("the field {name}")));
    }
    let at = match at.of {
        Type::Timestamp | Type::Date => at.promoted(Type::Timestamp).text,
        Type::Unknown => at.text,
        other => return Err(unknown_function(&name, &[other])),
    };
    Ok(SqlExpr::new(format!("ts_field('{name}', {at})"), Type::Bigint))
}

/// Returns the unit of time that a literal such as `'hour'` names.
fn unit(value: &SqlExpr) -> Option<&str> {
    let name = value.text.strip_prefix('\'')?.strip_suffix('\'')?;
    (value.is_constant && Unit::of(name).is_some()).then_some(&value.text)
}

/// Translates functions that select one of their arguments.
fn conditional(name: &str, values: &[SqlExpr]) -> Option<Result<SqlExpr, TranslationError>> {
    let choose = |form: &dyn Fn(Vec<String>) -> String, values: &[SqlExpr]| {
        let mut values = values.to_vec();
        unify(&mut values)
            .map(|of| SqlExpr::new(form(values.into_iter().map(|value| value.text).collect()), of))
    };
    Some(match (name, values) {
        ("coalesce", [_, ..]) => match values {
            [one] => Ok(one.clone()),
            _ => choose(&|texts| format!("coalesce({})", texts.join(", ")), values),
        },
        ("greatest", [_, _, ..]) => choose(&|texts| format!("max({})", texts.join(", ")), values),
        ("least", [_, _, ..]) => choose(&|texts| format!("min({})", texts.join(", ")), values),
        ("nullif", [_, _]) => choose(&|texts| format!("nullif({})", texts.join(", ")), values),
        ("if", [test, rest @ ..]) if test.of == Type::Boolean && matches!(rest.len(), 1 | 2) => {
            let mut rest = rest.to_vec();
            if rest.len() == 1 {
                rest.push(SqlExpr::new("NULL", Type::Unknown));
            }
            choose(
                &|texts| format!("(CASE WHEN {} THEN {} END)", test.text, texts.join(" ELSE ")),
                &rest,
            )
        }
        ("typeof", [one]) => Ok(SqlExpr::constant(literal::text(one.of.name()), Type::Varchar)),
        _ => return None,
    })
}

/// Translates functions of numbers.
fn mathematical(name: &str, values: &[SqlExpr]) -> Option<Result<SqlExpr, TranslationError>> {
    use Type::{Bigint, Boolean, Double, Integer};
    let of: Vec<Type> = values.iter().map(|value| value.of).collect();
    let text: Vec<&str> = values.iter().map(|value| value.text.as_str()).collect();
    let sql = match (name, of.as_slice()) {
        ("abs", [one]) if one.is_numeric() => SqlExpr::new(format!("abs({})", text[0]), *one),
        ("sign", [one]) if one.is_numeric() => {
            // `sign` of SQLite returns an integer for any argument.
            SqlExpr::new(format!("sign({})", text[0]), Bigint).promoted(*one)
        }
        ("ceil" | "ceiling" | "floor" | "round" | "truncate", [Integer | Bigint]) => {
            values[0].clone()
        }
        ("ceil" | "ceiling", [Double]) => SqlExpr::new(format!("ts_ceil({})", text[0]), Double),
        ("floor", [Double]) => SqlExpr::new(format!("ts_floor({})", text[0]), Double),
        ("truncate", [Double]) => SqlExpr::new(format!("ts_trunc({})", text[0]), Double),
        ("round", [Double]) => SqlExpr::new(format!("ts_round({}, 0)", text[0]), Double),
        ("round", [one, Integer | Bigint]) if one.is_numeric() => {
            SqlExpr::new(format!("ts_round({}, {})", text[0], text[1]), Double)
        }
        ("mod", [one, two]) if one.is_integral() && two.is_integral() => {
            SqlExpr::new(format!("ts_modulo({}, {})", text[0], text[1]), one.common(*two)?)
        }
        ("mod", [one, two]) if one.is_numeric() && two.is_numeric() => {
            SqlExpr::new(format!("ts_modulo_double({}, {})", text[0], text[1]), Double)
        }
        ("power" | "pow", [one, two]) if one.is_numeric() && two.is_numeric() => {
            SqlExpr::new(format!("ts_power({}, {})", text[0], text[1]), Double)
        }
        ("atan2", [one, two]) if one.is_numeric() && two.is_numeric() => {
            SqlExpr::new(format!("ts_atan2({}, {})", text[0], text[1]), Double)
        }
        ("log", [base, one]) if base.is_numeric() && one.is_numeric() => {
            SqlExpr::new(format!("ts_log({}, {})", text[0], text[1]), Double)
        }
        ("pi", []) => SqlExpr::constant(literal::double(std::f64::consts::PI), Double),
        ("e", []) => SqlExpr::constant(literal::double(std::f64::consts::E), Double),
        ("infinity", []) => SqlExpr::constant("9e999", Double),
        ("is_infinite", [Double]) => SqlExpr::new(format!("(abs({}) = 9e999)", text[0]), Boolean),
        ("is_finite", [Double]) => SqlExpr::new(format!("(abs({}) < 9e999)", text[0]), Boolean),
        (_, [one])
            if one.is_numeric() && DOUBLE_FUNCTIONS.iter().any(|(known, _)| *known == name) =>
        {
            SqlExpr::new(format!("ts_{name}({})", text[0]), Double)
        }
        _ => return None,
    };
    Some(Ok(sql))
}

/// Translates functions of strings.
fn textual(name: &str, values: &[SqlExpr]) -> Option<Result<SqlExpr, TranslationError>> {
    use Type::{Bigint, Boolean, Varchar};
    let of: Vec<Type> = values.iter().map(|value| value.of).collect();
    let texts = values.iter().map(|value| value.text.as_str()).collect::<Vec<_>>().join(", ");
    let call = |function: &str, of: Type| SqlExpr::new(format!("{function}({texts})"), of);
    let is_count = |one: &Type| one.is_integral();
    Some(Ok(match (name, of.as_slice()) {
        ("length", [Varchar]) => call("length", Bigint),
        ("lower", [Varchar]) => call("ts_lower", Varchar),
        ("upper", [Varchar]) => call("ts_upper", Varchar),
        ("trim", [Varchar]) => call("ts_trim", Varchar),
        ("ltrim", [Varchar]) => call("ts_ltrim", Varchar),
        ("rtrim", [Varchar]) => call("ts_rtrim", Varchar),
        ("reverse", [Varchar]) => call("ts_reverse", Varchar),
        ("substr" | "substring", [Varchar, from]) if is_count(from) => call("substr", Varchar),
        ("substr" | "substring", [Varchar, from, length]) if is_count(from) && is_count(length) => {
            call("substr", Varchar)
        }
        ("replace", [Varchar, Varchar, Varchar]) => call("replace", Varchar),
        ("replace", [Varchar, Varchar]) => SqlExpr::new(format!("replace({texts}, '')"), Varchar),
        ("strpos", [Varchar, Varchar]) => call("instr", Bigint),
        ("starts_with", [Varchar, Varchar]) => call("ts_starts_with", Boolean),
        ("split_part", [Varchar, Varchar, index]) if is_count(index) => {
            call("ts_split_part", Varchar)
        }
        ("concat", [_, _, ..]) if of.iter().all(|one| matches!(one, Varchar | Type::Unknown)) => {
            let parts: Vec<&str> = values.iter().map(|value| value.text.as_str()).collect();
            SqlExpr::new(format!("({})", parts.join(" || ")), Varchar)
        }
        _ => return None,
    }))
}

/// Returns the name of a function; `None` if it is qualified.
pub(super) fn lower_name(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(name)] => Some(name.value.to_ascii_lowercase()),
        _ => None,
    }
}

/// Returns the arguments of a call, and whether DISTINCT precedes them.
pub(super) fn arguments(
    call: &Function,
) -> Result<(&[FunctionArg], Option<DuplicateTreatment>), TranslationError> {
    match &call.args {
        FunctionArguments::None => Ok((&[], None)),
        FunctionArguments::List(list) if list.clauses.is_empty() => {
            let treatment =
                list.duplicate_treatment.filter(|found| *found == DuplicateTreatment::Distinct);
            Ok((&list.args, treatment))
        }
        _ => Err(TranslationError::unsupported(format!("the arguments of {}()", call.name))),
    }
}

pub(super) fn unknown_function(name: &str, of: &[Type]) -> TranslationError {
    let types = of.iter().map(|of| of.name()).collect::<Vec<_>>().join(", ");
    TranslationError::new(format!("the function {name}({types}) is not supported"))
}
