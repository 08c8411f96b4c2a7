//! The columns that names can refer to.

use sqlparser::ast::Ident;

use super::{TranslationError, expression::SqlExpr};
use crate::value::Type;

/// A column that a name can refer to.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    /// The expression in SQLite within this scope.
    pub(super) sql: SqlExpr,
}

/// A relation of FROM.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    /// The alias, or the name of the table.
    pub(super) name: Option<String>,
    pub(super) columns: Vec<Column>,
}

/// The relations of a FROM, and the scopes around a subquery.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    pub(super) relations: Vec<Relation>,
    pub(super) outer: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    /// Returns the column that `name` refers to; `relation` is its qualifier.
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
            Some(qualifier) => candidate.is_named(&qualifier.value),
            None => true,
        });
        let columns: Vec<&Column> = relations.flat_map(|relation| &relation.columns).collect();
        // Case is significant only if a table has both names.
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

    /// Returns all columns, or those of the given relation.
    pub(super) fn all(&self, relation: Option<&Ident>) -> Result<Vec<Column>, TranslationError> {
        let relations: Vec<&Relation> = self
            .relations
            .iter()
            .filter(|candidate| {
                relation.is_none_or(|qualifier| candidate.is_named(&qualifier.value))
            })
            .collect();
        match relation {
            Some(qualifier) if relations.is_empty() => Err(TranslationError::new(format!(
                "Table '{}' does not exist in FROM",
                qualifier.value
            ))),
            _ => Ok(relations.into_iter().flat_map(|relation| relation.columns.clone()).collect()),
        }
    }
}

impl Relation {
    fn is_named(&self, name: &str) -> bool {
        self.name.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(name))
    }

    /// Creates a relation with the columns of a subquery, which are `c0`, `c1` and so on under
    /// `alias` in SQLite.
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
