//! Why a query is not carried out.

use std::fmt;

use sqlparser::tokenizer::Span;

use crate::error::ApiError;

/// What cannot be translated, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Refusal {
    /// Line and column, from 1.
    place: Option<(u64, u64)>,
    message: String,
}

impl Refusal {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { place: None, message: message.into() }
    }

    /// For what the service may know and this translation does not.
    pub(super) fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(format!("{what} is not supported by this stand-in"))
    }

    /// Adds the place, unless a closer one is known.
    pub(super) fn at(mut self, span: Span) -> Self {
        if self.place.is_none() && span.start.line > 0 {
            self.place = Some((span.start.line, span.start.column));
        }
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}:{column}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Validation(refusal.to_string())
    }
}
