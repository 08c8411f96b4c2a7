//! IS, BETWEEN, IN, LIKE, CASE.

use sqlparser::ast::{BinaryOperator, CaseWhen, Expr, InTarget};

use super::{
    Refusal,
    expression::{Place, Sql, unify},
    operator,
    select::Translator,
};
use crate::value::Type;

impl Translator<'_> {
    pub(super) fn predicate(
        &mut self,
        test: &str,
        inner: &Expr,
        wanted: Option<Type>,
        place: Place<'_>,
    ) -> Result<Sql, Refusal> {
        let inner = match wanted {
            Some(_) => self.condition(inner, place)?,
            None => self.expression(inner, place)?,
        };
        let text = format!("({} {test})", inner.text);
        Ok(Sql { text, of: Type::Boolean, nullable: false, is_constant: false })
    }

    pub(super) fn distinct(
        &mut self,
        test: &str,
        left: &Expr,
        right: &Expr,
        place: Place<'_>,
    ) -> Result<Sql, Refusal> {
        let (left, right) = (self.expression(left, place)?, self.expression(right, place)?);
        let (left, right) = operator::comparable(left, right)?;
        Ok(Sql::new(format!("({} {test} {})", left.text, right.text), Type::Boolean))
    }

    pub(super) fn between(
        &mut self,
        inner: &Expr,
        negated: bool,
        low: &Expr,
        high: &Expr,
        place: Place<'_>,
    ) -> Result<Sql, Refusal> {
        let all = [inner, low, high].map(|part| self.expression(part, place));
        let [inner, low, high] = all;
        let (inner, low, high) = (inner?, low?, high?);
        let mut all = Vec::from([inner, low, high]);
        unify(&mut all)?;
        let not = if negated { "NOT " } else { "" };
        let texts: Vec<&str> = all.iter().map(|part| part.text.as_str()).collect();
        let text = match texts.as_slice() {
            [inner, low, high] => format!("({inner} {not}BETWEEN {low} AND {high})"),
            _ => return Err(Refusal::unsupported("this BETWEEN")),
        };
        Ok(Sql::new(text, Type::Boolean))
    }

    pub(super) fn is_in(
        &mut self,
        inner: &Expr,
        target: &InTarget,
        negated: bool,
        place: Place<'_>,
    ) -> Result<Sql, Refusal> {
        let inner = self.expression(inner, place)?;
        let not = if negated { "NOT " } else { "" };
        match target {
            InTarget::List(members) => {
                let mut all = Vec::from([inner]);
                for member in members {
                    all.push(self.expression(member, place)?);
                }
                unify(&mut all)?;
                let mut texts = all.into_iter().map(|member| member.text);
                let inner = texts.next().unwrap_or_default();
                let members = texts.collect::<Vec<_>>().join(", ");
                Ok(Sql::new(format!("({inner} {not}IN ({members}))"), Type::Boolean))
            }
            InTarget::Subquery(query) => {
                let (sql, of) = self.one_column(query, place)?;
                if inner.of.common(of).is_none() {
                    return Err(operator::mismatch("IN", inner.of, of));
                }
                Ok(Sql::new(format!("({} {not}IN ({sql}))", inner.text), Type::Boolean))
            }
            _ => Err(Refusal::unsupported("this form of IN")),
        }
    }

    pub(super) fn like(
        &mut self,
        inner: &Expr,
        negated: bool,
        pattern: &Expr,
        escape: Option<&Expr>,
        place: Place<'_>,
    ) -> Result<Sql, Refusal> {
        let inner = self.expression(inner, place)?;
        let pattern = self.expression(pattern, place)?;
        for side in [&inner, &pattern] {
            if !matches!(side.of, Type::Varchar | Type::Unknown) {
                return Err(operator::mismatch("LIKE", inner.of, pattern.of));
            }
        }
        let escape = match escape {
            None => String::new(),
            Some(escape) => {
                let escape = self.expression(escape, place)?;
                if !(escape.is_constant && escape.of == Type::Varchar) {
                    return Err(Refusal::unsupported("an ESCAPE that is no text"));
                }
                format!(" ESCAPE {}", escape.text)
            }
        };
        let not = if negated { "NOT " } else { "" };
        Ok(Sql::new(format!("({} {not}LIKE {}{escape})", inner.text, pattern.text), Type::Boolean))
    }

    pub(super) fn case(
        &mut self,
        operand: Option<&Expr>,
        conditions: &[CaseWhen],
        otherwise: Option<&Expr>,
        place: Place<'_>,
    ) -> Result<Sql, Refusal> {
        let operand = operand.map(|operand| self.expression(operand, place)).transpose()?;
        let mut tests = Vec::new();
        let mut results = Vec::new();
        for CaseWhen { condition, result } in conditions {
            let test = match &operand {
                None => self.condition(condition, place)?,
                Some(operand) => {
                    let value = self.expression(condition, place)?;
                    operator::binary(operand.clone(), &BinaryOperator::Eq, value)?
                }
            };
            tests.push(test.text);
            results.push(self.expression(result, place)?);
        }
        results.push(match otherwise {
            Some(otherwise) => self.expression(otherwise, place)?,
            None => Sql::new("NULL", Type::Unknown),
        });
        let of = unify(&mut results)?;
        let otherwise = results.pop().map(|result| result.text).unwrap_or_default();
        let mut text = "CASE".to_owned();
        for (test, result) in tests.iter().zip(&results) {
            text.push_str(&format!(" WHEN {test} THEN {}", result.text));
        }
        Ok(Sql::new(format!("({text} ELSE {otherwise} END)"), of))
    }
}
