//! The port that corrects fleet counters.

use std::collections::BTreeMap;
use std::future::Future;

use serde::Serialize;

use super::StoreError;

/// Counter values by name. The sum over all shards is never negative; the value of one shard may
/// be.
pub type Counts = BTreeMap<&'static str, i64>;

/// The result of a recount of one kind of counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecountReport {
    /// The name of what was counted.
    pub what: &'static str,
    /// The values before the recount.
    pub before: Counts,
    /// The values after the recount.
    pub after: Counts,
    /// The number of shards that were not corrected because they changed during each attempt.
    pub skipped_shards: usize,
}

/// Counters that can be recomputed.
pub trait Recount: Send + Sync {
    /// Counts the items of each shard and corrects its counters, if none of them changed meanwhile.
    ///
    /// Can be interrupted at any time and run concurrently.
    fn recount(&self) -> impl Future<Output = Result<Vec<RecountReport>, StoreError>> + Send;
}
