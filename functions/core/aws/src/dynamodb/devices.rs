//! The registry, in the table `devices`. A deleted device leaves a tombstone there (a row with
//! `deleted_at` and without the attributes of the indexes) until all that hangs on it is swept. Also
//! the counts of devices by status, in `#stats#NN`.

use std::collections::BTreeMap;
use std::ops::Not;

use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::types::{
    ConditionCheck, Put, ReturnValuesOnConditionCheckFailure as OnFailure, Update,
};
use meter_domain::device::{Device, DeviceStatus};
use meter_domain::id::{CertificateId, DeviceId, Shard};
use meter_domain::state::{Connection, DeviceState};
use meter_domain::time::Timestamp;
use meter_store::{
    Counts, CreateDeviceError, DeviceFilter, DeviceStore, FleetCounts, Order, Page, PageRequest,
    Recount, RecountReport, StoreError, WriteError,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::conditional::{self, ConditionalWriteError};
use super::item::{Item, decode, encode, from_json, number, text, to_json};
use super::merged_query::{self, MergedQuery, PartitionQuery, ReadBudget, RowBatch};
use super::recount::{self, CounterGroup};
use super::table::{Table, checked_build, names, values};
use super::transaction::{self, TransactAction, TransactionError};
use super::{batch, counters, state};
use crate::Clients;
use crate::error::classify;
use crate::settings::Tables;

/// The attribute that makes a row a tombstone.
const DELETED_AT: &str = "deleted_at";

/// The tables `devices` and, for the transactions over both, `device-state`: a [`DeviceStore`].
#[derive(Debug, Clone)]
pub struct Devices {
    table: Table,
    states: Table,
}

impl Devices {
    /// The tables of these names.
    pub fn new(clients: &Clients, tables: &Tables) -> Self {
        Self { table: table(clients, tables), states: state::table(clients, tables) }
    }
}

/// The table that [`Devices`] is an adapter of.
pub(super) fn table(clients: &Clients, tables: &Tables) -> Table {
    Table::with_partition_key(clients, &tables.devices, "device_id")
}

/// The expression that is true of a registered device, and false of a tombstone.
pub(super) const IS_REGISTERED: &str = "attribute_exists(id)";

// Not Debug: it holds a secret.
#[derive(Serialize, Deserialize)]
struct DeviceItem {
    device_id: DeviceId,
    shard: String,
    id: Uuid,
    device_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    status: DeviceStatus,
    metadata: String,
    config: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command_key: Option<String>,
    #[serde(default, skip_serializing_if = "Not::not")]
    claimable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claimed_by: Option<CertificateId>,
    created_at: Timestamp,
    updated_at: Timestamp,
    revision: u64,
}

#[derive(Debug, Serialize)]
struct Tombstone<'a> {
    device_id: &'a DeviceId,
    deleted_at: Timestamp,
}

fn to_item(device: &Device) -> Result<Item, StoreError> {
    encode(&DeviceItem {
        device_id: device.device_id.clone(),
        shard: device.device_id.shard().to_string(),
        id: device.id,
        device_name: device.device_name.clone(),
        device_type: device.device_type.clone(),
        location: device.location.clone(),
        status: device.status,
        metadata: to_json(&device.metadata)?,
        config: to_json(&device.config)?,
        command_key: device.command_key.clone(),
        claimable: device.claimable,
        claimed_by: device.claimed_by.clone(),
        created_at: device.created_at,
        updated_at: device.updated_at,
        revision: device.revision,
    })
}

fn from_item(item: Item) -> Result<Device, StoreError> {
    let row: DeviceItem = decode(item)?;
    let object = |json: &str| from_json::<Map<String, Value>>(row.device_id.as_str(), json);
    Ok(Device {
        metadata: object(&row.metadata)?,
        config: object(&row.config)?,
        id: row.id,
        device_id: row.device_id,
        device_name: row.device_name,
        device_type: row.device_type,
        location: row.location,
        status: row.status,
        command_key: row.command_key,
        claimable: row.claimable,
        claimed_by: row.claimed_by,
        created_at: row.created_at,
        updated_at: row.updated_at,
        revision: row.revision,
    })
}

