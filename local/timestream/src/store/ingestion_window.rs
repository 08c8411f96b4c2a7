//! The times of the records that a table accepts.

use super::catalog::Table;
use crate::{
    instant::{self, NANOS_PER_DAY, NANOS_PER_HOUR},
    limits::MAX_FUTURE_NANOS,
};

/// The times that the stores of a table accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IngestionWindow {
    /// The oldest time that the memory store accepts.
    pub(crate) memory_from: i64,
    /// The oldest time that any store accepts.
    pub(crate) from: i64,
    /// The first time that is too far in the future.
    pub(crate) until: i64,
}

/// The store that accepted a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    Memory,
    Magnetic,
}

impl IngestionWindow {
    /// The memory store accepts records within its retention. If magnetic writes are enabled, the
    /// magnetic store accepts older ones within its retention:
    /// <https://docs.aws.amazon.com/timestream/latest/developerguide/storage.html>.
    pub(crate) fn new(table: &Table, magnetic_writes: bool, now: i64) -> Self {
        let back = |count: i64, unit: i64| now.saturating_sub(count.saturating_mul(unit));
        let memory_from = back(table.memory_hours, NANOS_PER_HOUR);
        let magnetic_from = back(table.magnetic_days, NANOS_PER_DAY);
        Self {
            memory_from,
            from: if magnetic_writes { memory_from.min(magnetic_from) } else { memory_from },
            until: now.saturating_add(MAX_FUTURE_NANOS),
        }
    }

    /// Returns the store that accepts a record of this time, or the reason for its rejection.
    pub(super) fn tier(&self, time: i64) -> Result<Tier, String> {
        if (self.memory_from..self.until).contains(&time) {
            Ok(Tier::Memory)
        } else if (self.from..self.memory_from).contains(&time) {
            Ok(Tier::Magnetic)
        } else {
            Err(format!(
                "The record timestamp is outside the time range [{}, {}) of the data ingestion window.",
                instant::iso8601(self.from),
                instant::iso8601(self.until)
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = NANOS_PER_HOUR;
    const NOW: i64 = 1_000 * NANOS_PER_DAY;

    /// A window with a memory retention of two hours and a magnetic one of three days.
    fn window(magnetic_writes: bool) -> IngestionWindow {
        let table = Table {
            id: 1,
            database: String::new(),
            name: String::new(),
            memory_hours: 2,
            magnetic_days: 3,
            magnetic_writes: String::new(),
            partition_keys: String::new(),
            created: 0,
            updated: 0,
        };
        IngestionWindow::new(&table, magnetic_writes, NOW)
    }

    #[test]
    fn ingestion_window_includes_its_start_and_excludes_its_end() {
        let window = window(true);
        for (time, tier) in [
            (NOW + MAX_FUTURE_NANOS, None),
            (NOW + MAX_FUTURE_NANOS - 1, Some(Tier::Memory)),
            (NOW - 2 * HOUR, Some(Tier::Memory)),
            (NOW - 2 * HOUR - 1, Some(Tier::Magnetic)),
            (NOW - 72 * HOUR, Some(Tier::Magnetic)),
            (NOW - 72 * HOUR - 1, None),
        ] {
            assert_eq!(window.tier(time).ok(), tier, "{} h ago", (NOW - time) / HOUR);
        }
    }

    #[test]
    fn window_without_magnetic_writes_is_the_memory_retention() {
        let window = window(false);
        assert_eq!(window.tier(NOW - 2 * HOUR), Ok(Tier::Memory));
        assert!(window.tier(NOW - 2 * HOUR - 1).unwrap_err().contains("data ingestion window"));
    }
}
