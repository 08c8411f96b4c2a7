//! A connection with a snapshot of the file.

use std::sync::Arc;

use rusqlite::{Connection, Error, ErrorCode, Statement, limits::Limit};
use tracing::warn;

use super::{aggregates, budget::Budget, catalog::StoreCatalog, functions};
use crate::{
    error::ApiError,
    instant,
    sql::{self, Translation},
    store::Store,
};

/// The number of SQLite instructions between two checks of the time limit, some tens of
/// microseconds.
const INSTRUCTIONS_BETWEEN_CHECKS: i32 = 1_000;

pub(super) struct Snapshot {
    connection: Connection,
}

impl Snapshot {
    pub(super) fn take(store: &Store, budget: &Arc<Budget>) -> Result<Self, ApiError> {
        let mut connection = store.reader()?;
        functions::register(&connection)?;
        aggregates::register(&connection)?;
        // A query is one statement and attaches no other files.
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        let budget = Arc::clone(budget);
        connection
            .progress_handler(INSTRUCTIONS_BETWEEN_CHECKS, Some(move || budget.is_exhausted()))?;
        connection.execute_batch("BEGIN")?;
        Ok(Self { connection })
    }

    pub(super) fn translate(&self, text: &str) -> Result<Translation, ApiError> {
        Ok(sql::translate(text, &StoreCatalog(&self.connection), instant::now())?)
    }

    /// # Errors
    ///
    /// `Validation` if the query exceeds a limit of SQLite that is stricter than the translation.
    pub(super) fn prepare(&self, translation: &Translation) -> Result<Statement<'_>, ApiError> {
        self.connection.prepare(&translation.sql).map_err(|error| {
            warn!(%error, sql = translation.sql, "SQLite rejected a translation");
            ApiError::Validation(format!(
                "the query exceeds a limit of the emulator: {}",
                error_message(error)
            ))
        })
    }
}

/// Converts an error of a running query.
pub(super) fn query_error(error: Error, budget: &Budget) -> ApiError {
    match &error {
        Error::SqliteFailure(cause, _) if cause.code == ErrorCode::OperationInterrupted => {
            budget.error()
        }
        Error::SqliteFailure(cause, Some(message)) if cause.code == ErrorCode::Unknown => {
            ApiError::QueryExecution(message.clone())
        }
        _ => error.into(),
    }
}

/// Returns the message without the translated query, which is not the client's text.
fn error_message(error: Error) -> String {
    match error {
        Error::SqliteFailure(_, Some(message)) => message,
        Error::SqlInputError { msg, .. } => msg,
        other => other.to_string(),
    }
}
