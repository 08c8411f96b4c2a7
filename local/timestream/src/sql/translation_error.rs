//! Errors of the translation.

use std::fmt;

use sqlparser::tokenizer::Span;

use crate::error::ApiError;

/// What cannot be translated, and its location in the query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct TranslationError {
    /// Line and column, from 1.
    location: Option<(u64, u64)>,
    message: String,
}

impl TranslationError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { location: None, message: message.into() }
    }

    /// Creates an error for a construct that the service may support and the emulator does not.
    pub(super) fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(format!("{what} is not supported"))
    }

    /// Adds a location, unless a more precise one is set.
    pub(super) fn with_location(mut self, span: Span) -> Self {
        if self.location.is_none() && span.start.line > 0 {
            self.location = Some((span.start.line, span.start.column));
        }
        self
    }
}

impl fmt::Display for TranslationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.location {
            write!(f, "line {line}:{column}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl From<TranslationError> for ApiError {
    fn from(error: TranslationError) -> Self {
        Self::Validation(error.to_string())
    }
}
