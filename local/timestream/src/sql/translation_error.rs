//! Why a query is not carried out.

use std::fmt;

use sqlparser::tokenizer::Span;

use crate::error::ApiError;

/// What cannot be translated, and where it is.
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

    /// For what the service may know and this translation does not.
    pub(super) fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(format!("{what} is not supported by this stand-in"))
    }

    /// Adds the place, unless a closer one is known.
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
    fn from(refusal: TranslationError) -> Self {
        Self::Validation(refusal.to_string())
    }
}
