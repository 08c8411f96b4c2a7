//! When to start again what has died.

use std::time::Duration;

/// How long to wait before the next start: nothing to speak of at first, up to ten seconds for a program that keeps dying.
#[derive(Default)]
pub(super) struct Backoff {
    deaths_in_a_row: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(10);
    /// Who has lived this long did not die of its start.
    const A_FULL_LIFE: Duration = Duration::from_secs(10);

    pub(super) fn after_a_life_of(&mut self, life: Duration) -> (Duration, u32) {
        if life >= Self::A_FULL_LIFE {
            self.deaths_in_a_row = 0;
        }
        let doublings = self.deaths_in_a_row.min(10);
        self.deaths_in_a_row += 1;
        let pause = (Self::FIRST * 2_u32.pow(doublings)).min(Self::LONGEST);
        (pause, self.deaths_in_a_row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_dying_is_started_ever_more_slowly_and_at_least_every_ten_seconds() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> =
            (0..9).map(|_| backoff.after_a_life_of(Duration::from_millis(5)).0).collect();
        assert_eq!(pauses[0], Duration::from_millis(100));
        assert!(pauses.is_sorted());
        assert_eq!(pauses[8], Duration::from_secs(10));
    }

    #[test]
    fn who_lived_long_is_started_again_without_delay() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.after_a_life_of(Duration::from_millis(5));
        }
        let (pause, in_a_row) = backoff.after_a_life_of(Duration::from_secs(60));
        assert_eq!((pause, in_a_row), (Duration::from_millis(100), 1));
    }
}
