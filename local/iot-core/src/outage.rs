//! Outages, logged once at their start and once at their end.

use std::{
    fmt::Display,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};

/// The duration of an outage before it is logged, so that intermittent failures do not fill the
/// log.
const WARN_AFTER: Duration = Duration::from_secs(1);

/// A dependency and the time since which it fails. An outage has thousands of retries and two lines
/// in the log.
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

    /// Records a failure.
    pub(crate) fn record_failure(&self, error: &dyn Display) {
        if self.state().record_failure(Instant::now()) {
            warn!(%error, "{} fails; retrying until it succeeds", self.operation);
        } else {
            debug!(%error, "{} fails", self.operation);
        }
    }

    /// Records a success, which ends an outage.
    pub(crate) fn record_success(&self) {
        if let Some(since) = self.state().record_success() {
            info!(outage_s = since.elapsed().as_secs(), "{} succeeds again", self.operation);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns whether this failure is to be logged.
    fn record_failure(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        if self.reported || now - since < WARN_AFTER {
            return false;
        }
        self.reported = true;
        true
    }

    /// Returns the start of the outage, if it was logged.
    fn record_success(&mut self) -> Option<Instant> {
        let State { since, reported } = std::mem::take(self);
        since.filter(|_| reported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outage_and_its_end_are_logged_once() {
        let (mut state, start) = (State::default(), Instant::now());
        assert!(!state.record_failure(start));
        assert!(state.record_failure(start + WARN_AFTER));
        assert!(!state.record_failure(start + 100 * WARN_AFTER));
        assert_eq!(state.record_success(), Some(start));
        assert_eq!(state.record_success(), None);
    }

    #[test]
    fn short_failure_is_not_logged() {
        let (mut state, start) = (State::default(), Instant::now());
        for round in 0..10 {
            assert!(!state.record_failure(start + round * WARN_AFTER));
            assert_eq!(state.record_success(), None);
        }
    }
}
