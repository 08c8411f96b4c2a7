//! The delay between attempts.

use std::time::Duration;

/// Exponential backoff with jitter, without a limit of attempts, because giving up would lose
/// messages.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    base: Duration,
    cap: Duration,
    attempt: u32,
}

impl Backoff {
    /// Creates a backoff with a first delay of up to `base` and later ones of up to `cap`.
    pub(crate) fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, attempt: 0 }
    }

    /// Returns the next delay: random, between half and all of the exponential value, so that
    /// callers that failed together do not retry together.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.attempt = self.attempt.saturating_add(1);
        ceiling.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// Starts again from `base`, after a successful attempt.
    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }

    fn ceiling(&self) -> Duration {
        let factor = 2u32.checked_pow(self.attempt).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(5);

    #[test]
    fn delays_double_up_to_the_cap() {
        let mut backoff = Backoff::new(BASE, CAP);
        for attempt in 0..100 {
            let expected = BASE.saturating_mul(1 << attempt.min(6)).min(CAP);
            let delay = backoff.next_delay();
            assert!(delay >= expected / 2 && delay <= expected, "{delay:?}");
        }
    }

    #[test]
    fn success_resets_the_delay() {
        let mut backoff = Backoff::new(BASE, CAP);
        for _ in 0..10 {
            backoff.next_delay();
        }
        backoff.reset();
        assert!(backoff.next_delay() <= BASE);
    }
}
