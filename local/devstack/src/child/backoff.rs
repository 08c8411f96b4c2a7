//! When to start again what has died.

use std::time::Duration;

/// How long to wait before the next start: nothing to speak of at first, up to ten seconds for a program that keeps dying.
#[derive(Default)]
pub(super) struct Backoff {
    consecutive_failures: u32,
}

impl Backoff {
    const INITIAL_DELAY: Duration = Duration::from_millis(100);
    const MAX_DELAY: Duration = Duration::from_secs(10);
    /// Who has lived this long did not die of its start.
    const STABLE_UPTIME: Duration = Duration::from_secs(10);

    pub(super) fn next_delay(&mut self, uptime: Duration) -> (Duration, u32) {
        if uptime >= Self::STABLE_UPTIME {
            self.consecutive_failures = 0;
        }
        let doublings = self.consecutive_failures.min(10);
        self.consecutive_failures += 1;
        let pause = (Self::INITIAL_DELAY * 2_u32.pow(doublings)).min(Self::MAX_DELAY);
        (pause, self.consecutive_failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_dying_is_started_ever_more_slowly_and_at_least_every_ten_seconds() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> =
            (0..9).map(|_| backoff.next_delay(Duration::from_millis(5)).0).collect();
        assert_eq!(pauses[0], Duration::from_millis(100));
        assert!(pauses.is_sorted());
        assert_eq!(pauses[8], Duration::from_secs(10));
    }

    #[test]
    fn who_lived_long_is_started_again_without_delay() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.next_delay(Duration::from_millis(5));
        }
        let (pause, in_a_row) = backoff.next_delay(Duration::from_secs(60));
        assert_eq!((pause, in_a_row), (Duration::from_millis(100), 1));
    }
}
