//! The columns of a table, which are created by the records that need them.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::{
    limits::{MAX_DIMENSIONS, MAX_MULTI_MEASURES_PER_TABLE},
    value::Type,
};

/// The role of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Part of the identity of a record.
    Dimension,
    /// A measure of multi-measure records.
    Measure,
    /// `measure_value::{type}`, the measure of single-measure records.
    SingleMeasure,
}

/// A column other than `time` and `measure_name`, which every table has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// The number in its name `c{position}` in SQLite.
    pub(crate) position: usize,
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) of: Type,
}

/// The columns in order of creation.
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
            // Only this program writes the table.
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

    /// Returns the position of a column, which is added if it does not exist.
    ///
    /// # Errors
    ///
    /// The reason why the record is rejected: the column has another role or type, or there are too
    /// many.
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

    /// Stores the columns from position `from` on, which [`Schema::require`] added.
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
            // Queries select by the first dimensions, above all device_id. An index on each of 128
            // would make writes much slower.
            if column.role == Role::Dimension && position < INDEXED_DIMENSIONS {
                connection.execute_batch(&format!(
                    "CREATE INDEX records_{table}_c{position} ON records_{table} (c{position}, time)"
                ))?;
            }
        }
        Ok(())
    }
}

/// The number of columns that have an index if they are dimensions.
const INDEXED_DIMENSIONS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_keeps_the_role_and_type_of_its_first_record() {
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
    fn measure_number_1025_is_rejected() {
        let mut schema = Schema::default();
        for number in 0..MAX_MULTI_MEASURES_PER_TABLE {
            schema.require(&format!("m{number}"), Role::Measure, Type::Double).unwrap();
        }
        assert!(schema.require("one more", Role::Measure, Type::Double).is_err());
        assert!(schema.require("m7", Role::Measure, Type::Double).is_ok());
        assert!(schema.require("d", Role::Dimension, Type::Varchar).is_ok());
    }
}
