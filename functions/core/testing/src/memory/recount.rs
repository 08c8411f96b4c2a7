use meter_domain::device::DeviceStatus;
use meter_domain::state::Connection;
use meter_store::{Counts, FleetCounts, Recount, RecountReport, StoreError};

use super::{MemoryStores, Operation, Row, Tables};

impl MemoryStores {
    /// Makes the fleet counters wrong, for tests of a recount.
    pub fn corrupt_counts(&self) {
        let mut tables = self.tables();
        tables.count_status(DeviceStatus::Active, 3);
        tables.count_connection(Connection::Online, 2);
    }
}

impl Tables {
    fn count_rows(&self) -> FleetCounts {
        let mut counts = FleetCounts::default();
        for (id, row) in &self.devices {
            let Row::Registered(device) = row else { continue };
            let state = self.states.get(id);
            let connection = state.map(|state| state.presence.connection).unwrap_or_default();
            *counts.by_status.entry(device.status).or_default() += 1;
            *counts.by_connection.entry(connection).or_default() += 1;
        }
        counts
    }
}

fn counts<T: Copy>(
    all: &[T],
    name: fn(T) -> &'static str,
    of: impl Fn(T) -> Option<u64>,
) -> Counts {
    let count = |each: &T| (name(*each), of(*each).unwrap_or(0).try_into().unwrap_or(i64::MAX));
    all.iter().map(count).collect()
}

impl Recount for MemoryStores {
    async fn recount(&self) -> Result<Vec<RecountReport>, StoreError> {
        self.call(Operation::Recount, |tables| {
            let actual = tables.count_rows();
            let before = std::mem::replace(&mut tables.counts, actual.clone());
            let statuses = |counts: &FleetCounts| {
                let of = |status| counts.by_status.get(&status).copied();
                self::counts(&DeviceStatus::ALL, DeviceStatus::as_str, of)
            };
            let connections = |counts: &FleetCounts| {
                let of = |connection| counts.by_connection.get(&connection).copied();
                self::counts(&Connection::ALL, Connection::as_str, of)
            };
            let recounted =
                |what, before, after| RecountReport { what, before, after, skipped_shards: 0 };
            vec![
                recounted("devices by status", statuses(&before), statuses(&actual)),
                recounted("devices by connection", connections(&before), connections(&actual)),
            ]
        })
        .await
    }
}