/// Puts an item in place of a row, if that is still the registration and the revision that was read.
fn replace(table: &Table, read: &Device, item: Item) -> Result<Put, StoreError> {
    let put = table
        .put(item)
        .condition_expression("#id = :id AND #revision = :revision")
        .set_expression_attribute_names(names(["id", "revision"]))
        .set_expression_attribute_values(values([
            ("id", text(read.id.to_string())),
            ("revision", number(read.revision)),
        ]));
    checked_build(put.build())
}

/// Changes the configuration in force, if that is still the registration and the revision that was read.
/// An update and no put, so that who may only do this can do nothing else to a row.
pub(super) fn configure(
    table: &Table,
    read: &Device,
    config: &Map<String, Value>,
    at: Timestamp,
) -> Result<Update, StoreError> {
    let update = table
        .update(read.device_id.as_str(), "")
        .update_expression("SET #config = :config, #updated_at = :at, #revision = :next")
        .condition_expression("#id = :id AND #revision = :revision")
        .set_expression_attribute_names(names(["id", "revision", "config", "updated_at"]))
        .set_expression_attribute_values(values([
            ("id", text(read.id.to_string())),
            ("revision", number(read.revision)),
            ("next", number(read.revision + 1)),
            ("config", text(to_json(config)?)),
            ("at", text(at.to_string())),
        ]));
    checked_build(update.build())
}

/// A registered device.
pub(super) async fn get(table: &Table, id: &DeviceId) -> Result<Option<Device>, StoreError> {
    let item = table.get(id.as_str(), "").await?;
    let row = item.filter(|item| !item.contains_key(DELETED_AT));
    row.map(from_item).transpose()
}

/// True while the tombstone of the delete that was asked for at `deleted_at` is there.
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

/// Any condition that is false is a conflict.
fn conflict(canceled: TransactionError) -> WriteError {
    match canceled {
        TransactionError::ConditionFailed(_) => WriteError::Conflict,
        TransactionError::Store(error) => error.into(),
    }
}

/// The fleet's devices that a filter lets through, newest first or by id.
struct DeviceQuery<'a> {
    table: &'a Table,
    filter: &'a DeviceFilter,
}

/// The index over the fleet's devices.
const BY_CREATED: &str = "by-created";

/// Below and above every character of a device id.
const LOWEST: char = ' ';
const HIGHEST: char = '~';

impl MergedQuery for DeviceQuery<'_> {
    type Partition = Shard;
    type Row = Device;

    fn order(&self) -> Order {
        match self.filter.id_prefix {
            Some(_) => Order::Ascending,
            None => Order::Descending,
        }
    }

    fn position(&self, device: &Device) -> String {
        match self.filter.id_prefix {
            Some(_) => device.device_id.to_string(),
            None => device.id.to_string(),
        }
    }

    fn matches(&self, device: &Device) -> bool {
        let filter = self.filter;
        (filter.status).is_none_or(|status| device.status == status)
            && (filter.device_type.is_none() || device.device_type == filter.device_type)
    }

    async fn read(
        &self,
        shard: Shard,
        after: Option<&str>,
        limit: usize,
    ) -> Result<RowBatch<Device>, StoreError> {
        let shard = shard.to_string();
        let query = match &self.filter.id_prefix {
            None => {
                let index = Some(BY_CREATED);
                let partition =
                    PartitionQuery { index, partition_key: "shard", name: shard, sort_key: "id" };
                partition.query_descending(self.table, after)
            }
            Some(prefix) => {
                // Behind a position is from the least text that goes on after it.
                let low = after.map_or_else(|| prefix.clone(), |after| format!("{after}{LOWEST}"));
                let low = if low.is_empty() { LOWEST.to_string() } else { low };
                self.table
                    .client
                    .query()
                    .table_name(&self.table.name)
                    .index_name("by-device-id")
                    .key_condition_expression(
                        "#shard = :shard AND device_id BETWEEN :low AND :high",
                    )
                    .set_expression_attribute_names(names(["shard"]))
                    .set_expression_attribute_values(values([
                        ("shard", text(shard)),
                        ("low", text(low)),
                        ("high", text(format!("{prefix}{HIGHEST}"))),
                    ]))
            }
        };
        merged_query::fetch_rows(query, limit, from_item).await
    }
}

