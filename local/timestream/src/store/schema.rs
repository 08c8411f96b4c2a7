//! The columns of a table, which come into being with the records that need them.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::{
    limits::{MAX_DIMENSIONS, MAX_MULTI_MEASURES_PER_TABLE},
    value::Type,
};

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Part of a record's identity.
    Dimension,
    /// A measure within multi-measure records.
    Measure,
    /// `measure_value::{type}`, the measure of single-measure records.
    SingleMeasure,
}

/// A column besides `time` and `measure_name`, which every table has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// In SQLite it is `c{position}`.
    pub(crate) position: usize,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) of: Type,
}

/// The columns in the order in which they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schema {
    columns: Vec<Column>,
    by_name: HashMap<String, usize>,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Dimension => "dimension",
            Self::Measure => "measure",
            Self::SingleMeasure => "single-measure",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        [Self::Dimension, Self::Measure, Self::SingleMeasure]
            .into_iter()
            .find(|known| known.name() == name)
    }
}

impl Schema {
    pub(crate) fn read(connection: &Connection, table: i64) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare_cached(
            "SELECT name, role, type FROM columns WHERE table_id = ? ORDER BY position",
        )?;
        let mut rows = statement.query([table])?;
        let mut schema = Self::default();
        while let Some(row) = rows.next()? {
            let (role, of): (String, String) = (row.get(1)?, row.get(2)?);
            // Nobody else writes there.
            let role = Role::of_name(&role).unwrap_or(Role::Measure);
            schema.push(row.get(0)?, role, Type::from_column_type(&of).unwrap_or(Type::Varchar));
        }
        Ok(schema)
    }

    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Column> {
        self.columns.get(*self.by_name.get(name)?)
    }

    fn push(&mut self, name: String, role: Role, of: Type) {
        let position = self.columns.len();
        self.by_name.insert(name.clone(), position);
        self.columns.push(Column { position, name, role, of });
    }

    fn count(&self, role: Role) -> usize {
        self.columns.iter().filter(|column| column.role == role).count()
    }

    /// The position of a column as a record needs it, which is added if there is none of that name.
    ///
    /// # Errors
    ///
    /// The reason why the record cannot be stored: the name is another kind of column, or there are too many.
    pub(crate) fn require(&mut self, name: &str, role: Role, of: Type) -> Result<usize, String> {
        if let Some(known) = self.find(name) {
            return if known.role != role {
                Err(format!(
                    "'{name}' is a {} of this table, and cannot be a {}.",
                    known.role.name(),
                    role.name()
                ))
            } else if known.of != of {
                Err(format!(
                    "The measure '{name}' has the type {} in this table, and cannot be written as {of}.",
                    known.of
                ))
            } else {
                Ok(known.position)
            };
        }
        let most = match role {
            Role::Dimension => MAX_DIMENSIONS,
            Role::Measure => MAX_MULTI_MEASURES_PER_TABLE,
            Role::SingleMeasure => usize::MAX,
        };
        if self.count(role) >= most {
            return Err(format!(
                "'{name}' is one {} too many: a table has at most {most}.",
                role.name()
            ));
        }
        self.push(name.to_owned(), role, of);
        Ok(self.columns.len() - 1)
    }

    /// Writes the columns from position `from` on, which [`Schema::require`] added, to the file.
    pub(crate) fn persist(
        &self,
        connection: &Connection,
        table: i64,
        from: usize,
    ) -> rusqlite::Result<()> {
        for column in self.columns.iter().skip(from) {
            let position = column.position;
            connection.execute(
                "INSERT INTO columns VALUES (?, ?, ?, ?, ?)",
                (table, position as i64, &column.name, column.role.name(), column.of.name()),
            )?;
            connection
                .execute_batch(&format!("ALTER TABLE records_{table} ADD COLUMN c{position}"))?;
            // A table is asked by its first dimensions, device_id before all; an index on each of 128 would
            // make every write as slow as 128.
            if column.role == Role::Dimension && position < INDEXED_DIMENSIONS {
                connection.execute_batch(&format!(
                    "CREATE INDEX records_{table}_c{position} ON records_{table} (c{position}, time)"
                ))?;
            }
        }
        Ok(())
    }
}

/// How many of the first columns have an index if they are dimensions.
const INDEXED_DIMENSIONS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_stays_what_its_first_record_made_it() {
        let mut schema = Schema::default();
        assert_eq!(schema.require("device", Role::Dimension, Type::Varchar), Ok(0));
        assert_eq!(schema.require("power", Role::Measure, Type::Double), Ok(1));
        assert_eq!(schema.require("power", Role::Measure, Type::Double), Ok(1));
        assert!(
            schema.require("power", Role::Measure, Type::Bigint).unwrap_err().contains("double")
        );
        assert!(schema.require("device", Role::Measure, Type::Varchar).is_err());
        assert!(schema.require("power", Role::Dimension, Type::Varchar).is_err());
    }

    #[test]
    fn the_1025th_measure_is_one_too_many() {
        let mut schema = Schema::default();
        for number in 0..MAX_MULTI_MEASURES_PER_TABLE {
            schema.require(&format!("m{number}"), Role::Measure, Type::Double).unwrap();
        }
        assert!(schema.require("one more", Role::Measure, Type::Double).is_err());
        assert!(schema.require("m7", Role::Measure, Type::Double).is_ok());
        assert!(schema.require("d", Role::Dimension, Type::Varchar).is_ok());
    }
}
