//! The one retry policy: exponential backoff with full jitter, so that those who met once do not meet
//! again at the same instant.

use std::time::Duration;

/// How often something contended or throttled is tried before it is given up and comes again with the
/// redelivery of its message.
pub const MAX_ATTEMPTS: u32 = 8;

const BASE_DELAY: Duration = Duration::from_millis(20);
const MAX_DELAY: Duration = Duration::from_millis(1_000);

/// How long to wait after the `attempt`-th failure, from 0: a random time up to 20 ms × 2^attempt, at
/// most a second.
pub fn backoff(attempt: u32) -> Duration {
    let ceiling = BASE_DELAY.saturating_mul(1 << attempt.min(10)).min(MAX_DELAY);
    ceiling.mul_f64(rand::random::<f64>())
}

/// Waits as [`backoff`] says.
pub async fn wait(attempt: u32) {
    tokio::time::sleep(backoff(attempt)).await;
}
