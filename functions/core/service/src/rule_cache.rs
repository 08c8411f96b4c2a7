//! The rules, held in the process for a bounded time.

use std::sync::Arc;

use meter_domain::rule::RuleSet;
use meter_domain::time::Timestamp;
use meter_store::with_causes;
use meter_store::{RuleStore, StoreError};
use tokio::sync::Mutex;

/// How long, in seconds, the rules that are held are used on when they cannot be read anew, before it is tried again.
const RETRY_S: i64 = 5;

/// Rules of a store, read anew when they are old, or older than those that a state was computed with.
#[derive(Debug)]
pub struct RuleCache<R> {
    store: R,
    max_age_s: u32,
    // Held while reading: who comes meanwhile wants the same answer.
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    set: Arc<RuleSet>,
    /// When to read them anew.
    until: Timestamp,
    /// The store did not have this generation when it was asked: the table was made anew.
    unknown: u64,
}

impl<R: RuleStore> RuleCache<R> {
    /// Rules of `store`, which are at most `max_age_s` seconds old when they are used.
    pub fn new(store: R, max_age_s: u32) -> Self {
        Self { store, max_age_s, held: Mutex::new(None) }
    }

    /// The rules at `now`, at least those of `generation`.
    ///
    /// # Errors
    /// When they cannot be read, and there are none that would do.
    pub async fn get(&self, generation: u64, now: Timestamp) -> Result<Arc<RuleSet>, StoreError> {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref()
            && now < held.until
            && (generation <= held.set.generation || generation <= held.unknown)
        {
            return Ok(Arc::clone(&held.set));
        }
        match self.store.all().await {
            Ok(all) => {
                let set = Arc::new(RuleSet::new(all.rules, all.generation));
                let until = now.plus_seconds(i64::from(self.max_age_s));
                *held = Some(Held { set: Arc::clone(&set), until, unknown: generation });
                Ok(set)
            }
            Err(error) => match held.as_mut() {
                Some(held) if generation <= held.set.generation => {
                    tracing::warn!(error = with_causes(&error), "alert rules were not read anew");
                    held.until = now.plus_seconds(RETRY_S);
                    Ok(Arc::clone(&held.set))
                }
                _ => Err(error),
            },
        }
    }
}
