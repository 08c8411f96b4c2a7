//! The registry, in the table `devices`.
//!
//! A deleted device leaves a tombstone: an item with `deleted_at` and without the attributes of the
//! indexes, until its cleanup is complete. Also the counts of devices by status, in `#stats#NN`.

mod device_item;
mod list;
mod recount;

use std::collections::BTreeMap;

use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::types::{
    ConditionCheck, ReturnValuesOnConditionCheckFailure as OnFailure, TransactWriteItem,
};
use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::{DeviceId, Shard};
use meter_domain::state::{Connection, DeviceState};
use meter_domain::time::Timestamp;
use meter_store::{
    CreateDeviceError, DeviceFilter, DeviceStore, FleetCounts, Page, PageRequest, StoreError,
    WriteError,
};

pub(super) use self::device_item::configure;
use self::device_item::{Tombstone, from_item, replace, to_item};
use self::list::DeviceQuery;
use super::conditional;
use super::item::{encode, text};
use super::merged_query::{self, ReadBudget};
use super::table::{Table, checked_build, names, values};
use super::transaction::{self, TransactAction, TransactionError};
use super::{counters, state};
use crate::Clients;
use crate::error::classify;
use crate::settings::Tables;

/// The attribute that only tombstones have.
const DELETED_AT: &str = "deleted_at";

/// Implements [`DeviceStore`] with the table `devices` and, in its transactions, `device-state`.
#[derive(Debug, Clone)]
pub struct Devices {
    table: Table,
    states: Table,
}

impl Devices {
    /// Creates the adapter.
    pub fn new(clients: &Clients, tables: &Tables) -> Self {
        Self { table: table(clients, tables), states: state::table(clients, tables) }
    }

    /// Returns the updates that add a device to its counts by status and by connection (`change` 1)
    /// or remove it (-1).
    fn count(
        &self,
        device: &Device,
        state: &DeviceState,
        change: i64,
    ) -> Result<impl Iterator<Item = TransactWriteItem>, StoreError> {
        let shard = device.device_id.shard();
        let by_status = [(device.status.as_str(), change)];
        let by_connection = [(state.presence.connection.as_str(), change)];
        let by_status = counters::add(&self.table, "", shard, &by_status)?;
        let by_connection = counters::add(&self.states, "", shard, &by_connection)?;
        Ok(by_status.into_iter().chain(by_connection).map(TransactAction::action))
    }
}

/// The table of [`Devices`].
pub(super) fn table(clients: &Clients, tables: &Tables) -> Table {
    Table::with_partition_key(clients, &tables.devices, "device_id")
}

/// The condition that an item is a registered device and no tombstone.
pub(super) const IS_REGISTERED: &str = "attribute_exists(id)";

/// Reads a registered device.
pub(super) async fn get(table: &Table, id: &DeviceId) -> Result<Option<Device>, StoreError> {
    let item = table.get(id.as_str(), "").await?;
    let device = item.filter(|item| !item.contains_key(DELETED_AT));
    device.map(from_item).transpose()
}

/// Checks that the tombstone of the deletion at `deleted_at` exists.
pub(super) fn tombstone_check(
    table: &Table,
    id: &DeviceId,
    deleted_at: Timestamp,
) -> Result<ConditionCheck, StoreError> {
    let check = table
        .condition_check(id.as_str(), "")
        .condition_expression("#deleted_at = :at")
        .set_expression_attribute_names(names([DELETED_AT]))
        .set_expression_attribute_values(values([("at", text(deleted_at.to_string()))]));
    checked_build(check.build())
}

impl DeviceStore for Devices {
    async fn create(&self, device: &Device, state: &DeviceState) -> Result<(), CreateDeviceError> {
        let put = self
            .table
            .put(to_item(device)?)
            .condition_expression(self.table.not_exists())
            .return_values_on_condition_check_failure(OnFailure::AllOld);
        let mut actions =
            vec![checked_build(put.build())?.action(), state::put(&self.states, state)?.action()];
        actions.extend(self.count(device, state, 1)?);
        match transaction::write(&self.table.client, actions).await {
            Ok(()) => Ok(()),
            Err(TransactionError::Store(error)) => Err(error.into()),
            Err(TransactionError::ConditionFailed(failed)) if failed.contains(0) => {
                let stored = failed.existing_item(0).unwrap_or_default();
                Err(match stored.contains_key(DELETED_AT) {
                    true => CreateDeviceError::BeingDeleted,
                    false => CreateDeviceError::AlreadyExists,
                })
            }
            Err(TransactionError::ConditionFailed(_)) => Err(CreateDeviceError::Conflict),
        }
    }

