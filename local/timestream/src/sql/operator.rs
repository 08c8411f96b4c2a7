//! Operators and conversions between typed expressions.

use sqlparser::ast::BinaryOperator;

use super::{Refusal, expression::Sql};
use crate::value::Type;

pub(super) fn binary(left: Sql, op: &BinaryOperator, right: Sql) -> Result<Sql, Refusal> {
    use BinaryOperator::{
        Divide, Eq, Gt, GtEq, Lt, LtEq, Minus, Modulo, Multiply, NotEq, Plus, StringConcat,
    };
    match op {
        Eq | NotEq | Lt | LtEq | Gt | GtEq => {
            let (left, right) = comparable(left, right)?;
            Ok(Sql::new(format!("({} {op} {})", left.text, right.text), Type::Boolean))
        }
        Plus | Minus | Multiply | Divide | Modulo => arithmetic(left, op, right),
        StringConcat => {
            if [left.of, right.of].iter().all(|of| matches!(of, Type::Varchar | Type::Unknown)) {
                Ok(Sql::new(format!("({} || {})", left.text, right.text), Type::Varchar))
            } else {
                Err(mismatch("||", left.of, right.of))
            }
        }
        other => Err(Refusal::unsupported(format!("the operator {other}"))),
    }
}

/// Both as values that can be compared. Numbers are as they are: SQLite compares an integer with a double
/// exactly.
pub(super) fn comparable(left: Sql, right: Sql) -> Result<(Sql, Sql), Refusal> {
    let of = left.of.common(right.of).ok_or_else(|| {
        let hint = match (left.of, right.of) {
            (Type::Timestamp, Type::Varchar) | (Type::Varchar, Type::Timestamp) => {
                "; a literal is written as timestamp '2024-01-01 00:00:00'"
            }
            _ => "",
        };
        Refusal::new(format!("{} and {} cannot be compared{hint}", left.of, right.of))
    })?;
    if of.is_numeric() {
        return Ok((left, right));
    }
    Ok((left.promoted(of), right.promoted(of)))
}

fn arithmetic(left: Sql, op: &BinaryOperator, right: Sql) -> Result<Sql, Refusal> {
    use BinaryOperator::{Divide, Minus, Modulo, Multiply, Plus};
    use Type::{Date, Integer, IntervalDayToSecond, IntervalYearToMonth, Timestamp, Unknown};
    let plain = |of: Type| Sql::new(format!("({} {op} {})", left.text, right.text), of);
    let months = |to: &Sql, by: &Sql, sign: &str| {
        let at = to.clone().promoted(Timestamp);
        let later = format!("ts_add_months({}, {sign}{})", at.text, by.text);
        match to.of {
            Date => Sql::new(format!("ts_cast({later}, 'timestamp', 'date')"), Date),
            of => Sql::new(later, of),
        }
    };
    match (left.of, op, right.of) {
        (Unknown, _, _) | (_, _, Unknown) => Ok(Sql::new("NULL", Unknown)),
        (one, _, two) if one.is_numeric() && two.is_numeric() => numbers(left, op, right),
        (Timestamp | IntervalDayToSecond, Plus | Minus, IntervalDayToSecond)
        | (IntervalYearToMonth, Plus | Minus, IntervalYearToMonth) => Ok(plain(left.of)),
        (IntervalDayToSecond, Plus, Timestamp) => Ok(plain(Timestamp)),
        (Timestamp | Date, Plus, IntervalYearToMonth) => Ok(months(&left, &right, "")),
        (Timestamp | Date, Minus, IntervalYearToMonth) => Ok(months(&left, &right, "-")),
        (IntervalYearToMonth, Plus, Timestamp | Date) => Ok(months(&right, &left, "")),
        (Date, Plus | Minus, IntervalDayToSecond) => {
            Ok(Sql::new(format!("({} {op} ts_whole_days({}))", left.text, right.text), Date))
        }
        (IntervalDayToSecond, Multiply, Integer | Type::Bigint) => Ok(plain(IntervalDayToSecond)),
        (Integer | Type::Bigint, Multiply, IntervalDayToSecond) => Ok(plain(IntervalDayToSecond)),
        (IntervalDayToSecond, Divide, Integer | Type::Bigint) => {
            Ok(Sql::new(format!("ts_divide({}, {})", left.text, right.text), IntervalDayToSecond))
        }
        (one, Plus | Minus | Multiply | Divide | Modulo, two) => {
            Err(mismatch(&op.to_string(), one, two))
        }
        _ => Err(Refusal::unsupported(format!("the operator {op}"))),
    }
}

/// Whole numbers that overflow go on as doubles in SQLite, which is noticed when the answer is written: its column is
/// not one of doubles.
fn numbers(left: Sql, op: &BinaryOperator, right: Sql) -> Result<Sql, Refusal> {
    use BinaryOperator::{Divide, Modulo};
    let of = left.of.common(right.of).unwrap_or(Type::Double);
    let function = match op {
        Divide if of.is_integral() => "ts_divide",
        Divide => "ts_divide_double",
        Modulo if of.is_integral() => "ts_modulo",
        Modulo => "ts_modulo_double",
        _ => return Ok(Sql::new(format!("({} {op} {})", left.text, right.text), of)),
    };
    // A divisor that is seen not to be zero needs no function.
    let is_harmless = right.is_constant && !right.text.trim_matches(['-', '0', '.']).is_empty();
    let (left, right) = (left.promoted(of), right.promoted(of));
    let text = if is_harmless && *op == Divide {
        format!("({} / {})", left.text, right.text)
    } else {
        format!("{function}({}, {})", left.text, right.text)
    };
    Ok(Sql::new(text, of))
}

/// CAST by `function`, which is one that fails, or one that makes NULL of what it cannot convert.
pub(super) fn cast(value: Sql, to: Type, function: &str) -> Result<Sql, Refusal> {
    use Type::{Bigint, Boolean, Date, Double, Integer, Timestamp, Varchar};
    let from = value.of;
    match (from, to) {
        (Type::Unknown, to) => Ok(Sql::new("NULL", to)),
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
        | (Double | Bigint | Integer, Boolean) => Ok(Sql::new(
            format!("{function}({}, '{}', '{}')", value.text, from.name(), to.name()),
            to,
        )),
        _ => Err(Refusal::new(format!("{from} cannot be cast to {to}"))),
    }
}

pub(super) fn mismatch(op: &str, left: Type, right: Type) -> Refusal {
    Refusal::new(format!("the operator {op} does not take {left} and {right}"))
}
