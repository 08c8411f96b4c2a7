//! UNION, INTERSECT, EXCEPT.

use sqlparser::ast::{SetExpr, SetOperator, SetQuantifier};

use super::{
    OutputColumn, Translation, TranslationError, expression::SqlExpr, scope::Scope,
    select::Translator,
};

impl Translator<'_> {
    /// Translates a query body other than a SELECT: a query in parentheses, or a UNION.
    pub(super) fn set(
        &mut self,
        body: &SetExpr,
        outer: Option<&Scope<'_>>,
    ) -> Result<Translation, TranslationError> {
        match body {
            SetExpr::Select(select) => self.select(select, None, outer),
            SetExpr::Query(query) => {
                let Translation { sql, columns } = self.query(query, outer)?;
                Ok(Translation { sql: format!("SELECT * FROM ({sql})"), columns })
            }
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let all = match set_quantifier {
                    SetQuantifier::All => " ALL",
                    SetQuantifier::Distinct | SetQuantifier::None => "",
                    other => return Err(TranslationError::unsupported(format!("{op} {other}"))),
                };
                let word = match op {
                    SetOperator::Union => "UNION",
                    SetOperator::Intersect if all.is_empty() => "INTERSECT",
                    SetOperator::Except if all.is_empty() => "EXCEPT",
                    other => return Err(TranslationError::unsupported(format!("{other}{all}"))),
                };
                let (left, right) = (self.set(left, outer)?, self.set(right, outer)?);
                let columns = common_columns(&left.columns, &right.columns)?;
                let sql = format!(
                    "{} {word}{all} {}",
                    promoted(&left, &columns),
                    promoted(&right, &columns)
                );
                Ok(Translation { sql, columns })
            }
            _ => Err(TranslationError::unsupported("a query other than SELECT")),
        }
    }
}

fn common_columns(
    left: &[OutputColumn],
    right: &[OutputColumn],
) -> Result<Vec<OutputColumn>, TranslationError> {
    if left.len() != right.len() {
        return Err(TranslationError::new(format!(
            "the queries of a UNION have {} and {} columns",
            left.len(),
            right.len()
        )));
    }
    left.iter()
        .zip(right)
        .map(|(left, right)| {
            let of = left.of.common(right.of).ok_or_else(|| {
                let name = &left.name;
                TranslationError::new(format!(
                    "column '{name}' is {} and {} in a UNION",
                    left.of, right.of
                ))
            })?;
            Ok(OutputColumn { name: left.name.clone(), of })
        })
        .collect()
}

/// Converts the columns of a side of a UNION to the common types.
fn promoted(side: &Translation, columns: &[OutputColumn]) -> String {
    let items: Vec<String> = side
        .columns
        .iter()
        .zip(columns)
        .enumerate()
        .map(|(at, (own, common))| {
            let value = SqlExpr::new(format!("c{at}"), own.of).promoted(common.of);
            format!("{} AS c{at}", value.text)
        })
        .collect();
    format!("SELECT {} FROM ({})", items.join(", "), side.sql)
}
