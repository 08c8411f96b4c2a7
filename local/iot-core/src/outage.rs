//! Saying once that something is away, and once that it is back.

use std::{
    fmt::Display,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};

/// How long something must fail before it is worth a warning. What fails and works in turn would fill the
/// log otherwise.
const WARN_AFTER: Duration = Duration::from_secs(1);

/// A thing that the edge depends on, and since when it fails. Retries come by the thousand in an outage;
/// two lines of the log tell the same.
#[derive(Debug)]
pub(crate) struct Outage {
    operation: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    reported: bool,
}

impl Outage {
    pub(crate) fn new(operation: impl Into<String>) -> Self {
        Self { operation: operation.into(), state: Mutex::default() }
    }

    /// Notes a failure.
    pub(crate) fn record_failure(&self, error: &dyn Display) {
        if self.state().record_failure(Instant::now()) {
            warn!(%error, "{} fails; trying again until it works", self.operation);
        } else {
            debug!(%error, "{} fails", self.operation);
        }
    }

    /// Notes a success, which ends the outage, if there was one.
    pub(crate) fn record_success(&self) {
        if let Some(since) = self.state().record_success() {
            info!(outage_s = since.elapsed().as_secs(), "{} works again", self.operation);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether this failure is to be reported.
    fn record_failure(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        if self.reported || now - since < WARN_AFTER {
            return false;
        }
        self.reported = true;
        true
    }

    /// Since when it has failed, if that was reported.
    fn record_success(&mut self) -> Option<Instant> {
        let State { since, reported } = std::mem::take(self);
        since.filter(|_| reported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_announced_once_and_so_is_its_end() {
        let (mut state, start) = (State::default(), Instant::now());
        assert!(!state.record_failure(start));
        assert!(state.record_failure(start + WARN_AFTER));
        assert!(!state.record_failure(start + 100 * WARN_AFTER));
        assert_eq!(state.record_success(), Some(start));
        assert_eq!(state.record_success(), None);
    }

    #[test]
    fn a_failure_that_passes_is_not_announced() {
        let (mut state, start) = (State::default(), Instant::now());
        for round in 0..10 {
            assert!(!state.record_failure(start + round * WARN_AFTER));
            assert_eq!(state.record_success(), None);
        }
    }
}
