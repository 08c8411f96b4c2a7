//! ORDER BY, LIMIT, and numbers that refer to items of SELECT.

use sqlparser::ast::{Expr, LimitClause, OrderBy, OrderByExpr, OrderByKind, OrderBySort, Value};

use super::{
    OutputColumn, TranslationError,
    expression::ExprContext,
    select::{SelectedItem, Translator},
};

impl Translator<'_> {
    /// Translates a key of ORDER BY: an item by alias or number, or any expression.
    pub(super) fn order_key(
        &mut self,
        key: &OrderByExpr,
        items: &[SelectedItem],
        context: ExprContext<'_>,
    ) -> Result<String, TranslationError> {
        let by_alias = match &key.expr {
            Expr::Identifier(name) => items.iter().position(|item| {
                item.alias.as_ref().is_some_and(|alias| alias.eq_ignore_ascii_case(&name.value))
            }),
            expression => match ordinal(expression) {
                Some(number) if (1..=items.len()).contains(&number) => Some(number - 1),
                Some(number) => return Err(invalid_position(number)),
                None => None,
            },
        };
        let (text, nullable) = match by_alias.and_then(|at| items.get(at).map(|item| (at, item))) {
            Some((at, item)) => ((at + 1).to_string(), item.sql.nullable),
            None => {
                let sql = self.expression(&key.expr, context)?;
                // A bare number would refer to an item.
                let text = if sql.is_constant { format!("(0 + {})", sql.text) } else { sql.text };
                (text, sql.nullable)
            }
        };
        Ok(format!("{text}{}", direction(key, nullable)?))
    }

    /// Translates the ORDER BY of a window, which has no aliases or numbers.
    pub(super) fn window_order(
        &mut self,
        keys: &[OrderByExpr],
        context: ExprContext<'_>,
    ) -> Result<String, TranslationError> {
        let mut texts = Vec::new();
        for key in keys {
            let sql = self.expression(&key.expr, context)?;
            texts.push(format!("{}{}", sql.text, direction(key, sql.nullable)?));
        }
        Ok(texts.join(", "))
    }
}

/// Translates the direction of a key. NULLs are last in both directions by default. In SQLite they
/// are last in descending order; in ascending order `NULLS LAST` prevents the use of an index, so
/// it is added only for nullable keys.
fn direction(key: &OrderByExpr, nullable: bool) -> Result<&'static str, TranslationError> {
    if key.with_fill.is_some() {
        return Err(TranslationError::unsupported("WITH FILL"));
    }
    let descending = match &key.options.sort {
        None | Some(OrderBySort::Asc) => false,
        Some(OrderBySort::Desc) => true,
        Some(_) => return Err(TranslationError::unsupported("ORDER BY … USING")),
    };
    Ok(match (descending, key.options.nulls_first.unwrap_or(false)) {
        (false, false) if nullable => " NULLS LAST",
        (false, _) => "",
        (true, true) => " DESC NULLS FIRST",
        (true, false) => " DESC",
    })
}

pub(super) fn order_exprs(order_by: Option<&OrderBy>) -> Result<&[OrderByExpr], TranslationError> {
    match order_by {
        None => Ok(&[]),
        Some(OrderBy { kind: OrderByKind::Expressions(keys), interpolate: None }) => Ok(keys),
        Some(_) => Err(TranslationError::unsupported("this ORDER BY")),
    }
}

/// Translates the ORDER BY of a UNION: columns of the result by name or number.
pub(super) fn positions(
    order_by: &OrderBy,
    columns: &[OutputColumn],
) -> Result<String, TranslationError> {
    let mut texts = Vec::new();
    for key in order_exprs(Some(order_by))? {
        let position = match (&key.expr, ordinal(&key.expr)) {
            (_, Some(number)) if (1..=columns.len()).contains(&number) => number,
            (_, Some(number)) => return Err(invalid_position(number)),
            (Expr::Identifier(name), None) => {
                let found = columns
                    .iter()
                    .position(|column| column.name.eq_ignore_ascii_case(&name.value))
                    .ok_or_else(|| {
                        TranslationError::new(format!("Column '{}' does not exist", name.value))
                    })?;
                found + 1
            }
            _ => {
                return Err(TranslationError::unsupported(
                    "an expression in the ORDER BY of a UNION",
                ));
            }
        };
        texts.push(format!("{position}{}", direction(key, true)?));
    }
    Ok(texts.join(", "))
}

pub(super) fn limit(clause: Option<&LimitClause>) -> Result<String, TranslationError> {
    let count = |expression: &Expr| match expression {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, false) => digits
                .parse::<u32>()
                .map(i64::from)
                .map_err(|_| TranslationError::new(format!("{digits} is not a number of rows"))),
            _ => Err(TranslationError::new("LIMIT and OFFSET take a number")),
        },
        _ => Err(TranslationError::new("LIMIT and OFFSET take a number")),
    };
    match clause {
        None => Ok(String::new()),
        Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
            // In SQLite, -1 means no limit, which an offset alone requires.
            let limit = limit.as_ref().map_or(Ok(-1), &count)?;
            let offset = offset.as_ref().map_or(Ok(0), |offset| count(&offset.value))?;
            Ok(match offset {
                0 => format!(" LIMIT {limit}"),
                _ => format!(" LIMIT {limit} OFFSET {offset}"),
            })
        }
        Some(_) => Err(TranslationError::unsupported("this form of LIMIT")),
    }
}

/// Returns the number of an item, as in `GROUP BY 1`.
pub(super) fn ordinal(expression: &Expr) -> Option<usize> {
    match expression {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, false) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn invalid_position(position: usize) -> TranslationError {
    TranslationError::new(format!("there is no item {position} of SELECT"))
}
