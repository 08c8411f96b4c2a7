//! The delay before a restart.

use std::time::Duration;

/// Exponential backoff: 100 ms at first, up to 10 s for a program that keeps failing.
#[derive(Default)]
pub(super) struct Backoff {
    consecutive_failures: u32,
}

impl Backoff {
    const INITIAL_DELAY: Duration = Duration::from_millis(100);
    const MAX_DELAY: Duration = Duration::from_secs(10);
    /// After this time an exit does not count as a failed start.
    const STABLE_UPTIME: Duration = Duration::from_secs(10);

    pub(super) fn next_delay(&mut self, uptime: Duration) -> (Duration, u32) {
        if uptime >= Self::STABLE_UPTIME {
            self.consecutive_failures = 0;
        }
        let doublings = self.consecutive_failures.min(10);
        self.consecutive_failures += 1;
        let delay = (Self::INITIAL_DELAY * 2_u32.pow(doublings)).min(Self::MAX_DELAY);
        (delay, self.consecutive_failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_grows_with_failures_up_to_ten_seconds() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> =
            (0..9).map(|_| backoff.next_delay(Duration::from_millis(5)).0).collect();
        assert_eq!(delays[0], Duration::from_millis(100));
        assert!(delays.is_sorted());
        assert_eq!(delays[8], Duration::from_secs(10));
    }

    #[test]
    fn delay_is_reset_after_stable_uptime() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.next_delay(Duration::from_millis(5));
        }
        let (delay, failures) = backoff.next_delay(Duration::from_secs(60));
        assert_eq!((delay, failures), (Duration::from_millis(100), 1));
    }
}
