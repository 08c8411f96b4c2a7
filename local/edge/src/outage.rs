//! Saying once that something is away, and once that it is back.

use std::{
    fmt::Display,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};

/// How long something must fail before it is worth a warning. What fails and works in turn would fill the
/// log otherwise.
const TOLERANCE: Duration = Duration::from_secs(1);

/// A thing that the edge depends on, and since when it fails. Retries come by the thousand in an outage;
/// two lines of the log tell the same.
#[derive(Debug)]
pub(crate) struct Outage {
    what: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    announced: bool,
}

impl Outage {
    pub(crate) fn of(what: impl Into<String>) -> Self {
        Self { what: what.into(), state: Mutex::default() }
    }

    /// Notes a failure.
    pub(crate) fn failed(&self, error: &dyn Display) {
        if self.state().failed(Instant::now()) {
            warn!(%error, "{} fails; trying again until it works", self.what);
        } else {
            debug!(%error, "{} fails", self.what);
        }
    }

    /// Notes a success, which ends the outage, if there was one.
    pub(crate) fn worked(&self) {
        if let Some(since) = self.state().worked() {
            info!(outage_s = since.elapsed().as_secs(), "{} works again", self.what);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether this failure is to be announced.
    fn failed(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        if self.announced || now - since < TOLERANCE {
            return false;
        }
        self.announced = true;
        true
    }

    /// Since when it has failed, if that was announced.
    fn worked(&mut self) -> Option<Instant> {
        let State { since, announced } = std::mem::take(self);
        since.filter(|_| announced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_announced_once_and_so_is_its_end() {
        let (mut state, start) = (State::default(), Instant::now());
        assert!(!state.failed(start));
        assert!(state.failed(start + TOLERANCE));
        assert!(!state.failed(start + 100 * TOLERANCE));
        assert_eq!(state.worked(), Some(start));
        assert_eq!(state.worked(), None);
    }

    #[test]
    fn a_failure_that_passes_is_not_announced() {
        let (mut state, start) = (State::default(), Instant::now());
        for round in 0..10 {
            assert!(!state.failed(start + round * TOLERANCE));
            assert_eq!(state.worked(), None);
        }
    }
}
