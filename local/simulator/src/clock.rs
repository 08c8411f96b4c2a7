//! Time as an argument: nothing below the I/O layer reads a clock.

use std::time::Duration;

use jiff::Timestamp;

/// One instant on both clocks. Intervals use the monotonic clock and messages contain the wall
/// clock, so a wall clock that is set does not change intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// Monotonic, since the simulator started.
    pub elapsed: Duration,
    /// The wall clock at the same instant.
    pub wall: Timestamp,
}

impl ClockReading {
    /// The wall clock at another instant of the monotonic clock, in whole milliseconds, the
    /// precision of a meter's clock.
    pub fn wall_at(&self, elapsed: Duration) -> Timestamp {
        let ahead = elapsed.as_nanos().cast_signed() - self.elapsed.as_nanos().cast_signed();
        let shown = self.wall.as_nanosecond() + ahead;
        // Out of range only after millennia of uptime.
        i64::try_from(shown.div_euclid(1_000_000))
            .ok()
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .unwrap_or(self.wall)
    }
}

/// The clock of the process.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: tokio::time::Instant,
}

impl Clock {
    /// A clock that shows zero now.
    pub fn start() -> Self {
        Self { origin: tokio::time::Instant::now() }
    }

    /// Reads both clocks.
    pub fn now(&self) -> ClockReading {
        ClockReading { elapsed: self.origin.elapsed(), wall: Timestamp::now() }
    }

    /// The instant of a timer at which [`ClockReading::elapsed`] has this value.
    pub fn instant(&self, elapsed: Duration) -> tokio::time::Instant {
        self.origin + elapsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_at_returns_wall_clock_of_earlier_instant() {
        let now = ClockReading {
            elapsed: Duration::from_secs(100),
            wall: "2026-01-01T12:00:00.123456Z".parse().unwrap(),
        };
        let then = now.wall_at(Duration::from_secs(98));
        assert_eq!(then.to_string(), "2026-01-01T11:59:58.123Z");
    }
}
