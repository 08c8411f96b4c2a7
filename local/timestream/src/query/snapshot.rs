//! A connection that sees the file as it was at one instant.

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

/// SQLite asks whether to go on after so many of its instructions, some tens of microseconds.
const INSTRUCTIONS_BETWEEN_CHECKS: i32 = 1_000;

pub(super) struct Snapshot {
    connection: Connection,
}

impl Snapshot {
    pub(super) fn take(store: &Store, budget: &Arc<Budget>) -> Result<Self, ApiError> {
        let mut connection = store.reader()?;
        functions::register(&connection)?;
        aggregates::register(&connection)?;
        // One query is one statement, and nothing of it attaches other files.
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
    /// `Validation` for what SQLite has narrower limits for than the translation.
    pub(super) fn prepare(&self, translation: &Translation) -> Result<Statement<'_>, ApiError> {
        self.connection.prepare(&translation.sql).map_err(|error| {
            warn!(%error, sql = translation.sql, "a translation that SQLite refuses");
            ApiError::Validation(format!(
                "the query is beyond what this stand-in can do: {}",
                error_message(error)
            ))
        })
    }
}

/// What a query that runs fails with.
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

/// The message without the query, which the client has not written.
fn error_message(error: Error) -> String {
    match error {
        Error::SqliteFailure(_, Some(message)) => message,
        Error::SqlInputError { msg, .. } => msg,
        other => other.to_string(),
    }
}
