//! Recounts of devices by status and by connection.

use meter_domain::device::DeviceStatus;
use meter_domain::id::Shard;
use meter_domain::state::{Connection, DeviceState};
use meter_store::{Counts, Recount, RecountReport, StoreError};

use super::Devices;
use super::list::BY_CREATED;
use crate::dynamodb::recount::{self, CounterGroup};
use crate::dynamodb::{batch, state};

impl Devices {
    /// Counts the devices of a shard by status.
    async fn count_statuses(&self, shard: Shard) -> Result<Counts, StoreError> {
        let items = recount::query_index(&self.table, BY_CREATED, shard, &["status"]).await?;
        let statuses = items.iter().map(|item| recount::attribute(item, "status"));
        Ok(recount::count_by_name(statuses, &STATUSES))
    }

    /// Counts the devices of a shard by connection.
    async fn count_connections(&self, shard: Shard) -> Result<Counts, StoreError> {
        let items = recount::query_index(&self.table, BY_CREATED, shard, &["device_id"]).await?;
        let keys = items.iter().map(|item| self.table.key_text_of(item));
        let states = batch::get_all(&self.states, keys).await?;
        let states: Vec<DeviceState> =
            states.into_iter().map(state::from_item).collect::<Result<_, _>>()?;
        let registered = states.iter().filter(|state| state.registered);
        let connections = registered.map(|state| Some(state.presence.connection.as_str()));
        Ok(recount::count_by_name(connections, &CONNECTIONS))
    }
}

const STATUSES: [&str; 2] = [DeviceStatus::Active.as_str(), DeviceStatus::Inactive.as_str()];
const CONNECTIONS: [&str; 3] =
    [Connection::Online.as_str(), Connection::Offline.as_str(), Connection::Unknown.as_str()];

impl Recount for Devices {
    async fn recount(&self) -> Result<Vec<RecountReport>, StoreError> {
        let (table, states, sort_key) = (&self.table, &self.states, "");
        let by_status =
            CounterGroup { what: "devices by status", table, sort_key, names: &STATUSES };
        let by_connection = CounterGroup {
            what: "devices by connection",
            table: states,
            sort_key,
            names: &CONNECTIONS,
        };
        Ok(vec![
            recount::recount(by_status, |shard| self.count_statuses(shard)).await?,
            recount::recount(by_connection, |shard| self.count_connections(shard)).await?,
        ])
    }
}
