//! Expressions with their types.

use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Ident, Query, Spanned, UnaryOperator, Value,
};

use super::{TranslationError, literal, operator, scope::Scope, select::Translator};
use crate::{instant, value::Type};

/// An expression for SQLite, with parentheses where any context requires them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SqlExpr {
    pub(super) text: String,
    pub(super) of: Type,
    pub(super) nullable: bool,
    /// Whether it is a literal, and so the same for every row.
    pub(super) is_constant: bool,
}

impl SqlExpr {
    pub(super) fn new(text: impl Into<String>, of: Type) -> Self {
        Self { text: text.into(), of, nullable: true, is_constant: false }
    }

    pub(super) fn constant(text: impl Into<String>, of: Type) -> Self {
        Self { text: text.into(), of, nullable: false, is_constant: true }
    }

    /// Converts the expression to a type that it can be promoted to: see [`Type::common`].
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

/// The context of an expression.
#[derive(Clone, Copy)]
pub(super) struct ExprContext<'a> {
    pub(super) scope: &'a Scope<'a>,
    pub(super) row_context: RowContext<'a>,
}

/// The input of one evaluation of an expression.
#[derive(Clone, Copy)]
pub(super) enum RowContext<'a> {
    /// A row of FROM, in a clause of this name that allows no aggregate.
    PerRow(&'static str),
    /// A row of FROM, within an aggregate.
    InAggregate,
    /// A row of the result of a query without groups, which allows window functions.
    Output,
    /// A group. Columns are its keys, whose expressions in SQLite these are.
    Grouped(&'a [String]),
}

impl<'a> ExprContext<'a> {
    pub(super) fn with_row_context(self, row_context: RowContext<'a>) -> Self {
        Self { row_context, ..self }
    }
}

impl Translator<'_> {
    /// Translates an expression.
    pub(super) fn expression(
        &mut self,
        expression: &Expr,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        if let RowContext::Grouped(keys) = context.row_context
            && !keys.is_empty()
            && let Ok(key) = self
                .expression(expression, context.with_row_context(RowContext::PerRow("GROUP BY")))
            && keys.contains(&key.text)
        {
            return Ok(key);
        }
        self.translate_expression(expression, context)
            .map_err(|error| error.with_location(expression.span()))
    }

    fn translate_expression(
        &mut self,
        expression: &Expr,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        match expression {
            Expr::Identifier(name) => self.identifier(name, context),
            Expr::CompoundIdentifier(path) => match path.as_slice() {
                [relation, name] => self.column(Some(relation), &name.value, context),
                [_, relation, name] => self.column(Some(relation), &name.value, context),
                _ => Err(TranslationError::unsupported(format!("the name {expression}"))),
            },
            Expr::Nested(inner) => self.expression(inner, context),
            Expr::Value(value) => literal::constant(&value.value),
            Expr::TypedString(typed) => literal::typed(typed),
            Expr::Interval(interval) => literal::interval(interval),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                self.chain(&BinaryOperator::And, left, right, context)
            }
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
                self.chain(&BinaryOperator::Or, left, right, context)
            }
            Expr::BinaryOp { left, op, right } => {
                let (left, right) =
                    (self.expression(left, context)?, self.expression(right, context)?);
                operator::binary(left, op, right)
            }
            Expr::UnaryOp { op, expr } => self.unary(*op, expr, context),
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref(), context)
            }
            Expr::Cast { kind, expr, data_type, format: None } => {
                self.cast(kind, expr, data_type, context)
            }
            Expr::Function(function) => self.function(function, context),
            Expr::Extract { field, expr, .. } => {
                let at = self.expression(expr, context)?;
                super::function::field(&field.to_string(), at)
            }
            Expr::Floor { .. }
            | Expr::Ceil { .. }
            | Expr::Substring { .. }
            | Expr::Trim { .. }
            | Expr::Position { .. } => self.spelled_function(expression, context),
            Expr::Subquery(query) => {
                let (sql, of) = self.one_column(query, context)?;
                Ok(SqlExpr::new(format!("({sql})"), of))
            }
            Expr::Exists { subquery, negated } => {
                let sql = self.query(subquery, Some(context.scope))?.sql;
                let not = if *negated { "NOT " } else { "" };
                Ok(SqlExpr::new(format!("({not}EXISTS ({sql}))"), Type::Boolean))
            }
            other => self.translate_predicate(other, context),
        }
    }

    fn translate_predicate(
        &mut self,
        expression: &Expr,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        match expression {
            Expr::IsNull(inner) => self.predicate("IS NULL", inner, None, context),
            Expr::IsNotNull(inner) => self.predicate("IS NOT NULL", inner, None, context),
            Expr::IsTrue(inner) => self.predicate("IS TRUE", inner, Some(Type::Boolean), context),
            Expr::IsFalse(inner) => self.predicate("IS FALSE", inner, Some(Type::Boolean), context),
            Expr::IsNotTrue(inner) => {
                self.predicate("IS NOT TRUE", inner, Some(Type::Boolean), context)
            }
            Expr::IsNotFalse(inner) => {
                self.predicate("IS NOT FALSE", inner, Some(Type::Boolean), context)
            }
            Expr::IsDistinctFrom(left, right) => self.distinct("IS NOT", left, right, context),
            Expr::IsNotDistinctFrom(left, right) => self.distinct("IS", left, right, context),
            Expr::Between { expr, negated, low, high } => {
                self.between(expr, *negated, low, high, context)
            }
            Expr::In { expr, target, negated, global: false } => {
                self.is_in(expr, target, *negated, context)
            }
            Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                self.like(expr, *negated, pattern, escape_char.as_deref(), context)
            }
            other => {
                Err(TranslationError::unsupported(format!("the expression {}", shortened(other))))
            }
        }
    }

    /// Translates a single word: a column, or the literal of an interval.
    fn identifier(
        &mut self,
        name: &Ident,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        if name.quote_style.is_none()
            && let Some(interval) = literal::interval_word(&name.value)
        {
            return interval;
        }
        self.column(None, &name.value, context)
    }

    fn column(
        &mut self,
        relation: Option<&Ident>,
        name: &str,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        let column = context.scope.resolve(relation, name)?;
        match context.row_context {
            // A key of the group would have been found before.
            RowContext::Grouped(_) => Err(TranslationError::new(format!(
                "'{name}' must be an aggregate expression or appear in GROUP BY clause"
            ))),
            _ => Ok(column),
        }
    }

    fn unary(
        &mut self,
        op: UnaryOperator,
        inner: &Expr,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        if op == UnaryOperator::Minus
            && let Expr::Value(value) = inner
            && let Value::Number(digits, _) = &value.value
        {
            return literal::number(&format!("-{digits}"));
        }
        let inner = self.expression(inner, context)?;
        let is_valid = match op {
            UnaryOperator::Not => inner.of == Type::Boolean || inner.of == Type::Unknown,
            _ => inner.of.is_numeric() || inner.of == Type::IntervalDayToSecond,
        };
        let sign = match op {
            UnaryOperator::Not => "NOT ",
            UnaryOperator::Minus => "-",
            UnaryOperator::Plus => "+",
            _ => return Err(TranslationError::unsupported(format!("the operator {op}"))),
        };
        if !is_valid {
            return Err(TranslationError::new(format!("the operator {op} takes no {}", inner.of)));
        }
        Ok(SqlExpr { text: format!("({sign}{})", inner.text), ..inner })
    }

    /// Translates `a AND b AND c …` as a balanced tree, since SQLite limits the depth.
    fn chain(
        &mut self,
        op: &BinaryOperator,
        left: &Expr,
        right: &Expr,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
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
            parts.push(self.condition(operand, context)?.text);
        }
        Ok(SqlExpr::new(balanced(&parts, &op.to_string()), Type::Boolean))
    }

    /// Translates an expression that must be boolean.
    pub(super) fn condition(
        &mut self,
        expression: &Expr,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        let condition = self.expression(expression, context)?;
        if condition.of == Type::Boolean || condition.of == Type::Unknown {
            Ok(condition)
        } else {
            let error = TranslationError::new(format!(
                "a boolean is expected, and this is {}",
                condition.of
            ));
            Err(error.with_location(expression.span()))
        }
    }

    /// Translates a cast; `measure_value::double` is a column.
    fn cast(
        &mut self,
        kind: &CastKind,
        inner: &Expr,
        to: &DataType,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        if *kind == CastKind::DoubleColon {
            let (relation, name) = match inner {
                Expr::Identifier(name) => (None, name),
                Expr::CompoundIdentifier(path) => match path.as_slice() {
                    [.., relation, name] => (Some(relation), name),
                    _ => return Err(TranslationError::unsupported("this name")),
                },
                _ => return Err(TranslationError::new(":: stands only in measure_value::TYPE")),
            };
            if !name.value.eq_ignore_ascii_case("measure_value") {
                return Err(TranslationError::new(":: stands only in measure_value::TYPE"));
            }
            let of = literal::sql_type(to)?;
            return self.column(relation, &format!("measure_value::{of}"), context);
        }
        let inner = self.expression(inner, context)?;
        let to = literal::sql_type(to)?;
        match kind {
            CastKind::Cast => operator::cast(inner, to, "ts_cast"),
            CastKind::TryCast => operator::cast(inner, to, "ts_try_cast"),
            _ => Err(TranslationError::unsupported("this form of CAST")),
        }
    }

    /// Translates a scalar subquery.
    pub(super) fn one_column(
        &mut self,
        query: &Query,
        context: ExprContext<'_>,
    ) -> Result<(String, Type), TranslationError> {
        let translation = self.query(query, Some(context.scope))?;
        match translation.columns.as_slice() {
            [column] => Ok((translation.sql, column.of)),
            columns => Err(TranslationError::new(format!(
                "this subquery has {} columns, not one",
                columns.len()
            ))),
        }
    }
}

/// Promotes all expressions to their common type.
pub(super) fn unify(all: &mut Vec<SqlExpr>) -> Result<Type, TranslationError> {
    let mut of = Type::Unknown;
    for one in all.iter() {
        of = of.common(one.of).ok_or_else(|| {
            TranslationError::new(format!("{of} and {} cannot stand for one value", one.of))
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

/// Shortens an expression for an error message.
fn shortened(expression: &Expr) -> String {
    let text = expression.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
