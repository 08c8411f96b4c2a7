//! Device states, in the table `device-state`: `device_id`, the `version` for optimistic updates,
//! the state as one JSON text, and the time of the next check for the index `by-due`. Also the
//! counts of devices by connection, in the items `#stats#NN`.

mod save;
mod state_item;

use std::collections::HashMap;

use meter_domain::id::DeviceId;
use meter_domain::state::DeviceState;
use meter_domain::time::Timestamp;
use meter_store::error_chain;
use meter_store::{StateStore, StateWrite, StoreError, WriteError};

pub(super) use self::state_item::{from_item, put, set_device_type};
use super::table::Table;
use super::{batch, due};
use crate::Clients;
use crate::settings::Tables;

/// Implements [`StateStore`] and [`IngestLagStore`](meter_store::IngestLagStore) with the table
/// `device-state`.
#[derive(Debug, Clone)]
pub struct States {
    pub(super) table: Table,
}

impl States {
    /// Creates the adapter.
    pub fn new(clients: &Clients, tables: &Tables) -> Self {
        Self { table: table(clients, tables) }
    }
}

/// The table of [`States`].
pub(super) fn table(clients: &Clients, tables: &Tables) -> Table {
    Table::with_partition_key(clients, &tables.state, state_item::KEY)
}

impl StateStore for States {
    async fn get_many(
        &self,
        ids: &[DeviceId],
    ) -> Result<HashMap<DeviceId, DeviceState>, StoreError> {
        let keys = ids.iter().map(|id| (id.to_string(), String::new()));
        let items = batch::get_all(&self.table, keys).await?;
        let mut states = HashMap::new();
        for item in items {
            match from_item(item) {
                Ok(state) => {
                    states.insert(state.device_id.clone(), state);
                }
                // One corrupt state must not fail the others. A caller that takes it for a new
                // state cannot overwrite it: the write of version 0 conflicts.
                Err(error) if ids.len() > 1 => {
                    tracing::error!(error = error_chain(&error), "corrupt device state skipped");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(states)
    }

    async fn save_many(&self, writes: &[StateWrite]) -> Vec<Result<(), WriteError>> {
        self.save_all(writes).await
    }

    async fn list_due(&self, now: Timestamp, limit: usize) -> Result<Vec<DeviceId>, StoreError> {
        let items = due::find(&self.table, now, limit).await?;
        let ids = items.into_iter().filter_map(|item| {
            let (id, _) = self.table.key_text_of(&item);
            // One corrupt item must not fail the others.
            DeviceId::parse(&id)
                .inspect_err(|error| {
                    tracing::error!(device_id = id, %error, "due item with an invalid device id");
                })
                .ok()
        });
        Ok(ids.collect())
    }
}
