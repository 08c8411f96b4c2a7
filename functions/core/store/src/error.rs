//! Errors of the stores, classified by what the caller can do about them.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;

use meter_domain::id::MessageId;

/// The cause of a failure, for logs.
pub type Cause = Box<dyn Error + Send + Sync>;

/// A failed operation of a store, classified by what the caller can do.
///
/// The texts name tables, keys and values: they belong in logs, never in an answer to a client.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The item can never be stored: it is too large or has a value that the store rejects. Do not
    /// retry it; other items are not affected.
    #[error("{operation} failed permanently for this item")]
    Invalid {
        /// The operation that failed, for example `dynamodb:PutItem`.
        operation: &'static str,
        /// The error of the store or of its client.
        source: Cause,
    },
    /// Every request of this kind fails until an operator intervenes: access is denied, a table or
    /// bucket does not exist, or the store rejects the form of the request.
    #[error("{operation} failed permanently for every request")]
    Misconfigured {
        /// The operation that failed.
        operation: &'static str,
        /// The error of the store or of its client.
        source: Cause,
    },
    /// Other writers changed the same item at every attempt. Read it again and retry later.
    #[error("{operation} failed because of concurrent writes")]
    Conflict {
        /// The operation that failed.
        operation: &'static str,
        /// The error of the store or of its client.
        source: Cause,
    },
    /// The store is throttling, failing or unreachable, or did not respond in time. Retry later.
    #[error("{operation} failed")]
    Unavailable {
        /// The operation that failed.
        operation: &'static str,
        /// The error of the store or of its client.
        source: Cause,
    },
    /// The store returned data that this version cannot have written.
    #[error("{what} cannot be read: {reason}")]
    Corrupt {
        /// The item or object.
        what: String,
        /// The part of it that is not valid.
        reason: String,
    },
}

impl StoreError {
    /// Creates a [`StoreError::Invalid`].
    pub fn invalid(operation: &'static str, source: impl Into<Cause>) -> Self {
        Self::Invalid { operation, source: source.into() }
    }

    /// Creates a [`StoreError::Misconfigured`].
    pub fn misconfigured(operation: &'static str, source: impl Into<Cause>) -> Self {
        Self::Misconfigured { operation, source: source.into() }
    }

    /// Creates a [`StoreError::Conflict`].
    pub fn conflict(operation: &'static str, source: impl Into<Cause>) -> Self {
        Self::Conflict { operation, source: source.into() }
    }

    /// Creates a [`StoreError::Unavailable`].
    pub fn unavailable(operation: &'static str, source: impl Into<Cause>) -> Self {
        Self::Unavailable { operation, source: source.into() }
    }

