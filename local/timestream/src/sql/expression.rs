//! Expressions, each with its type.

use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Ident, Query, Spanned, UnaryOperator, Value,
};

use super::{Refusal, literal, operator, scope::Scope, select::Translator};
use crate::{instant, value::Type};

/// An expression of SQLite. It can stand anywhere: what needs parentheses has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sql {
    pub(super) text: String,
    pub(super) of: Type,
    pub(super) nullable: bool,
    /// A literal, so the same for every row.
    pub(super) is_constant: bool,
}

impl Sql {
    pub(super) fn new(text: impl Into<String>, of: Type) -> Self {
        Self { text: text.into(), of, nullable: true, is_constant: false }
    }

    pub(super) fn constant(text: impl Into<String>, of: Type) -> Self {
        Self { text: text.into(), of, nullable: false, is_constant: true }
    }

    /// As a value of another type, to which it can be promoted: see [`Type::common`].
    pub(super) fn promoted(self, to: Type) -> Self {
        let text = match (self.of, to) {
            (Type::Integer | Type::Bigint, Type::Double) => format!("CAST({} AS REAL)", self.text),
            (Type::Date, Type::Timestamp) => {
                format!("({} * {})", self.text, instant::NANOS_PER_DAY)
            }
            _ => self.text,
        };
        Self { text, of: to, ..self }
    }
}

/// Where an expression stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) scope: &'a Scope<'a>,
    pub(super) rows: Rows<'a>,
}

