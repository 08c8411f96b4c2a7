//! Alert rules.

use std::future::Future;

use meter_domain::rule::Rule;
use uuid::Uuid;

use super::{Page, PageRequest, StoreError, WriteError};

/// Why a rule was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateRuleError {
    /// There are [`MAX_RULES`](meter_domain::rule::MAX_RULES) already.
    #[error("there are as many rules as there may be")]
    LimitReached,
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Every rule at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleSnapshot {
    /// In no order.
    pub rules: Vec<Rule>,
    /// How often a rule was made, changed or removed until then.
    pub generation: u64,
}

/// Alert rules.
pub trait RuleStore: Send + Sync {
    /// Stores a new rule.
    fn create(&self, rule: &Rule) -> impl Future<Output = Result<(), CreateRuleError>> + Send;

    /// One rule, read consistently.
    fn get(&self, rule_id: Uuid) -> impl Future<Output = Result<Option<Rule>, StoreError>> + Send;

    /// Newest first.
    fn list(
        &self,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Rule>, StoreError>> + Send;

    /// Stores a rule in place of itself, if the version before its own is the stored one.
    fn replace(&self, rule: &Rule) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Removes a rule, if this version is the stored one.
    fn remove(
        &self,
        rule_id: Uuid,
        version: u64,
    ) -> impl Future<Output = Result<(), WriteError>> + Send;

    /// Every rule at one moment: all that was written before the call is in it.
    fn all(&self) -> impl Future<Output = Result<RuleSnapshot, StoreError>> + Send;
}
