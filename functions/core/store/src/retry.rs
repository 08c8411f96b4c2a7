//! The retry policy: exponential backoff with full jitter, which spreads competing writers over
//! time.

use std::time::Duration;

/// The number of attempts of a contended or throttled request. After that, the redelivery of the
/// message repeats it.
pub const MAX_ATTEMPTS: u32 = 8;

const BASE_DELAY: Duration = Duration::from_millis(20);
const MAX_DELAY: Duration = Duration::from_millis(1_000);

/// Returns the delay after failure number `attempt` (from 0): random, at most 20 ms × 2^`attempt`
/// and one second.
pub fn backoff(attempt: u32) -> Duration {
    let ceiling = BASE_DELAY.saturating_mul(1 << attempt.min(10)).min(MAX_DELAY);
    ceiling.mul_f64(rand::random::<f64>())
}

/// Sleeps for the time that [`backoff`] returns.
pub async fn wait(attempt: u32) {
    tokio::time::sleep(backoff(attempt)).await;
}
