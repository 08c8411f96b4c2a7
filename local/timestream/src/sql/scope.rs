//! Which columns a name can mean.

use sqlparser::ast::Ident;

use super::{TranslationError, expression::SqlExpr};
use crate::value::Type;

/// A column that can be named.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    /// How SQLite names it within this scope.
    pub(super) sql: SqlExpr,
}

/// What stands in FROM under one name.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    /// Its alias, or the table's name.
    pub(super) name: Option<String>,
    pub(super) columns: Vec<Column>,
}

/// The relations of a FROM, and those around a subquery.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    pub(super) relations: Vec<Relation>,
    pub(super) outer: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    /// The column that `name` means; `relation` is what stands before its dot.
    pub(super) fn resolve(
        &self,
        relation: Option<&Ident>,
        name: &str,
    ) -> Result<SqlExpr, TranslationError> {
        let mut scope = Some(self);
        while let Some(here) = scope {
            if let Some(found) = here.find(relation, name)? {
                return Ok(found);
            }
            scope = here.outer;
        }
        let full = match relation {
            Some(relation) => format!("{}.{name}", relation.value),
            None => name.to_owned(),
        };
        Err(TranslationError::new(format!("Column '{full}' does not exist")))
    }

    fn find(
        &self,
        relation: Option<&Ident>,
        name: &str,
    ) -> Result<Option<SqlExpr>, TranslationError> {
        let relations = self.relations.iter().filter(|candidate| match relation {
            Some(wanted) => candidate.is_named(&wanted.value),
            None => true,
        });
        let columns: Vec<&Column> = relations.flat_map(|relation| &relation.columns).collect();
        // Names are told apart by case only where a table has both.
        let exact = columns.iter().filter(|column| column.name == name);
        let found = match exact.clone().count() {
            0 => columns.iter().filter(|column| column.name.eq_ignore_ascii_case(name)).collect(),
            _ => exact.collect::<Vec<_>>(),
        };
        match found.as_slice() {
            [] => Ok(None),
            [column] => Ok(Some(column.sql.clone())),
            _ => Err(TranslationError::new(format!("Column '{name}' is ambiguous"))),
        }
    }

    /// All columns, or those of the relation that is named.
    pub(super) fn all(&self, relation: Option<&Ident>) -> Result<Vec<Column>, TranslationError> {
        let relations: Vec<&Relation> = self
            .relations
            .iter()
            .filter(|candidate| relation.is_none_or(|wanted| candidate.is_named(&wanted.value)))
            .collect();
        match relation {
            Some(wanted) if relations.is_empty() => Err(TranslationError::new(format!(
                "Table '{}' does not exist in FROM",
                wanted.value
            ))),
            _ => Ok(relations.into_iter().flat_map(|relation| relation.columns.clone()).collect()),
        }
    }
}

impl Relation {
    fn is_named(&self, name: &str) -> bool {
        self.name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name))
    }

    /// One whose columns are those of a subquery, `c0`, `c1` and so on, under `alias` in SQLite.
    pub(super) fn of_subquery(
        name: Option<String>,
        alias: &str,
        columns: impl IntoIterator<Item = (String, Type)>,
    ) -> Self {
        let columns = columns
            .into_iter()
            .enumerate()
            .map(|(position, (name, of))| Column {
                name,
                sql: SqlExpr::new(format!("{alias}.c{position}"), of),
            })
            .collect();
        Self { name, columns }
    }
}
