use std::collections::HashMap;

use meter_domain::id::DeviceId;
use meter_domain::state::{Connection, DeviceState};
use meter_domain::time::Timestamp;
use meter_store::{
    INGEST_LAG_TTL_S, IngestLag, IngestLagStore, QueueDepth, StateStore, StateWrite, StoreError,
    WriteError,
};

use super::{MemoryStores, Operation, Tables};

impl StateStore for MemoryStores {
    async fn get_many(
        &self,
        ids: &[DeviceId],
    ) -> Result<HashMap<DeviceId, DeviceState>, StoreError> {
        self.call(Operation::GetStates, |tables| {
            let found = ids.iter().filter_map(|id| tables.states.get(id));
            found.map(|s| (s.device_id.clone(), s.clone())).collect()
        })
        .await
    }

    async fn save_many(&self, writes: &[StateWrite]) -> Vec<Result<(), WriteError>> {
        let conflicts: Vec<bool> = {
            let mut faults = self.faults();
            let ids = writes.iter().map(|write| &write.state.device_id);
            ids.map(|id| faults.take_conflict(id)).collect()
        };
        let saved = self
            .call(Operation::SaveStates, |tables| {
                let writes = writes.iter().zip(conflicts);
                writes
                    .map(|(write, conflict)| {
                        if conflict || !tables.is_current(&write.state) {
                            return Err(WriteError::Conflict);
                        }
                        if write.state.registered {
                            tables.count_connection(write.connection_before, -1);
                            tables.count_connection(write.state.presence.connection, 1);
                        }
                        tables.save(write.state.clone());
                        Ok(())
                    })
                    .collect()
            })
            .await;
        saved.unwrap_or_else(|error| {
            let copy = error.share();
            writes.iter().map(|_| Err(copy().into())).collect()
        })
    }

    async fn list_due(&self, now: Timestamp, limit: usize) -> Result<Vec<DeviceId>, StoreError> {
        self.call(Operation::ListDueStates, |tables| {
            let states = tables.states.values();
            let mut due: Vec<_> = states
                .filter_map(|state| {
                    Some((state.next_check.filter(|due| *due <= now)?, &state.device_id))
                })
                .collect();
            due.sort_unstable();
            due.into_iter().take(limit).map(|(_, id)| id.clone()).collect()
        })
        .await
    }
}

impl IngestLagStore for MemoryStores {
    async fn record_ingest_lag(&self, lag: IngestLag) -> Result<(), StoreError> {
        self.call(Operation::RecordIngestLag, |tables| {
            tables.ingest_lags.insert(lag.process_id, lag);
        })
        .await
    }

    async fn ingest_lag(&self, now: Timestamp) -> Result<Option<IngestLag>, StoreError> {
        self.call(Operation::GetIngestLag, |tables| {
            let reports = tables.ingest_lags.values().copied();
            let valid = reports.filter(|lag| lag.reported_at.plus_seconds(INGEST_LAG_TTL_S) >= now);
            valid.max_by_key(|lag| lag.lag_s)
        })
        .await
    }
}

impl QueueDepth for MemoryStores {
    async fn depth(&self) -> Result<u64, StoreError> {
        self.call(Operation::GetDepth, |tables| tables.depth).await
    }
}

impl Tables {
    /// Returns whether the state has the stored version.
    pub(super) fn is_current(&self, state: &DeviceState) -> bool {
        let stored = self.states.get(&state.device_id);
        stored.map_or(0, |stored| stored.version) == state.version
    }

    /// Writes a state under the next version.
    pub(super) fn save(&mut self, mut state: DeviceState) {
        state.version += 1;
        self.states.insert(state.device_id.clone(), state);
    }

    /// Changes the device type; an optimistic update that read the state before then conflicts.
    pub(super) fn set_device_type(&mut self, id: &DeviceId, device_type: Option<String>) {
        if let Some(state) = self.states.get_mut(id) {
            state.device_type = device_type;
            state.version += 1;
        }
    }

    pub(super) fn count_connection(&mut self, connection: Connection, by: i64) {
        let count = self.counts.by_connection.entry(connection).or_default();
        *count = count.saturating_add_signed(by);
    }
}