impl DeviceStore for Devices {
    async fn create(&self, device: &Device, state: &DeviceState) -> Result<(), CreateDeviceError> {
        let row = self
            .table
            .put(to_item(device)?)
            .condition_expression(self.table.not_exists())
            .return_values_on_condition_check_failure(OnFailure::AllOld);
        let shard = device.device_id.shard();
        let by_status = [(device.status.as_str(), 1)];
        let by_connection = [(state.presence.connection.as_str(), 1)];
        let mut actions =
            vec![checked_build(row.build())?.action(), state::put(&self.states, state)?.action()];
        actions
            .extend(counters::add(&self.table, "", shard, &by_status)?.map(TransactAction::action));
        actions.extend(
            counters::add(&self.states, "", shard, &by_connection)?.map(TransactAction::action),
        );
        match transaction::write(&self.table.client, actions).await {
            Ok(()) => Ok(()),
            Err(TransactionError::Store(error)) => Err(error.into()),
            Err(TransactionError::ConditionFailed(refused)) if refused.contains(0) => {
                let stored = refused.existing_item(0).unwrap_or_default();
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
            let written = transaction::write(&self.table.client, actions).await;
            return written.map_err(conflict);
        }
        match conditional::put(&self.table.client, put).await {
            Ok(()) => Ok(()),
            Err(ConditionalWriteError::ConditionFailed(_)) => Err(WriteError::Conflict),
            Err(ConditionalWriteError::Store(error)) => Err(error.into()),
        }
    }

    async fn list(
        &self,
        filter: &DeviceFilter,
        request: &PageRequest,
    ) -> Result<Page<Device>, StoreError> {
        // No device's id begins so; and as a key it might be longer than DynamoDB takes.
        let prefix = filter.id_prefix.as_deref().unwrap_or_default();
        if !prefix.is_empty() && DeviceId::parse(prefix).is_err() {
            return Ok(Page { items: Vec::new(), next: None });
        }
        let fleet = DeviceQuery { table: &self.table, filter };
        let (after, limit) = (request.after.as_deref(), request.limit);
        merged_query::read_page(&fleet, Shard::all(), after, limit, &mut ReadBudget::default())
            .await
    }

    async fn create_tombstone(
        &self,
        device: &Device,
        state: &DeviceState,
    ) -> Result<(), WriteError> {
        let deleted_at = state.cleanup.map_or_else(Timestamp::now, |sweep| sweep.since);
        let tombstone = encode(&Tombstone { device_id: &device.device_id, deleted_at })?;
        let shard = device.device_id.shard();
        let by_status = [(device.status.as_str(), -1)];
        let by_connection = [(state.presence.connection.as_str(), -1)];
        let mut actions = vec![
            replace(&self.table, device, tombstone)?.action(),
            state::put(&self.states, state)?.action(),
        ];
        actions
            .extend(counters::add(&self.table, "", shard, &by_status)?.map(TransactAction::action));
        actions.extend(
            counters::add(&self.states, "", shard, &by_connection)?.map(TransactAction::action),
        );
        let written = transaction::write(&self.table.client, actions).await;
        written.map_err(conflict)
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
                // It is gone already, or registered again, and perhaps deleted again.
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

impl Devices {
    /// How many devices of a shard are in each status.
    async fn count_statuses(&self, shard: Shard) -> Result<Counts, StoreError> {
        let items = recount::query_index(&self.table, BY_CREATED, shard, &["status"]).await?;
        let statuses = items.iter().map(|item| recount::attribute(item, "status"));
        Ok(recount::count_by_name(statuses, &STATUSES))
    }

    /// How many devices of a shard are in each connection.
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