    async fn get(&self, id: &DeviceId) -> Result<Option<Device>, StoreError> {
        get(&self.table, id).await
    }

    async fn update(&self, before: &Device, after: &Device) -> Result<(), WriteError> {
        let changed = Device { revision: before.revision + 1, ..after.clone() };
        let put = replace(&self.table, before, to_item(&changed)?)?;
        let changes = [(before.status.as_str(), -1), (after.status.as_str(), 1)];
        let counts = counters::add(&self.table, "", before.device_id.shard(), &changes)?;
        let type_update = (before.device_type != after.device_type)
            .then(|| {
                let device_type = after.device_type.as_deref();
                state::set_device_type(&self.states, &before.device_id, device_type)
            })
            .transpose()?;
        if counts.is_some() || type_update.is_some() {
            let mut actions = vec![put.action()];
            actions.extend(counts.into_iter().chain(type_update).map(TransactAction::action));
            Ok(transaction::write(&self.table.client, actions).await?)
        } else {
            Ok(conditional::put(&self.table.client, put).await?)
        }
    }

    async fn list(
        &self,
        filter: &DeviceFilter,
        request: &PageRequest,
    ) -> Result<Page<Device>, StoreError> {
        // No device id has this prefix, which may also be too long for a DynamoDB key.
        let prefix = filter.id_prefix.as_deref().unwrap_or_default();
        if !prefix.is_empty() && DeviceId::parse(prefix).is_err() {
            return Ok(Page { items: Vec::new(), next: None });
        }
        let query = DeviceQuery { table: &self.table, filter };
        let (after, limit) = (request.after.as_deref(), request.limit);
        merged_query::read_page(&query, Shard::all(), after, limit, &mut ReadBudget::default())
            .await
    }

    async fn create_tombstone(
        &self,
        device: &Device,
        state: &DeviceState,
    ) -> Result<(), WriteError> {
        let deleted_at = state.cleanup.map_or_else(Timestamp::now, |cleanup| cleanup.since);
        let tombstone = encode(&Tombstone { device_id: &device.device_id, deleted_at })?;
        let mut actions = vec![
            replace(&self.table, device, tombstone)?.action(),
            state::put(&self.states, state)?.action(),
        ];
        actions.extend(self.count(device, state, -1)?);
        Ok(transaction::write(&self.table.client, actions).await?)
    }

    async fn has_tombstone(&self, id: &DeviceId) -> Result<bool, StoreError> {
        let item = self.table.get(id.as_str(), "").await?;
        Ok(item.is_some_and(|item| item.contains_key(DELETED_AT)))
    }

    async fn remove_tombstone(
        &self,
        id: &DeviceId,
        deleted_at: Timestamp,
    ) -> Result<(), StoreError> {
        let sent = self
            .table
            .client
            .delete_item()
            .table_name(&self.table.name)
            .set_key(Some(self.table.key(id.as_str(), "")))
            .condition_expression("#deleted_at = :at")
            .set_expression_attribute_names(names([DELETED_AT]))
            .set_expression_attribute_values(values([("at", text(deleted_at.to_string()))]))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) => match error.as_service_error() {
                // Already removed, or the device was registered again since.
                Some(DeleteItemError::ConditionalCheckFailedException(_)) => Ok(()),
                _ => Err(classify("dynamodb:DeleteItem")(error)),
            },
        }
    }

    async fn counts(&self) -> Result<FleetCounts, StoreError> {
        let by_status = counters::totals(&self.table, "");
        let by_connection = counters::totals(&self.states, "");
        let (by_status, by_connection) = futures::try_join!(by_status, by_connection)?;
        let positive = |count: &u64| *count > 0;
        let status =
            |s: DeviceStatus| Some((s, *by_status.get(s.as_str()).filter(|c| positive(c))?));
        let connection =
            |c: Connection| Some((c, *by_connection.get(c.as_str()).filter(|c| positive(c))?));
        Ok(FleetCounts {
            by_status: DeviceStatus::ALL.into_iter().filter_map(status).collect::<BTreeMap<_, _>>(),
            by_connection: Connection::ALL.into_iter().filter_map(connection).collect(),
        })
    }
}
