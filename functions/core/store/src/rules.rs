//! The port of alert rules.

use std::future::Future;

use meter_domain::rule::Rule;
use uuid::Uuid;

use super::{Page, PageRequest, StoreError, WriteError};

/// The reason why an alert rule was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateRuleError {
    /// [`MAX_RULES`](meter_domain::rule::MAX_RULES) rules exist.
    #[error("the maximum number of alert rules exists")]
    LimitReached,
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All alert rules at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleSnapshot {
    /// The rules, in no particular order.
    pub rules: Vec<Rule>,
    /// The number of creations, changes and deletions of rules until then.
    pub generation: u64,
}

/// Stores alert rules.
pub trait RuleStore: Send + Sync {
    /// Stores a new rule.
    ///
    /// # Errors
    ///
    /// [`CreateRuleError::LimitReached`] if the maximum number of rules exists.
    fn create(&self, rule: &Rule) -> impl Future<Output = Result<(), CreateRuleError>> + Send;

    /// Returns a rule; the read is consistent.
    fn get(&self, rule_id: Uuid) -> impl Future<Output = Result<Option<Rule>, StoreError>> + Send;

    /// Returns a page of rules, newest first.
    fn list(
        &self,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Rule>, StoreError>> + Send;

    /// Replaces a rule, if the stored version is the one before its own.
    ///
    /// # Errors
    ///
    /// [`WriteError::Conflict`] if another version is stored.
    fn replace(&self, rule: &Rule) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Deletes a rule, if the stored version is `version`.
    ///
    /// # Errors
    ///
    /// [`WriteError::Conflict`] if another version is stored.
    fn remove(
        &self,
        rule_id: Uuid,
        version: u64,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Returns all rules at one moment, including every write that was complete before the call.
    fn all(&self) -> impl Future<Output = Result<RuleSnapshot, StoreError>> + Send;
}
