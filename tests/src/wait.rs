//! Limits of waits. A wait fails when it makes no progress, so that a slow machine does not fail a
//! test.

use std::time::Duration;

use tokio::time::Instant;

/// The time without progress after which a wait fails.
pub const NO_PROGRESS: Duration = Duration::from_secs(180);

/// The time after which a wait fails although it makes progress.
pub const LIMIT: Duration = Duration::from_secs(1_800);

/// The state of a wait, and when it last changed.
pub struct Progress<T> {
    limit: Duration,
    started_at: Instant,
    changed_at: Instant,
    state: Option<T>,
}

impl<T: PartialEq> Progress<T> {
    /// Starts a wait that fails after `limit` without progress, and after [`LIMIT`] in any case.
    pub fn new(limit: Duration) -> Self {
        let now = Instant::now();
        Self { limit, started_at: now, changed_at: now, state: None }
    }

    /// Records the state and returns whether the wait has failed. A changed state is progress.
    pub fn is_stalled(&mut self, state: T) -> bool {
        let now = Instant::now();
        if self.state.as_ref() != Some(&state) {
            self.state = Some(state);
            self.changed_at = now;
        }
        now - self.changed_at > self.limit || now - self.started_at > LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unchanged_state_stalls_and_changed_state_does_not() {
        let mut progress = Progress::new(Duration::from_millis(1));
        assert!(!progress.is_stalled(1));
        std::thread::sleep(Duration::from_millis(2));
        assert!(progress.is_stalled(1));
        assert!(!progress.is_stalled(2));
    }
}
