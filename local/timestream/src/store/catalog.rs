//! Creation, lookup, listing and deletion of databases and tables.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::WriteTransaction;
use crate::error::ApiError;

/// A database.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) kms_key_id: String,
    pub(crate) tables: i64,
    /// Nanoseconds since the epoch, as all times here.
    pub(crate) created: i64,
    pub(crate) updated: i64,
}

/// A table.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) id: i64,
    pub(crate) database: String,
    pub(crate) name: String,
    pub(crate) memory_hours: i64,
    pub(crate) magnetic_days: i64,
    /// `MagneticStoreWriteProperties` as JSON.
    pub(crate) magnetic_writes: String,
    /// `Schema` as JSON.
    pub(crate) partition_keys: String,
    pub(crate) created: i64,
    pub(crate) updated: i64,
}

const DATABASE: &str = "SELECT name, kms_key_id, created, updated,
    (SELECT count(*) FROM tables WHERE database = databases.name) FROM databases";
const TABLE: &str = "SELECT id, database, name, memory_hours, magnetic_days, magnetic_writes, \
    partition_keys, created, updated FROM tables";

impl Database {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            name: row.get(0)?,
            kms_key_id: row.get(1)?,
            created: row.get(2)?,
            updated: row.get(3)?,
            tables: row.get(4)?,
        })
    }

    pub(crate) fn find(connection: &Connection, name: &str) -> Result<Self, ApiError> {
        connection
            .query_row(&format!("{DATABASE} WHERE name = ?"), [name], Self::from_row)
            .optional()?
            .ok_or_else(|| {
                ApiError::ResourceNotFound(format!("The database {name} does not exist."))
            })
    }

    /// Returns at most `limit` databases by name, starting after `after`.
    pub(crate) fn list(
        connection: &Connection,
        after: &str,
        limit: usize,
    ) -> rusqlite::Result<Vec<Self>> {
        connection
            .prepare(&format!("{DATABASE} WHERE name > ? ORDER BY name LIMIT ?"))?
            .query_map(params![after, limit as i64], Self::from_row)?
            .collect()
    }

    pub(crate) fn count(connection: &Connection) -> rusqlite::Result<i64> {
        connection.query_row("SELECT count(*) FROM databases", [], |row| row.get(0))
    }

    /// # Errors
    ///
    /// `Conflict` if a database of this name exists.
    pub(crate) fn create(&self, change: &WriteTransaction<'_>) -> Result<(), ApiError> {
        let made = change.transaction.execute(
            "INSERT OR IGNORE INTO databases VALUES (?, ?, ?, ?)",
            params![self.name, self.kms_key_id, self.created, self.updated],
        )?;
        if made == 0 {
            return Err(ApiError::Conflict(format!("The database {} already exists.", self.name)));
        }
        Ok(())
    }

    pub(crate) fn update(&self, change: &WriteTransaction<'_>) -> Result<(), ApiError> {
        change.transaction.execute(
            "UPDATE databases SET kms_key_id = ?, updated = ? WHERE name = ?",
            params![self.kms_key_id, self.updated, self.name],
        )?;
        Ok(())
    }

    /// # Errors
    ///
    /// `Validation` if it has tables.
    pub(crate) fn delete(&self, change: &WriteTransaction<'_>) -> Result<(), ApiError> {
        if self.tables > 0 {
            return Err(ApiError::Validation(format!(
                "The database {} still has {} tables: delete them first.",
                self.name, self.tables
            )));
        }
        change.transaction.execute("DELETE FROM databases WHERE name = ?", [&self.name])?;
        Ok(())
    }
}

impl Table {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            database: row.get(1)?,
            name: row.get(2)?,
            memory_hours: row.get(3)?,
            magnetic_days: row.get(4)?,
            magnetic_writes: row.get(5)?,
            partition_keys: row.get(6)?,
            created: row.get(7)?,
            updated: row.get(8)?,
        })
    }

    pub(crate) fn find(
        connection: &Connection,
        database: &str,
        name: &str,
    ) -> Result<Self, ApiError> {
        let found = connection
            .prepare_cached(&format!("{TABLE} WHERE database = ? AND name = ?"))?
            .query_row([database, name], Self::from_row)
            .optional()?;
        match found {
            Some(table) => Ok(table),
            None => {
                Database::find(connection, database)?;
                Err(ApiError::ResourceNotFound(format!("The table {name} does not exist.")))
            }
        }
    }

    /// Returns at most `limit` tables by database and name, starting after `after`.
    pub(crate) fn list(
        connection: &Connection,
        database: Option<&str>,
        after: (&str, &str),
        limit: usize,
    ) -> rusqlite::Result<Vec<Self>> {
        connection
            .prepare(&format!(
                "{TABLE} WHERE (?1 IS NULL OR database = ?1) AND (database, name) > (?2, ?3)
                 ORDER BY database, name LIMIT ?4"
            ))?
            .query_map(params![database, after.0, after.1, limit as i64], Self::from_row)?
            .collect()
    }

    pub(crate) fn all(connection: &Connection) -> rusqlite::Result<Vec<Self>> {
        Self::list(connection, None, ("", ""), usize::MAX >> 1)
    }

    /// Creates the table and the storage of its records, and sets the id.
    ///
    /// # Errors
    ///
    /// `Conflict` if a table of this name exists.
    pub(crate) fn create(&mut self, change: &WriteTransaction<'_>) -> Result<(), ApiError> {
        Database::find(&change.transaction, &self.database)?;
        let made = change.transaction.execute(
            "INSERT OR IGNORE INTO tables (database, name, memory_hours, magnetic_days,
             magnetic_writes, partition_keys, created, updated) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                self.database,
                self.name,
                self.memory_hours,
                self.magnetic_days,
                self.magnetic_writes,
                self.partition_keys,
                self.created,
                self.updated
            ],
        )?;
        if made == 0 {
            return Err(ApiError::Conflict(format!("The table {} already exists.", self.name)));
        }
        self.id = change.transaction.last_insert_rowid();
        let id = self.id;
        // The key is the identity of a record, so that records of a device within an hour are
        // adjacent. Columns have no affinity, so that values are stored unchanged.
        change.transaction.execute_batch(&format!(
            "CREATE TABLE records_{id} (
                 series INTEGER NOT NULL,
                 time INTEGER NOT NULL,
                 version INTEGER NOT NULL,
                 measure_name TEXT NOT NULL,
                 PRIMARY KEY (series, time)
             ) WITHOUT ROWID;
             CREATE INDEX records_{id}_time ON records_{id} (time)"
        ))?;
        Ok(())
    }

    pub(crate) fn update(&self, change: &WriteTransaction<'_>) -> Result<(), ApiError> {
        change.transaction.execute(
            "UPDATE tables SET memory_hours = ?, magnetic_days = ?, magnetic_writes = ?,
             partition_keys = ?, updated = ? WHERE id = ?",
            params![
                self.memory_hours,
                self.magnetic_days,
                self.magnetic_writes,
                self.partition_keys,
                self.updated,
                self.id
            ],
        )?;
        Ok(())
    }

    pub(crate) fn delete(&self, change: &WriteTransaction<'_>) -> Result<(), ApiError> {
        let id = self.id;
        change.transaction.execute_batch(&format!("DROP TABLE records_{id}"))?;
        change.transaction.execute("DELETE FROM tables WHERE id = ?", [id])?;
        change.cache_schema(id, None);
        Ok(())
    }
}
