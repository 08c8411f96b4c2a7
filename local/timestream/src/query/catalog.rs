//! The catalog as the translation of a query reads it.

use rusqlite::Connection;

use crate::{
    error::ApiError,
    sql::{Catalog, Source, SourceColumn, TranslationError},
    store::{
        catalog::Table,
        schema::{Role, Schema},
    },
    value::Type,
};

/// Reads the catalog within the transaction of the query, so that columns and records are
/// consistent.
pub(super) struct StoreCatalog<'a>(pub(super) &'a Connection);

impl Catalog for StoreCatalog<'_> {
    fn table(&self, database: &str, table: &str) -> Result<Source, TranslationError> {
        let found = Table::find(self.0, database, table).map_err(|error| match error {
            ApiError::ResourceNotFound(message) => TranslationError::new(message),
            other => failed(&other),
        })?;
        let schema = Schema::read(self.0, found.id).map_err(|error| failed(&error))?;
        Ok(source(found.id, &schema))
    }
}

fn failed(error: &dyn std::error::Error) -> TranslationError {
    tracing::error!(%error, "the catalog cannot be read");
    TranslationError::new("the catalog cannot be read")
}

/// Returns a table with the columns in the order of `SELECT *`: dimensions, columns of all records,
/// measures.
fn source(id: i64, schema: &Schema) -> Source {
    let column = |name: &str, sql_name: String, of, nullable| SourceColumn {
        name: name.to_owned(),
        sql_name,
        of,
        nullable,
    };
    let with_role = |is_dimension: bool| {
        schema
            .columns()
            .iter()
            .filter(move |known| (known.role == Role::Dimension) == is_dimension)
            .map(|known| column(&known.name, format!("c{}", known.position), known.of, true))
    };
    let of_every_record = [
        column("measure_name", "measure_name".to_owned(), Type::Varchar, false),
        column("time", "time".to_owned(), Type::Timestamp, false),
    ];
    let columns = with_role(true).chain(of_every_record).chain(with_role(false)).collect();
    Source { sql_name: format!("records_{id}"), columns }
}
