//! The rules, cached in the process for a bounded time.

use std::sync::Arc;

use meter_domain::rule::RuleSet;
use meter_domain::time::Timestamp;
use meter_store::error_chain;
use meter_store::{RuleStore, StoreError};
use tokio::sync::Mutex;

/// How long, in seconds, the rules that are cached are used on when they cannot be read anew, before it is tried again.
const RETRY_S: i64 = 5;

/// Rules of a store, read anew when they are old, or older than those that a state was computed with.
#[derive(Debug)]
pub struct RuleCache<R> {
    store: R,
    max_age_s: u32,
    // CachedRules while reading: who comes meanwhile wants the same answer.
    cached: Mutex<Option<CachedRules>>,
}

#[derive(Debug)]
struct CachedRules {
    set: Arc<RuleSet>,
    /// When to read them anew.
    expires_at: Timestamp,
    /// The store did not have this generation when it was asked: the table was made anew.
    missing_generation: u64,
}

impl<R: RuleStore> RuleCache<R> {
    /// Rules of `store`, which are at most `max_age_s` seconds old when they are used.
    pub fn new(store: R, max_age_s: u32) -> Self {
        Self { store, max_age_s, cached: Mutex::new(None) }
    }

    /// The rules at `now`, at least those of `generation`.
    ///
    /// # Errors
    /// When they cannot be read, and there are none that would do.
    pub async fn get(&self, generation: u64, now: Timestamp) -> Result<Arc<RuleSet>, StoreError> {
        let mut cached = self.cached.lock().await;
        if let Some(cached) = cached.as_ref()
            && now < cached.expires_at
            && (generation <= cached.set.generation || generation <= cached.missing_generation)
        {
            return Ok(Arc::clone(&cached.set));
        }
        match self.store.all().await {
            Ok(all) => {
                let set = Arc::new(RuleSet::new(all.rules, all.generation));
                let expires_at = now.plus_seconds(i64::from(self.max_age_s));
                *cached = Some(CachedRules {
                    set: Arc::clone(&set),
                    expires_at,
                    missing_generation: generation,
                });
                Ok(set)
            }
            Err(error) => match cached.as_mut() {
                Some(cached) if generation <= cached.set.generation => {
                    tracing::warn!(error = error_chain(&error), "alert rules were not read anew");
                    cached.expires_at = now.plus_seconds(RETRY_S);
                    Ok(Arc::clone(&cached.set))
                }
                _ => Err(error),
            },
        }
    }
}
