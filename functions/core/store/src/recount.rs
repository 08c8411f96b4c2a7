//! Making the fleet's counts right, should they ever be wrong.

use std::collections::BTreeMap;
use std::future::Future;

use serde::Serialize;

use super::StoreError;

/// Counts by the names that they have in the store. One of many is never below zero in sum; a single one may be.
pub type Counts = BTreeMap<&'static str, i64>;

/// Counts that were compared with what they count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecountReport {
    /// What was counted.
    pub what: &'static str,
    /// What the counts were.
    pub before: Counts,
    /// What they are now.
    pub after: Counts,
    /// Shares of the counts that are as they were, because what they count changed all the time: count again.
    pub skipped_shards: usize,
}

/// Counts that can be made right.
pub trait Recount: Send + Sync {
    /// Counts what there is and sets the counts to it, share by share, each only if nothing of it changed
    /// meanwhile. It may end anywhere, and run twice at once.
    fn recount(&self) -> impl Future<Output = Result<Vec<RecountReport>, StoreError>> + Send;
}
