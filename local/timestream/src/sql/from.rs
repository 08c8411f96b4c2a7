//! The FROM clause: tables, subqueries, common table expressions and joins.

use sqlparser::ast::{
    Ident, Join, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, Spanned, TableAlias,
    TableFactor, TableWithJoins,
};

use super::{
    OutputColumn, TranslationError,
    expression::{ExprContext, RowContext, SqlExpr},
    scope::{Column, Relation, Scope},
    select::Translator,
};

impl Translator<'_> {
    /// Translates the clause and adds its relations to `scope`.
    pub(super) fn from(
        &mut self,
        tables: &[TableWithJoins],
        scope: &mut Scope<'_>,
    ) -> Result<String, TranslationError> {
        let mut text = String::new();
        for table in tables {
            text.push_str(if text.is_empty() { " FROM " } else { " CROSS JOIN " });
            text.push_str(&self.relation(&table.relation, scope)?);
            for join in &table.joins {
                text.push_str(&self.join(join, scope)?);
            }
        }
        Ok(text)
    }

    fn join(&mut self, join: &Join, scope: &mut Scope<'_>) -> Result<String, TranslationError> {
        let (word, constraint) = match &join.join_operator {
            JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => {
                ("JOIN", constraint)
            }
            JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                ("LEFT JOIN", constraint)
            }
            JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => {
                ("RIGHT JOIN", constraint)
            }
            JoinOperator::FullOuter(constraint) => ("FULL JOIN", constraint),
            JoinOperator::CrossJoin(constraint) => ("CROSS JOIN", constraint),
            _ => return Err(TranslationError::unsupported("this kind of JOIN")),
        };
        let relation = self.relation(&join.relation, scope)?;
        // The outer side of a join makes its columns nullable.
        for column in scope.relations.iter_mut().flat_map(|relation| &mut relation.columns) {
            column.sql.nullable = true;
        }
        let on = match constraint {
            JoinConstraint::On(condition) => {
                let context = ExprContext { scope, row_context: RowContext::PerRow("ON") };
                format!(" ON {}", self.condition(condition, context)?.text)
            }
            JoinConstraint::None if word == "CROSS JOIN" => String::new(),
            JoinConstraint::None => return Err(TranslationError::new("a JOIN needs ON")),
            _ => return Err(TranslationError::unsupported("JOIN … USING instead of ON")),
        };
        Ok(format!(" {word} {relation}{on}"))
    }

    fn relation(
        &mut self,
        factor: &TableFactor,
        scope: &mut Scope<'_>,
    ) -> Result<String, TranslationError> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample: None,
                index_directives,
                inheritance: None,
            } if with_hints.is_empty() && partitions.is_empty() && index_directives.is_empty() => {
                self.table(name, alias.as_ref(), scope)
                    .map_err(|error| error.with_location(name.span()))
            }
            TableFactor::Derived { lateral: false, subquery, alias, sample: None } => {
                let translation = self.query(subquery, scope.outer)?;
                let sql_alias = self.alias('r');
                let columns = match alias {
                    Some(alias) => renamed(translation.columns, alias)?,
                    None => translation.columns,
                };
                let name = alias.as_ref().map(|alias| alias.name.value.clone());
                let columns = columns.into_iter().map(|column| (column.name, column.of));
                scope.relations.push(Relation::of_subquery(name, &sql_alias, columns));
                Ok(format!("({}) AS {sql_alias}", translation.sql))
            }
            other => Err(TranslationError::unsupported(format!("FROM {other}"))),
        }
    }

    fn table(
        &mut self,
        name: &ObjectName,
        alias: Option<&TableAlias>,
        scope: &mut Scope<'_>,
    ) -> Result<String, TranslationError> {
        let parts: Vec<&Ident> = name.0.iter().filter_map(ObjectNamePart::as_ident).collect();
        if alias.is_some_and(|alias| !alias.columns.is_empty() || alias.at.is_some()) {
            return Err(TranslationError::unsupported("an alias with columns"));
        }
        let alias = alias.map(|alias| alias.name.value.clone());
        let sql_alias = self.alias('r');
        match parts.as_slice() {
            [name] => {
                let named = self.common_tables.iter().rev();
                let found = named
                    .into_iter()
                    .find(|candidate| candidate.name.eq_ignore_ascii_case(&name.value))
                    .ok_or_else(|| {
                        TranslationError::new(format!(
                            "'{}' is not a table of WITH; tables have the form \"database\".\"table\"",
                            name.value
                        ))
                    })?;
                let columns = found.columns.iter().map(|column| (column.name.clone(), column.of));
                let name = alias.unwrap_or_else(|| name.value.clone());
                let relation = Relation::of_subquery(Some(name), &sql_alias, columns);
                scope.relations.push(relation);
                Ok(format!("{} AS {sql_alias}", found.sql_name))
            }
            [database, table] => {
                let source = self.catalog.table(&database.value, &table.value)?;
                let columns = source.columns.into_iter().map(|column| Column {
                    name: column.name,
                    sql: SqlExpr {
                        text: format!("{sql_alias}.{}", column.sql_name),
                        of: column.of,
                        nullable: column.nullable,
                        is_constant: false,
                    },
                });
                let name = Some(alias.unwrap_or_else(|| table.value.clone()));
                scope.relations.push(Relation { name, columns: columns.collect() });
                Ok(format!("{} AS {sql_alias}", source.sql_name))
            }
            _ => Err(TranslationError::unsupported(format!("the table name {name}"))),
        }
    }
}

/// Renames columns by the column list of an alias.
pub(super) fn renamed(
    mut columns: Vec<OutputColumn>,
    alias: &TableAlias,
) -> Result<Vec<OutputColumn>, TranslationError> {
    if alias.at.is_some() {
        return Err(TranslationError::unsupported("this alias"));
    }
    if alias.columns.is_empty() {
        return Ok(columns);
    }
    if alias.columns.len() != columns.len() {
        return Err(TranslationError::new(format!(
            "'{}' names {} columns of {}",
            alias.name.value,
            alias.columns.len(),
            columns.len()
        )));
    }
    for (column, name) in columns.iter_mut().zip(&alias.columns) {
        column.name = name.name.value.clone();
    }
    Ok(columns)
}
