//! Alerts, in the table `alerts`, with a partition for each device. The index `by-time` has the
//! alerts of the fleet and finds an alert by its id. Also the counts of unacknowledged alerts, in
//! `#stats#NN`, and the idempotency keys of alerts.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem, Update};
use meter_domain::alert::{Alert, AlertRevision, Severity};
use meter_domain::id::{DeviceId, Shard};
use meter_domain::time::Timestamp;
use meter_store::{
    AlertFilter, AlertStore, Counts, CreateOutcome, IdempotencyKey, Order, Page, PageRequest,
    Recount, RecountReport, StoreError,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::conditional::{self, is_applied};
use super::guarded_delete::{DeleteOutcome, GuardedDelete};
use super::idempotent_create::IdempotentCreate;
use super::item::{Item, decode, encode, number, text};
use super::merged_query::{self, MergedQuery, PartitionQuery, ReadBudget, RowBatch};
use super::recount::{self, CounterGroup};
use super::table::{Table, checked_build, names, values};
use super::transaction::{self, TransactAction, TransactionError};
use super::{counters, devices, idempotency, index};
use crate::Clients;
use crate::settings::Tables;

/// Index of all alerts by creation.
const BY_TIME: &str = "by-time";

/// The sort key and the attribute of the counts.
const UNACKNOWLEDGED: &str = "unacknowledged";

/// Alerts that one transaction of a cleanup deletes. It has at most 100 actions, including the
/// updates of the counts of all shards and the tombstone check.
const MAX_CLEANUP_ITEMS: i32 = 50;

/// Implements [`AlertStore`] with the table `alerts` and, for registrations, `devices`.
#[derive(Debug, Clone)]
pub struct Alerts {
    table: Table,
    devices: Table,
}

impl Alerts {
    /// Creates the adapter.
    pub fn new(clients: &Clients, tables: &Tables) -> Self {
        Self {
            table: Table::with_sort_key(clients, &tables.alerts, "device_id", "alert_id"),
            devices: devices::table(clients, tables),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct AlertItem {
    device_id: DeviceId,
    alert_id: Uuid,
    shard: String,
    alert_type: String,
    severity: Severity,
    message: String,
    acknowledged: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acknowledged_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acknowledged_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resolved_at: Option<Timestamp>,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule_id: Option<Uuid>,
}

fn to_item(alert: &Alert) -> Result<Item, StoreError> {
    encode(&AlertItem {
        device_id: alert.device_id.clone(),
        alert_id: alert.alert_id,
        shard: Alert::shard(alert.alert_id).to_string(),
        alert_type: alert.alert_type.clone(),
        severity: alert.severity,
        message: alert.message.clone(),
        acknowledged: alert.acknowledged,
        acknowledged_at: alert.acknowledged_at,
        acknowledged_by: alert.acknowledged_by.clone(),
        resolved_at: alert.resolved_at,
        created_at: alert.created_at,
        rule_id: alert.rule_id,
    })
}

fn from_item(item: Item) -> Result<Alert, StoreError> {
    let item: AlertItem = decode(item)?;
    Ok(Alert {
        alert_id: item.alert_id,
        device_id: item.device_id,
        alert_type: item.alert_type,
        severity: item.severity,
        message: item.message,
        acknowledged: item.acknowledged,
        acknowledged_at: item.acknowledged_at,
        acknowledged_by: item.acknowledged_by,
        resolved_at: item.resolved_at,
        created_at: item.created_at,
        rule_id: item.rule_id,
    })
}

/// Alerts that match a filter, newest first: of one device, or of all shards.
struct AlertQuery<'a> {
    table: &'a Table,
    filter: &'a AlertFilter,
}

/// A partition of the table (a device) or of the index (a shard).
#[derive(Debug, Clone, Copy)]
enum Partition<'a> {
    Device(&'a DeviceId),
    Shard(Shard),
}

impl<'a> MergedQuery for AlertQuery<'a> {
    type Partition = Partition<'a>;
    type Row = Alert;

    fn order(&self) -> Order {
        Order::Descending
    }

    fn position(&self, alert: &Alert) -> String {
        alert.alert_id.to_string()
    }

    fn matches(&self, alert: &Alert) -> bool {
        self.filter.matches(alert)
    }

    async fn read(
        &self,
        partition: Partition<'a>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<RowBatch<Alert>, StoreError> {
        let (index, partition_key, name) = match partition {
            Partition::Device(id) => (None, "device_id", id.to_string()),
            Partition::Shard(shard) => (Some(BY_TIME), "shard", shard.to_string()),
        };
        let partition = PartitionQuery { index, partition_key, name, sort_key: "alert_id" };
        merged_query::fetch_rows(partition.query_descending(self.table, after), limit, from_item)
            .await
    }
}

impl Alerts {
    async fn get(&self, device_id: &DeviceId, id: Uuid) -> Result<Option<Alert>, StoreError> {
        let item = self.table.get(device_id.as_str(), &id.to_string()).await?;
        item.map(from_item).transpose()
    }

    /// Finds the device of an alert.
    async fn find_device_id(&self, alert_id: Uuid) -> Result<Option<DeviceId>, StoreError> {
        let query = self
            .table
            .client
            .query()
            .table_name(&self.table.name)
            .index_name(BY_TIME)
            .key_condition_expression("#shard = :shard AND alert_id = :id")
            .set_expression_attribute_names(names(["shard"]))
            .set_expression_attribute_values(values([
                ("shard", text(Alert::shard(alert_id).to_string())),
                ("id", text(alert_id.to_string())),
            ]));
        let alert = index::find(query).await?.map(from_item).transpose()?;
        Ok(alert.map(|alert| alert.device_id))
    }

    fn count(&self, shard: Shard, change: i64) -> Result<Option<Update>, StoreError> {
        counters::add(&self.table, UNACKNOWLEDGED, shard, &[(UNACKNOWLEDGED, change)])
    }

    /// Counts the unacknowledged alerts of a shard.
    async fn count_unacknowledged(&self, shard: Shard) -> Result<Counts, StoreError> {
        let items = recount::query_index(&self.table, BY_TIME, shard, &["acknowledged"]).await?;
        let is_unacknowledged =
            |item: &&Item| item.get("acknowledged") == Some(&AttributeValue::Bool(false));
        let unacknowledged = items.iter().filter(is_unacknowledged).map(|_| Some(UNACKNOWLEDGED));
        Ok(recount::count_by_name(unacknowledged, &[UNACKNOWLEDGED]))
    }

    /// Returns the actions that delete alerts and subtract them from the counts, under the
    /// condition that none of them was acknowledged or deleted since. They use only the keys and
    /// `acknowledged`, so that corrupt items are deleted, too.
    fn delete_actions(&self, items: &[Item]) -> Result<Vec<TransactWriteItem>, StoreError> {
        let mut actions = Vec::with_capacity(items.len() + 1);
        let mut unacknowledged: BTreeMap<Shard, i64> = BTreeMap::new();
        for item in items {
            let (device, id) = self.table.key_text_of(item);
            let delete = self
                .table
                .delete(&device, &id)
                .set_expression_attribute_names(names(["acknowledged"]));
            let read = item.get("acknowledged");
            let delete = match read {
                Some(read) => delete
                    .condition_expression("#acknowledged = :read")
                    .set_expression_attribute_values(values([("read", read.clone())])),
                None => delete.condition_expression("attribute_not_exists(#acknowledged)"),
            };
            actions.push(checked_build(delete.build())?.action());
            let alert_id = Uuid::parse_str(&id).ok();
            if let Some(id) = alert_id.filter(|_| read == Some(&AttributeValue::Bool(false))) {
                *unacknowledged.entry(Alert::shard(id)).or_default() += 1;
            }
        }
        for (shard, count) in unacknowledged {
            actions.extend(self.count(shard, -count)?.map(TransactAction::action));
        }
        Ok(actions)
    }
}

impl AlertStore for Alerts {
    async fn open(
        &self,
        alert: &Alert,
        key: Option<&IdempotencyKey>,
    ) -> Result<CreateOutcome<Alert>, StoreError> {
        let create = IdempotentCreate {
            table: &self.table,
            devices: &self.devices,
            device_id: &alert.device_id,
            id: alert.alert_id,
            item: to_item(alert)?,
            key,
            at: alert.created_at,
            count: self.count(Alert::shard(alert.alert_id), i64::from(!alert.acknowledged))?,
        };
        create.execute(|id| self.get(&alert.device_id, id)).await
    }

    async fn list(
        &self,
        filter: &AlertFilter,
        request: &PageRequest,
    ) -> Result<Page<Alert>, StoreError> {
        let query = AlertQuery { table: &self.table, filter };
        let partitions: Vec<Partition<'_>> = match &filter.device_id {
            Some(id) => vec![Partition::Device(id)],
            None => Shard::all().map(Partition::Shard).collect(),
        };
        let (after, limit) = (request.after.as_deref(), request.limit);
        merged_query::read_page(&query, partitions, after, limit, &mut ReadBudget::default()).await
    }

    async fn acknowledge(
        &self,
        alert_id: Uuid,
        by: Option<&str>,
        at: Timestamp,
    ) -> Result<Option<Alert>, StoreError> {
        let Some(device_id) = self.find_device_id(alert_id).await? else {
            return Ok(None);
        };
        let mut set = String::from("SET #acknowledged = :yes, #acknowledged_at = :at");
        let mut update = self
            .table
            .update(device_id.as_str(), &alert_id.to_string())
            .condition_expression("#acknowledged = :no")
            .set_expression_attribute_names(names(["acknowledged", "acknowledged_at"]))
            .set_expression_attribute_values(values([
                ("yes", AttributeValue::Bool(true)),
                ("no", AttributeValue::Bool(false)),
                ("at", text(at.to_string())),
            ]));
        if let Some(by) = by {
            set += ", #acknowledged_by = :by";
            update = update
                .expression_attribute_names("#acknowledged_by", "acknowledged_by")
                .expression_attribute_values(":by", text(by));
        }
        let mut actions = vec![checked_build(update.update_expression(set).build())?.action()];
        actions.extend(self.count(Alert::shard(alert_id), -1)?.map(TransactAction::action));
        match transaction::write(&self.table.client, actions).await {
            // The condition fails if the alert is already acknowledged or deleted.
            Ok(()) | Err(TransactionError::ConditionFailed(_)) => {
                self.get(&device_id, alert_id).await
            }
            Err(TransactionError::Store(error)) => Err(error),
        }
    }

    async fn revise(
        &self,
        device_id: &DeviceId,
        alert_id: Uuid,
        revision: &AlertRevision,
    ) -> Result<(), StoreError> {
        let exists = self.table.exists();
        let (mut set, mut remove) = (String::from("SET #revision = :number"), "");
        let mut update = self
            .table
            .update(device_id.as_str(), &alert_id.to_string())
            .condition_expression(format!(
                "{exists} AND (attribute_not_exists(#revision) OR #revision <= :number)"
            ))
            .set_expression_attribute_names(names(["revision", "resolved_at"]))
            .set_expression_attribute_values(values([("number", number(revision.state_version))]));
        match revision.resolved_at {
            Some(at) => {
                set += ", #resolved_at = :at";
                update = update.expression_attribute_values(":at", text(at.to_string()));
            }
            None => remove = " REMOVE #resolved_at",
        }
        if let Some(message) = &revision.message {
            set += ", #message = :message";
            update = update
                .expression_attribute_names("#message", "message")
                .expression_attribute_values(":message", text(message));
        }
        let update = checked_build(update.update_expression(set + remove).build())?;
        is_applied(conditional::update(&self.table.client, update).await).map(drop)
    }

    async fn delete_for_device(
        &self,
        device_id: &DeviceId,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let delete = GuardedDelete { devices: &self.devices, device_id, at };
        let (items, _) = self.table.query_first(device_id.as_str(), MAX_CLEANUP_ITEMS).await?;
        if items.is_empty() {
            return idempotency::delete_keys(&self.table, delete).await;
        }
        // Another call follows in any case: for alerts that changed since, or for the idempotency
        // keys, which are deleted after all alerts.
        let outcome = delete.delete_items(&self.table, self.delete_actions(&items)?).await?;
        Ok(outcome != DeleteOutcome::TombstoneMissing)
    }

    async fn count_unacknowledged(&self) -> Result<u64, StoreError> {
        let sums = counters::totals(&self.table, UNACKNOWLEDGED).await?;
        Ok(sums.get(UNACKNOWLEDGED).copied().unwrap_or(0))
    }
}

impl Recount for Alerts {
    async fn recount(&self) -> Result<Vec<RecountReport>, StoreError> {
        let what = "unacknowledged alerts";
        let (table, sort_key) = (&self.table, UNACKNOWLEDGED);
        let kind = CounterGroup { what, table, sort_key, names: &[UNACKNOWLEDGED] };
        Ok(vec![recount::recount(kind, |shard| self.count_unacknowledged(shard)).await?])
    }
}