/// What one evaluation of an expression is about.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    /// A row of FROM; the text says which clause allows no aggregate.
    Each(&'static str),
    /// A row of FROM, within an aggregate.
    Aggregated,
    /// A row of the answer of a query without groups, where a window may look at others.
    Selected,
    /// A group. Columns are its keys, of which these are the expressions in SQLite.
    Grouped(&'a [String]),
}

impl<'a> Place<'a> {
    pub(super) fn with(self, rows: Rows<'a>) -> Self {
        Self { rows, ..self }
    }
}

impl Translator<'_> {
    /// The expression in SQLite.
    pub(super) fn expression(
        &mut self,
        expression: &Expr,
        place: Place<'_>,
    ) -> Result<Sql, Refusal> {
        if let Rows::Grouped(keys) = place.rows
            && !keys.is_empty()
            && let Ok(key) = self.expression(expression, place.with(Rows::Each("GROUP BY")))
            && keys.contains(&key.text)
        {
            return Ok(key);
        }
        self.whatever(expression, place).map_err(|refusal| refusal.at(expression.span()))
    }

    fn whatever(&mut self, expression: &Expr, place: Place<'_>) -> Result<Sql, Refusal> {
        match expression {
            Expr::Identifier(name) => self.word(name, place),
            Expr::CompoundIdentifier(path) => match path.as_slice() {
                [relation, name] => self.column(Some(relation), &name.value, place),
                [_, relation, name] => self.column(Some(relation), &name.value, place),
                _ => Err(Refusal::unsupported(format!("the name {expression}"))),
            },
            Expr::Nested(inner) => self.expression(inner, place),
            Expr::Value(value) => literal::constant(&value.value),
            Expr::TypedString(typed) => literal::typed(typed),
            Expr::Interval(interval) => literal::interval(interval),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                self.chain(&BinaryOperator::And, left, right, place)
            }
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
                self.chain(&BinaryOperator::Or, left, right, place)
            }
            Expr::BinaryOp { left, op, right } => {
                let (left, right) = (self.expression(left, place)?, self.expression(right, place)?);
                operator::binary(left, op, right)
            }
            Expr::UnaryOp { op, expr } => self.unary(*op, expr, place),
            Expr::IsNull(inner) => self.predicate("IS NULL", inner, None, place),
            Expr::IsNotNull(inner) => self.predicate("IS NOT NULL", inner, None, place),
            Expr::IsTrue(inner) => self.predicate("IS TRUE", inner, Some(Type::Boolean), place),
            Expr::IsFalse(inner) => self.predicate("IS FALSE", inner, Some(Type::Boolean), place),
            Expr::IsNotTrue(inner) => {
                self.predicate("IS NOT TRUE", inner, Some(Type::Boolean), place)
            }
            Expr::IsNotFalse(inner) => {
                self.predicate("IS NOT FALSE", inner, Some(Type::Boolean), place)
            }
            Expr::IsDistinctFrom(left, right) => self.distinct("IS NOT", left, right, place),
            Expr::IsNotDistinctFrom(left, right) => self.distinct("IS", left, right, place),
            Expr::Between { expr, negated, low, high } => {
                self.between(expr, *negated, low, high, place)
            }
            Expr::In { expr, target, negated, global: false } => {
                self.is_in(expr, target, *negated, place)
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                self.like(expr, *negated, pattern, escape_char.as_deref(), place)
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), place)
            }
            Expr::Cast { kind, expr, data_type, format: None } => {
                self.cast(kind, expr, data_type, place)
            }
            Expr::Function(function) => self.function(function, place),
            Expr::Extract { field, expr, .. } => {
                let at = self.expression(expr, place)?;
                super::function::field(&field.to_string(), at)
            }
            Expr::Floor { .. }
            | Expr::Ceil { .. }
            | Expr::Substring { .. }
            | Expr::Trim { .. }
            | Expr::Position { .. } => self.spelled_function(expression, place),
            Expr::Subquery(query) => {
                let (sql, of) = self.one_column(query, place)?;
                Ok(Sql::new(format!("({sql})"), of))
            }
            Expr::Exists { subquery, negated } => {
                let sql = self.query(subquery, Some(place.scope))?.sql;
                let not = if *negated { "NOT " } else { "" };
                Ok(Sql::new(format!("({not}EXISTS ({sql}))"), Type::Boolean))
            }
            other => Err(Refusal::unsupported(format!("the expression {}", shortened(other)))),
        }
    }

    /// A word alone: a column, or the literal of an interval.
    fn word(&mut self, name: &Ident, place: Place<'_>) -> Result<Sql, Refusal> {
        if name.quote_style.is_none()
            && let Some(interval) = literal::interval_word(&name.value)
        {
            return interval;
        }
        self.column(None, &name.value, place)
    }

    fn column(
        &mut self,
        relation: Option<&Ident>,
        name: &str,
        place: Place<'_>,
    ) -> Result<Sql, Refusal> {
        let column = place.scope.resolve(relation, name)?;
        match place.rows {
            // It would have been found among the keys.
            Rows::Grouped(_) => Err(Refusal::new(format!(
                "'{name}' must be an aggregate expression or appear in GROUP BY clause"
            ))),
            _ => Ok(column),
        }
    }

    fn unary(&mut self, op: UnaryOperator, inner: &Expr, place: Place<'_>) -> Result<Sql, Refusal> {
        if op == UnaryOperator::Minus
            && let Expr::Value(value) = inner
            && let Value::Number(digits, _) = &value.value
        {
            return literal::number(&format!("-{digits}"));
        }
        let inner = self.expression(inner, place)?;
        let wanted = match op {
            UnaryOperator::Not => inner.of == Type::Boolean || inner.of == Type::Unknown,
            _ => inner.of.is_numeric() || inner.of == Type::IntervalDayToSecond,
        };
        let sign = match op {
            UnaryOperator::Not => "NOT ",
            UnaryOperator::Minus => "-",
            UnaryOperator::Plus => "+",
            _ => return Err(Refusal::unsupported(format!("the operator {op}"))),
        };
        if !wanted {
            return Err(Refusal::new(format!("the operator {op} takes no {}", inner.of)));
        }
        Ok(Sql { text: format!("({sign}{})", inner.text), ..inner })
    }

    /// `a AND b AND c …`. Long chains are written as a balanced tree, since SQLite refuses deep ones.
    fn chain(
        &mut self,
        op: &BinaryOperator,
        left: &Expr,
        right: &Expr,
        place: Place<'_>,
    ) -> Result<Sql, Refusal> {
        let mut operands = Vec::from([right]);
        let mut rest = left;
        while let Expr::BinaryOp { left, op: same, right } = rest
            && same == op
        {
            operands.push(right.as_ref());
            rest = left;
        }
        operands.push(rest);
        let mut parts = Vec::with_capacity(operands.len());
        for operand in operands.into_iter().rev() {
            parts.push(self.condition(operand, place)?.text);
        }
        Ok(Sql::new(balanced(&parts, &op.to_string()), Type::Boolean))
    }

    /// An expression that must be a truth value.
    pub(super) fn condition(
        &mut self,
        expression: &Expr,
        place: Place<'_>,
    ) -> Result<Sql, Refusal> {
        let condition = self.expression(expression, place)?;
        if condition.of == Type::Boolean || condition.of == Type::Unknown {
            Ok(condition)
        } else {
            let refusal =
                Refusal::new(format!("a boolean is expected, and this is {}", condition.of));
            Err(refusal.at(expression.span()))
        }
    }

    /// `measure_value::double` is a column; every other cast is a conversion.
    fn cast(
        &mut self,
        kind: &CastKind,
        inner: &Expr,
        to: &DataType,
        place: Place<'_>,
    ) -> Result<Sql, Refusal> {
        if *kind == CastKind::DoubleColon {
            let (relation, name) = match inner {
                Expr::Identifier(name) => (None, name),
                Expr::CompoundIdentifier(path) => match path.as_slice() {
                    [.., relation, name] => (Some(relation), name),
                    _ => return Err(Refusal::unsupported("this name")),
                },
                _ => return Err(Refusal::new(":: stands only in measure_value::TYPE")),
            };
            if !name.value.eq_ignore_ascii_case("measure_value") {
                return Err(Refusal::new(":: stands only in measure_value::TYPE"));
            }
            let of = literal::sql_type(to)?;
            return self.column(relation, &format!("measure_value::{of}"), place);
        }
        let inner = self.expression(inner, place)?;
        let to = literal::sql_type(to)?;
        match kind {
            CastKind::Cast => operator::cast(inner, to, "ts_cast"),
            CastKind::TryCast => operator::cast(inner, to, "ts_try_cast"),
            _ => Err(Refusal::unsupported("this form of CAST")),
        }
    }

    /// A subquery that stands for a value.
    pub(super) fn one_column(
        &mut self,
        query: &Query,
        place: Place<'_>,
    ) -> Result<(String, Type), Refusal> {
        let translation = self.query(query, Some(place.scope))?;
        match translation.columns.as_slice() {
            [column] => Ok((translation.sql, column.of)),
            columns => {
                Err(Refusal::new(format!("this subquery has {} columns, not one", columns.len())))
            }
        }
    }
}

/// Promotes all to the type that they have in common.
pub(super) fn unify(all: &mut Vec<Sql>) -> Result<Type, Refusal> {
    let mut of = Type::Unknown;
    for one in all.iter() {
        of = of.common(one.of).ok_or_else(|| {
            Refusal::new(format!("{of} and {} cannot stand for one value", one.of))
        })?;
    }
    for one in all {
        *one = one.clone().promoted(of);
    }
    Ok(of)
}

fn balanced(parts: &[String], op: &str) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        _ => {
            let (left, right) = parts.split_at(parts.len() / 2);
            format!("({} {op} {})", balanced(left, op), balanced(right, op))
        }
    }
}

/// An expression for a person to find in the query.
fn shortened(expression: &Expr) -> String {
    let text = expression.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