    /// Returns whether an error, or one of its causes, is [`StoreError::Misconfigured`].
    pub fn is_misconfigured(error: &(dyn Error + 'static)) -> bool {
        let mut causes = std::iter::successors(Some(error), |error| (*error).source());
        causes.any(|error| {
            // A transparent error is not among its own causes.
            let store_error = match error.downcast_ref() {
                Some(WriteError::Store(error)) => Some(error),
                _ => error.downcast_ref::<Self>(),
            };
            matches!(store_error, Some(Self::Misconfigured { .. }))
        })
    }

    /// Returns copies of this error, one for each item that it affects.
    pub fn share(self) -> Box<dyn Fn() -> Self + Send + Sync> {
        type Constructor = fn(&'static str, Cause) -> StoreError;
        let (class, operation, source): (Constructor, _, _) = match self {
            Self::Invalid { operation, source } => (Self::invalid, operation, source),
            Self::Misconfigured { operation, source } => (Self::misconfigured, operation, source),
            Self::Conflict { operation, source } => (Self::conflict, operation, source),
            Self::Unavailable { operation, source } => (Self::unavailable, operation, source),
            Self::Corrupt { what, reason } => {
                return Box::new(move || Self::Corrupt {
                    what: what.clone(),
                    reason: reason.clone(),
                });
            }
        };
        let source: Arc<dyn Error + Send + Sync> = source.into();
        Box::new(move || class(operation, Box::new(Arc::clone(&source))))
    }
}

/// A conditional write that was not applied.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The stored version is not the one that was read. Read again and decide again.
    #[error("the stored version is not the one that was read")]
    Conflict,
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The messages of a batch that were not stored completely.
#[derive(Debug, thiserror::Error)]
#[error("{} messages of a batch were not stored", failed.len())]
pub struct BatchWriteError {
    /// The messages of which at least one item was not stored.
    pub failed: BTreeSet<MessageId>,
    /// Those of them that can never be stored ([`StoreError::Invalid`]), with the reason.
    pub invalid: BTreeMap<MessageId, String>,
    /// One error of possibly several; of a message that can be retried, if there is one.
    #[source]
    pub source: StoreError,
}

impl BatchWriteError {
    /// Creates the error of messages that failed for the same reason.
    pub fn new(messages: impl IntoIterator<Item = MessageId>, source: StoreError) -> Self {
        let failed: BTreeSet<_> = messages.into_iter().collect();
        let is_invalid = matches!(source, StoreError::Invalid { .. });
        let reason = if is_invalid { error_chain(&source) } else { String::new() };
        let invalid = failed.iter().filter(|_| is_invalid).map(|id| (*id, reason.clone()));
        Self { invalid: invalid.collect(), failed, source }
    }
}

/// Collects the failures of a batch of writes.
#[derive(Debug, Default)]
pub struct BatchFailures {
    failed: BTreeSet<MessageId>,
    invalid: BTreeMap<MessageId, String>,
    source: Option<StoreError>,
}

impl BatchFailures {
    /// Adds an error and the messages that it affects.
    pub fn add(&mut self, messages: impl IntoIterator<Item = MessageId>, error: StoreError) {
        self.extend(BatchWriteError::new(messages, error));
    }

    /// Adds all failures of another batch.
    pub fn extend(&mut self, other: BatchWriteError) {
        self.failed.extend(other.failed);
        self.invalid.extend(other.invalid);
        if matches!(self.source, None | Some(StoreError::Invalid { .. })) {
            self.source = Some(other.source);
        }
    }

    /// Returns an error if a failure was added.
    ///
    /// # Errors
    /// All failures.
    pub fn into_result(self) -> Result<(), BatchWriteError> {
        let Self { failed, invalid, source } = self;
        source.map_or(Ok(()), |source| Err(BatchWriteError { failed, invalid, source }))
    }
}

/// Formats an error and its causes as one line, for the log.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_error_keeps_class_and_cause() {
        let copies = StoreError::misconfigured("s3:PutObject", "AccessDenied").share();
        for copy in [copies(), copies()] {
            assert!(matches!(copy, StoreError::Misconfigured { .. }), "{copy:?}");
            assert_eq!(
                error_chain(&copy),
                "s3:PutObject failed permanently for every request: AccessDenied"
            );
        }
    }

    #[test]
    fn batch_error_separates_invalid_messages_and_keeps_a_retryable_cause() {
        let [large, throttled] = [b"1", b"2"].map(|payload| MessageId::of("t", payload));
        let mut failures = BatchFailures::default();
        failures.add([large], StoreError::invalid("dynamodb:PutItem", "too large"));
        failures.add([throttled], StoreError::unavailable("dynamodb:PutItem", "throttled"));
        let error = failures.into_result().unwrap_err();
        assert_eq!(error.failed, [large, throttled].into());
        let reason = "dynamodb:PutItem failed permanently for this item: too large".to_owned();
        assert_eq!(error.invalid, [(large, reason)].into());
        assert!(matches!(error.source, StoreError::Unavailable { .. }), "{:?}", error.source);
        assert!(BatchFailures::default().into_result().is_ok());
    }

    #[test]
    fn misconfigured_cause_is_found_through_wrapping_errors() {
        let denied = || StoreError::misconfigured("dynamodb:Query", "AccessDeniedException");
        assert!(StoreError::is_misconfigured(&WriteError::Store(denied())));
        assert!(StoreError::is_misconfigured(&BatchWriteError::new([], denied())));
        assert!(!StoreError::is_misconfigured(&WriteError::Conflict));
    }
}
