//! A cache of the alert rules in the process.

use std::sync::Arc;

use meter_domain::rule::RuleSet;
use meter_domain::time::Timestamp;
use meter_store::{RuleStore, StoreError, error_chain};
use tokio::sync::Mutex;

/// Seconds for which expired rules are used after a failed read, before the next read.
const RETRY_S: i64 = 5;

/// Caches the alert rules. They are read again when they expire, or when the state of a device was
/// evaluated with a newer generation of rules.
#[derive(Debug)]
pub struct RuleCache {
    max_age_s: u32,
    // Locked during a read, so that concurrent callers share it.
    cached: Mutex<Option<CachedRules>>,
}

#[derive(Debug)]
struct CachedRules {
    set: Arc<RuleSet>,
    /// When the rules are read again.
    expires_at: Timestamp,
    /// A generation that the store did not contain. It is not requested again, since the table was
    /// created anew.
    missing_generation: u64,
}

impl RuleCache {
    /// An empty cache whose rules expire after `max_age_s` seconds.
    pub fn new(max_age_s: u32) -> Self {
        Self { max_age_s, cached: Mutex::new(None) }
    }

    /// Returns the rules of `store` at `now`, of at least `generation`.
    ///
    /// # Errors
    ///
    /// The rules cannot be read, and the cached rules are older than `generation`.
    pub async fn get<R: RuleStore>(
        &self,
        store: &R,
        generation: u64,
        now: Timestamp,
    ) -> Result<Arc<RuleSet>, StoreError> {
        let mut cached = self.cached.lock().await;
        if let Some(cached) = cached.as_ref()
            && now < cached.expires_at
            && (generation <= cached.set.generation || generation <= cached.missing_generation)
        {
            return Ok(Arc::clone(&cached.set));
        }
        match store.all().await {
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
                    tracing::warn!(
                        error = error_chain(&error),
                        "reading alert rules failed; expired rules are used"
                    );
                    cached.expires_at = now.plus_seconds(RETRY_S);
                    Ok(Arc::clone(&cached.set))
                }
                _ => Err(error),
            },
        }
    }
}
