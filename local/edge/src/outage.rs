//! Saying once that something is away, and once that it is back.

use std::{
    fmt::Display,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use tracing::{debug, info, warn};

/// A thing that the edge depends on, and since when it fails. Retries come by the thousand in an outage;
/// two lines of the log tell the same.
#[derive(Debug)]
pub(crate) struct Outage {
    what: String,
    since: Mutex<Option<Instant>>,
}

impl Outage {
    pub(crate) fn of(what: impl Into<String>) -> Self {
        Self { what: what.into(), since: Mutex::new(None) }
    }

    /// Notes a failure; the first of an outage is a warning.
    pub(crate) fn failed(&self, error: &dyn Display) {
        if self.begin() {
            warn!(%error, "{} fails; trying again until it works", self.what);
        } else {
            debug!(%error, "{} still fails", self.what);
        }
    }

    /// Notes a success, which ends the outage, if there was one.
    pub(crate) fn worked(&self) {
        if let Some(since) = self.end() {
            info!(outage_s = since.elapsed().as_secs(), "{} works again", self.what);
        }
    }

    /// Whether this failure is the first.
    fn begin(&self) -> bool {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let first = since.is_none();
        since.get_or_insert_with(Instant::now);
        first
    }

    fn end(&self) -> Option<Instant> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_begins_with_the_first_failure_and_ends_with_the_first_success() {
        let outage = Outage::of("the queue");
        assert!(outage.end().is_none());
        assert!(outage.begin());
        assert!(!outage.begin());
        assert!(outage.end().is_some());
        assert!(outage.end().is_none());
        assert!(outage.begin());
    }
}
