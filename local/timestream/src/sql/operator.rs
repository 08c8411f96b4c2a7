//! Operators and conversions between typed expressions.

use sqlparser::ast::BinaryOperator;

use super::{TranslationError, expression::SqlExpr};
use crate::value::Type;

pub(super) fn binary(
    left: SqlExpr,
    op: &BinaryOperator,
    right: SqlExpr,
) -> Result<SqlExpr, TranslationError> {
    use BinaryOperator::{
        Divide, Eq, Gt, GtEq, Lt, LtEq, Minus, Modulo, Multiply, NotEq, Plus, StringConcat,
    };
    match op {
        Eq | NotEq | Lt | LtEq | Gt | GtEq => {
            let (left, right) = comparable(left, right)?;
            Ok(SqlExpr::new(format!("({} {op} {})", left.text, right.text), Type::Boolean))
        }
        Plus | Minus | Multiply | Divide | Modulo => arithmetic(left, op, right),
        StringConcat => {
            if [left.of, right.of].iter().all(|of| matches!(of, Type::Varchar | Type::Unknown)) {
                Ok(SqlExpr::new(format!("({} || {})", left.text, right.text), Type::Varchar))
            } else {
                Err(mismatch("||", left.of, right.of))
            }
        }
        other => Err(TranslationError::unsupported(format!("the operator {other}"))),
    }
}

/// Makes two expressions comparable. Numbers are unchanged, since SQLite compares an integer with a
/// double exactly.
pub(super) fn comparable(
    left: SqlExpr,
    right: SqlExpr,
) -> Result<(SqlExpr, SqlExpr), TranslationError> {
    let of = left.of.common(right.of).ok_or_else(|| {
        let hint = match (left.of, right.of) {
            (Type::Timestamp, Type::Varchar) | (Type::Varchar, Type::Timestamp) => {
                "; a literal is written as timestamp '2024-01-01 00:00:00'"
            }
            _ => "",
        };
        TranslationError::new(format!("{} and {} cannot be compared{hint}", left.of, right.of))
    })?;
    if of.is_numeric() {
        return Ok((left, right));
    }
    Ok((left.promoted(of), right.promoted(of)))
}

fn arithmetic(
    left: SqlExpr,
    op: &BinaryOperator,
    right: SqlExpr,
) -> Result<SqlExpr, TranslationError> {
    use BinaryOperator::{Divide, Minus, Modulo, Multiply, Plus};
    use Type::{Date, Integer, IntervalDayToSecond, IntervalYearToMonth, Timestamp, Unknown};
    let plain = |of: Type| SqlExpr::new(format!("({} {op} {})", left.text, right.text), of);
    let months = |to: &SqlExpr, by: &SqlExpr, sign: &str| {
        let at = to.clone().promoted(Timestamp);
        let later = format!("ts_add_months({}, {sign}{})", at.text, by.text);
        match to.of {
            Date => SqlExpr::new(format!("ts_cast({later}, 'timestamp', 'date')"), Date),
            of => SqlExpr::new(later, of),
        }
    };
    match (left.of, op, right.of) {
        (Unknown, _, _) | (_, _, Unknown) => Ok(SqlExpr::new("NULL", Unknown)),
        (one, _, two) if one.is_numeric() && two.is_numeric() => numbers(left, op, right),
        (Timestamp | IntervalDayToSecond, Plus | Minus, IntervalDayToSecond)
        | (IntervalYearToMonth, Plus | Minus, IntervalYearToMonth) => Ok(plain(left.of)),
        (IntervalDayToSecond, Plus, Timestamp) => Ok(plain(Timestamp)),
        (Timestamp | Date, Plus, IntervalYearToMonth) => Ok(months(&left, &right, "")),
        (Timestamp | Date, Minus, IntervalYearToMonth) => Ok(months(&left, &right, "-")),
        (IntervalYearToMonth, Plus, Timestamp | Date) => Ok(months(&right, &left, "")),
        (Date, Plus | Minus, IntervalDayToSecond) => {
            Ok(SqlExpr::new(format!("({} {op} ts_whole_days({}))", left.text, right.text), Date))
        }
        (IntervalDayToSecond, Multiply, Integer | Type::Bigint) => Ok(plain(IntervalDayToSecond)),
        (Integer | Type::Bigint, Multiply, IntervalDayToSecond) => Ok(plain(IntervalDayToSecond)),
        (IntervalDayToSecond, Divide, Integer | Type::Bigint) => Ok(SqlExpr::new(
            format!("ts_divide({}, {})", left.text, right.text),
            IntervalDayToSecond,
        )),
        (one, Plus | Minus | Multiply | Divide | Modulo, two) => {
            Err(mismatch(&op.to_string(), one, two))
        }
        _ => Err(TranslationError::unsupported(format!("the operator {op}"))),
    }
}

/// Translates arithmetic of numbers. SQLite continues in doubles after an integer overflow, which
/// is detected in the result, where the type of the column is an integer.
fn numbers(
    left: SqlExpr,
    op: &BinaryOperator,
    right: SqlExpr,
) -> Result<SqlExpr, TranslationError> {
    use BinaryOperator::{Divide, Modulo};
    let of = left.of.common(right.of).unwrap_or(Type::Double);
    let function = match op {
        Divide if of.is_integral() => "ts_divide",
        Divide => "ts_divide_double",
        Modulo if of.is_integral() => "ts_modulo",
        Modulo => "ts_modulo_double",
        _ => return Ok(SqlExpr::new(format!("({} {op} {})", left.text, right.text), of)),
    };
    // A constant divisor other than zero needs no check.
    let is_harmless = right.is_constant && !right.text.trim_matches(['-', '0', '.']).is_empty();
    let (left, right) = (left.promoted(of), right.promoted(of));
    let text = if is_harmless && *op == Divide {
        format!("({} / {})", left.text, right.text)
    } else {
        format!("{function}({}, {})", left.text, right.text)
    };
    Ok(SqlExpr::new(text, of))
}

/// Translates a CAST by `function`, which either fails or returns NULL for a value that it cannot
/// convert.
pub(super) fn cast(value: SqlExpr, to: Type, function: &str) -> Result<SqlExpr, TranslationError> {
    use Type::{Bigint, Boolean, Date, Double, Integer, Timestamp, Varchar};
    let from = value.of;
    match (from, to) {
        (Type::Unknown, to) => Ok(SqlExpr::new("NULL", to)),
        (from, to) if from == to => Ok(value),
        (Integer, Bigint) | (Integer | Bigint, Double) | (Date, Timestamp) => {
            Ok(value.promoted(to))
        }
        (_, Varchar)
        | (Varchar, Double | Bigint | Integer | Boolean | Timestamp | Date)
        | (Double, Bigint | Integer)
        | (Bigint, Integer)
        | (Timestamp, Date)
        | (Boolean, Double | Bigint | Integer)
        | (Double | Bigint | Integer, Boolean) => Ok(SqlExpr::new(
            format!("{function}({}, '{}', '{}')", value.text, from.name(), to.name()),
            to,
        )),
        _ => Err(TranslationError::new(format!("{from} cannot be cast to {to}"))),
    }
}

pub(super) fn mismatch(op: &str, left: Type, right: Type) -> TranslationError {
    TranslationError::new(format!("the operator {op} does not take {left} and {right}"))
}
