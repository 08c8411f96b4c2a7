//! The data in one SQLite file: the catalog of databases and tables, and the records.
//!
//! The records of a table are a table in SQLite with the same columns. One connection writes. Each
//! query reads a snapshot through its own connection (write-ahead log), so neither waits for the
//! other.

pub(crate) mod catalog;
pub(crate) mod ingestion_window;
pub(crate) mod records;
pub(crate) mod schema;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use self::schema::Schema;
use crate::error::ApiError;

/// The name of the file in the data directory.
const FILE_NAME: &str = "timestream.sqlite3";
/// The version of the layout below. A file of another version is rejected.
const SCHEMA_VERSION: i64 = 1;
/// The number of cached statements of the writer: a few for each set of columns that is written
/// together.
const PREPARED_STATEMENTS: usize = 128;

/// The catalog. Records are in `records_{id}`, created with each table.
const CREATE_TABLES: &str = "
    CREATE TABLE databases (
        name TEXT PRIMARY KEY,
        kms_key_id TEXT NOT NULL,
        created INTEGER NOT NULL,
        updated INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE tables (
        id INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again: a cursor may still read the old table
        database TEXT NOT NULL REFERENCES databases,
        name TEXT NOT NULL,
        memory_hours INTEGER NOT NULL,
        magnetic_days INTEGER NOT NULL,
        magnetic_writes TEXT NOT NULL, -- MagneticStoreWriteProperties, as JSON
        partition_keys TEXT NOT NULL, -- Schema, as JSON
        created INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        UNIQUE (database, name)
    ) STRICT;
    CREATE TABLE columns (
        table_id INTEGER NOT NULL REFERENCES tables ON DELETE CASCADE,
        position INTEGER NOT NULL, -- the column of records_{table_id} is c{position}
        name TEXT NOT NULL,
        role TEXT NOT NULL,
        type TEXT NOT NULL,
        PRIMARY KEY (table_id, position),
        UNIQUE (table_id, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE series ( -- a measure name with a set of dimensions
        id INTEGER PRIMARY KEY,
        table_id INTEGER NOT NULL REFERENCES tables ON DELETE CASCADE,
        key TEXT NOT NULL,
        UNIQUE (table_id, key)
    ) STRICT;
    CREATE TABLE measure_names (
        table_id INTEGER NOT NULL REFERENCES tables ON DELETE CASCADE,
        name TEXT NOT NULL,
        PRIMARY KEY (table_id, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE tags (
        arn TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (arn, key)
    ) STRICT, WITHOUT ROWID;
";

/// The file and the connection that writes to it.
pub(crate) struct Store {
    path: PathBuf,
    writer: Mutex<Writer>,
}

/// The writing connection, and the schemas that are known to equal those in the file.
struct Writer {
    connection: Connection,
    schemas: HashMap<i64, Arc<Schema>>,
}

impl Store {
    /// Opens the file in `directory`; creates both if necessary.
    ///
    /// # Errors
    ///
    /// If the directory cannot be written, or the file is not of this program.
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create the data directory {}", directory.display()))?;
        let path = directory.join(FILE_NAME);
        let connection =
            writer(&path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self { path, writer: Mutex::new(Writer { connection, schemas: HashMap::new() }) })
    }

    /// Opens a read-only connection.
    pub(crate) fn reader(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA case_sensitive_like = ON")?;
        Ok(connection)
    }

    /// Runs `change` in a transaction, which is committed if it succeeds. Blocks, so not for async
    /// tasks.
    pub(crate) fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction<'_>) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        // The transaction of a change that panicked was rolled back when it was dropped.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Writer { connection, schemas } = &mut *writer;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let transaction_ = WriteTransaction { transaction, schemas: schemas.clone().into() };
        let result = change(&transaction_)?;
        let WriteTransaction { transaction, schemas: changed } = transaction_;
        transaction.commit()?;
        *schemas = changed.into_inner();
        Ok(result)
    }
}

/// A transaction of the writer.
pub(crate) struct WriteTransaction<'a> {
    pub(crate) transaction: Transaction<'a>,
    schemas: std::cell::RefCell<HashMap<i64, Arc<Schema>>>,
}

impl WriteTransaction<'_> {
    /// Returns the columns of a table.
    pub(crate) fn schema(&self, table: i64) -> rusqlite::Result<Arc<Schema>> {
        if let Some(known) = self.schemas.borrow().get(&table) {
            return Ok(Arc::clone(known));
        }
        let schema = Arc::new(Schema::read(&self.transaction, table)?);
        self.schemas.borrow_mut().insert(table, Arc::clone(&schema));
        Ok(schema)
    }

    /// Caches the columns of a table; `None` removes them from the cache.
    pub(crate) fn cache_schema(&self, table: i64, schema: Option<Schema>) {
        let mut schemas = self.schemas.borrow_mut();
        match schema {
            Some(schema) => schemas.insert(table, Arc::new(schema)),
            None => schemas.remove(&table),
        };
    }
}

/// Opens the writing connection.
///
/// With `synchronous = NORMAL`, acknowledged writes are in the write-ahead log in the kernel, so
/// killing the process loses none, and the file stays consistent. Only a power failure can lose the
/// last writes. FULL would wait for the disk at every write, which costs more than all other work
/// on a laptop.
fn writer(path: &Path) -> anyhow::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON",
    )?;
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    match connection.pragma_query_value(None, "user_version", |row| row.get(0))? {
        0 => connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {CREATE_TABLES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"
        ))?,
        SCHEMA_VERSION => {}
        other => anyhow::bail!(
            "its layout has version {other}, supported is {SCHEMA_VERSION}: remove the file, or set another --data"
        ),
    }
    Ok(connection)
}
