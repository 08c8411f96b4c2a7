//! IS, BETWEEN, IN, LIKE, CASE.

use sqlparser::ast::{BinaryOperator, CaseWhen, Expr, InTarget};

use super::{
    TranslationError,
    expression::{ExprContext, SqlExpr, unify},
    operator,
    select::Translator,
};
use crate::value::Type;

impl Translator<'_> {
    pub(super) fn predicate(
        &mut self,
        test: &str,
        inner: &Expr,
        expected: Option<Type>,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        let inner = match expected {
            Some(_) => self.condition(inner, context)?,
            None => self.expression(inner, context)?,
        };
        let text = format!("({} {test})", inner.text);
        Ok(SqlExpr { text, of: Type::Boolean, nullable: false, is_constant: false })
    }

    pub(super) fn distinct(
        &mut self,
        test: &str,
        left: &Expr,
        right: &Expr,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        let (left, right) = (self.expression(left, context)?, self.expression(right, context)?);
        let (left, right) = operator::comparable(left, right)?;
        Ok(SqlExpr::new(format!("({} {test} {})", left.text, right.text), Type::Boolean))
    }

    pub(super) fn between(
        &mut self,
        inner: &Expr,
        negated: bool,
        low: &Expr,
        high: &Expr,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        let all = [inner, low, high].map(|part| self.expression(part, context));
        let [inner, low, high] = all;
        let (inner, low, high) = (inner?, low?, high?);
        let mut all = Vec::from([inner, low, high]);
        unify(&mut all)?;
        let not = if negated { "NOT " } else { "" };
        let texts: Vec<&str> = all.iter().map(|part| part.text.as_str()).collect();
        let text = match texts.as_slice() {
            [inner, low, high] => format!("({inner} {not}BETWEEN {low} AND {high})"),
            _ => return Err(TranslationError::unsupported("this BETWEEN")),
        };
        Ok(SqlExpr::new(text, Type::Boolean))
    }

    pub(super) fn is_in(
        &mut self,
        inner: &Expr,
        target: &InTarget,
        negated: bool,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        let inner = self.expression(inner, context)?;
        let not = if negated { "NOT " } else { "" };
        match target {
            InTarget::List(members) => {
                let mut all = Vec::from([inner]);
                for member in members {
                    all.push(self.expression(member, context)?);
                }
                unify(&mut all)?;
                let mut texts = all.into_iter().map(|member| member.text);
                let inner = texts.next().unwrap_or_default();
                let members = texts.collect::<Vec<_>>().join(", ");
                Ok(SqlExpr::new(format!("({inner} {not}IN ({members}))"), Type::Boolean))
            }
            InTarget::Subquery(query) => {
                let (sql, of) = self.one_column(query, context)?;
                if inner.of.common(of).is_none() {
                    return Err(operator::mismatch("IN", inner.of, of));
                }
                Ok(SqlExpr::new(format!("({} {not}IN ({sql}))", inner.text), Type::Boolean))
            }
            _ => Err(TranslationError::unsupported("this form of IN")),
        }
    }

    pub(super) fn like(
        &mut self,
        inner: &Expr,
        negated: bool,
        pattern: &Expr,
        escape: Option<&Expr>,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        let inner = self.expression(inner, context)?;
        let pattern = self.expression(pattern, context)?;
        for side in [&inner, &pattern] {
            if !matches!(side.of, Type::Varchar | Type::Unknown) {
                return Err(operator::mismatch("LIKE", inner.of, pattern.of));
            }
        }
        let escape = match escape {
            None => String::new(),
            Some(escape) => {
                let escape = self.expression(escape, context)?;
                if !(escape.is_constant && escape.of == Type::Varchar) {
                    return Err(TranslationError::unsupported("an ESCAPE that is not a string"));
                }
                format!(" ESCAPE {}", escape.text)
            }
        };
        let not = if negated { "NOT " } else { "" };
        Ok(SqlExpr::new(
            format!("({} {not}LIKE {}{escape})", inner.text, pattern.text),
            Type::Boolean,
        ))
    }

    pub(super) fn case(
        &mut self,
        operand: Option<&Expr>,
        conditions: &[CaseWhen],
        otherwise: Option<&Expr>,
        context: ExprContext<'_>,
    ) -> Result<SqlExpr, TranslationError> {
        let operand = operand.map(|operand| self.expression(operand, context)).transpose()?;
        let mut tests = Vec::new();
        let mut results = Vec::new();
        for CaseWhen { condition, result } in conditions {
            let test = match &operand {
                None => self.condition(condition, context)?,
                Some(operand) => {
                    let value = self.expression(condition, context)?;
                    operator::binary(operand.clone(), &BinaryOperator::Eq, value)?
                }
            };
            tests.push(test.text);
            results.push(self.expression(result, context)?);
        }
        results.push(match otherwise {
            Some(otherwise) => self.expression(otherwise, context)?,
            None => SqlExpr::new("NULL", Type::Unknown),
        });
        let of = unify(&mut results)?;
        let otherwise = results.pop().map(|result| result.text).unwrap_or_default();
        let mut text = "CASE".to_owned();
        for (test, result) in tests.iter().zip(&results) {
            text.push_str(&format!(" WHEN {test} THEN {}", result.text));
        }
        Ok(SqlExpr::new(format!("({text} ELSE {otherwise} END)"), of))
    }
}
