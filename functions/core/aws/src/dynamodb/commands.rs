//! Commands, in the table `commands`, with a partition for each device. The index `by-id` finds the
//! device of a command, `by-due` the pending commands whose publication or timeout is due. Also the
//! idempotency keys of commands.

mod acknowledgement;
mod command_item;

use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use meter_domain::command::{AckResult, Command, CommandKind, CommandStatus, Ota};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_store::{
    AcknowledgeOutcome, CommandStore, CreateOutcome, IdempotencyKey, Order, Page, PageRequest,
    StoreError, retry,
};
use uuid::Uuid;

use self::command_item::{from_item, to_item};
use super::conditional::{self, is_applied};
use super::guarded_delete::{DeleteOutcome, GuardedDelete};
use super::idempotent_create::IdempotentCreate;
use super::item::{Item, attribute, text, to_json};
use super::merged_query::{self, MergedQuery, PartitionQuery, ReadBudget, RowBatch};
use super::table::{Table, checked_build, names, values};
use super::{devices, due, idempotency, index};
use crate::Clients;
use crate::settings::Tables;

/// Index of all commands by id.
const BY_ID: &str = "by-id";

/// Implements [`CommandStore`] with the table `commands` and, for registrations and configurations,
/// `devices`.
#[derive(Debug, Clone)]
pub struct Commands {
    table: Table,
    devices: Table,
}

impl Commands {
    /// Creates the adapter.
    pub fn new(clients: &Clients, tables: &Tables) -> Self {
        Self {
            table: Table::with_sort_key(clients, &tables.commands, "device_id", "cmd_id"),
            devices: devices::table(clients, tables),
        }
    }
}

/// The commands of a device with a status, newest first.
struct CommandQuery<'a> {
    table: &'a Table,
    status: Option<CommandStatus>,
}

impl<'a> MergedQuery for CommandQuery<'a> {
    type Partition = &'a DeviceId;
    type Row = Command;

    fn order(&self) -> Order {
        Order::Descending
    }

    fn position(&self, command: &Command) -> String {
        command.cmd_id.to_string()
    }

    fn matches(&self, command: &Command) -> bool {
        self.status.is_none_or(|status| command.status == status)
    }

    async fn read(
        &self,
        device_id: &'a DeviceId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<RowBatch<Command>, StoreError> {
        let name = device_id.to_string();
        let partition =
            PartitionQuery { index: None, partition_key: "device_id", name, sort_key: "cmd_id" };
        merged_query::fetch_rows(partition.query_descending(self.table, after), limit, from_item)
            .await
    }
}

impl Commands {
    /// Parses the device id and the command id of an item of an index.
    fn ids_of(&self, item: &Item) -> Result<(DeviceId, Uuid), StoreError> {
        let (device_id, cmd_id) = self.table.key_text_of(item);
        let corrupt = |reason: String| StoreError::Corrupt {
            what: format!("command {cmd_id} of {device_id}"),
            reason,
        };
        let id = DeviceId::parse(&device_id).map_err(|error| corrupt(error.to_string()))?;
        let cmd_id = Uuid::parse_str(&cmd_id).map_err(|error| corrupt(error.to_string()))?;
        Ok((id, cmd_id))
    }

    /// Starts an update under the condition that the command is pending.
    fn update_pending(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
    ) -> Result<UpdateBuilder, StoreError> {
        let pending = attribute(&CommandStatus::Pending)?;
        let update = self
            .table
            .update(device_id.as_str(), &cmd_id.to_string())
            .condition_expression("#status = :pending")
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#due_shard", due::SHARD_ATTRIBUTE)
            .expression_attribute_names("#due_at", due::DUE_AT_ATTRIBUTE)
            .expression_attribute_values(":pending", pending);
        Ok(update)
    }

    /// Executes an update; returns `false` if its condition failed.
    async fn apply_update(&self, update: UpdateBuilder) -> Result<bool, StoreError> {
        is_applied(conditional::update(&self.table.client, checked_build(update.build())?).await)
    }
}

impl CommandStore for Commands {
    async fn create(
        &self,
        command: &Command,
        key: Option<&IdempotencyKey>,
    ) -> Result<CreateOutcome<Command>, StoreError> {
        let create = IdempotentCreate {
            table: &self.table,
            devices: &self.devices,
            device_id: &command.device_id,
            id: command.cmd_id,
            item: to_item(command)?,
            key,
            at: command.created_at,
            count: None,
        };
        create.execute(|id| self.get(&command.device_id, id)).await
    }

    async fn get(&self, device_id: &DeviceId, cmd_id: Uuid) -> Result<Option<Command>, StoreError> {
        let item = self.table.get(device_id.as_str(), &cmd_id.to_string()).await?;
        item.map(from_item).transpose()
    }

    async fn list_due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(DeviceId, Uuid)>, StoreError> {
        let items = due::find(&self.table, now, limit).await?;
        // One corrupt item must not fail the others.
        let ids = |item: &Item| {
            let log = |error: &StoreError| tracing::error!(%error, "due item with invalid ids");
            self.ids_of(item).inspect_err(log).ok()
        };
        Ok(items.iter().filter_map(ids).collect())
    }

    async fn claim(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let update = self
            .update_pending(device_id, cmd_id)?
            .condition_expression("#status = :pending AND attribute_not_exists(#published_at)")
            .update_expression(
                "SET #published_at = :at, #due_shard = :shard, #due_at = #expires_at",
            )
            .expression_attribute_names("#published_at", "published_at")
            .expression_attribute_names("#expires_at", "expires_at")
            .expression_attribute_values(":at", text(at.to_string()))
            .expression_attribute_values(":shard", text(due::shard(device_id)));
        self.apply_update(update).await
    }

    async fn postpone(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let update = self
            .update_pending(device_id, cmd_id)?
            .update_expression("SET #due_shard = :shard, #due_at = :until REMOVE #published_at")
            .expression_attribute_names("#published_at", "published_at")
            .expression_attribute_values(":shard", text(due::shard(device_id)))
            .expression_attribute_values(":until", text(until.key()));
        self.apply_update(update).await.map(drop)
    }

    async fn time_out(&self, device_id: &DeviceId, cmd_id: Uuid) -> Result<(), StoreError> {
        let update = self
            .update_pending(device_id, cmd_id)?
            .update_expression("SET #status = :timeout REMOVE #due_shard, #due_at")
            .expression_attribute_values(":timeout", attribute(&CommandStatus::Timeout)?);
        self.apply_update(update).await.map(drop)
    }

    async fn mark_published(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        // `expires_at` has the format of `due_at`.
        let update = self
            .update_pending(device_id, cmd_id)?
            .update_expression(
                "SET #published_at = if_not_exists(#published_at, :at), \
                 #due_shard = :shard, #due_at = #expires_at",
            )
            .expression_attribute_names("#published_at", "published_at")
            .expression_attribute_names("#expires_at", "expires_at")
            .expression_attribute_values(":at", text(at.to_string()))
            .expression_attribute_values(":shard", text(due::shard(device_id)));
        if self.apply_update(update).await? {
            return Ok(());
        }
        // The command was acknowledged before, or does not exist.
        let exists = self.table.exists();
        let update = self
            .table
            .update(device_id.as_str(), &cmd_id.to_string())
            .update_expression("SET #published_at = :at")
            .condition_expression(format!("{exists} AND attribute_not_exists(#published_at)"))
            .set_expression_attribute_names(names(["published_at"]))
            .set_expression_attribute_values(values([("at", text(at.to_string()))]));
        self.apply_update(update).await.map(drop)
    }

    async fn find_device(&self, cmd_id: Uuid) -> Result<Option<DeviceId>, StoreError> {
        let query = self
            .table
            .client
            .query()
            .table_name(&self.table.name)
            .index_name(BY_ID)
            .key_condition_expression("cmd_id = :id")
            .set_expression_attribute_values(values([("id", text(cmd_id.to_string()))]));
        let Some(item) = index::find(query).await? else {
            return Ok(None);
        };
        let (device_id, _) = self.ids_of(&item)?;
        Ok(Some(device_id))
    }

    async fn list(
        &self,
        device_id: &DeviceId,
        status: Option<CommandStatus>,
        request: &PageRequest,
    ) -> Result<Page<Command>, StoreError> {
        let query = CommandQuery { table: &self.table, status };
        let (after, limit) = (request.after.as_deref(), request.limit);
        merged_query::read_page(&query, [device_id], after, limit, &mut ReadBudget::default()).await
    }

    async fn record_acknowledgement(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        result: AckResult,
        detail: Option<&str>,
        at: Timestamp,
    ) -> Result<AcknowledgeOutcome, StoreError> {
        for attempt in 0..retry::MAX_ATTEMPTS {
            let Some(command) = self.get(device_id, cmd_id).await? else {
                return Ok(AcknowledgeOutcome::CommandNotFound);
            };
            if !command.status.is_open() {
                return Ok(AcknowledgeOutcome::AlreadyRecorded(command));
            }
            let acknowledged = Command {
                status: result.into(),
                ack_detail: detail.map(str::to_owned),
                acked_at: Some(at),
                ..command.clone()
            };
            if self.store_acknowledgement(&command, &acknowledged, at).await? {
                return Ok(AcknowledgeOutcome::Recorded(acknowledged));
            }
            retry::wait(attempt).await;
        }
        Err(too_many_conflicts())
    }

    async fn advance_ota(
        &self,
        device_id: &DeviceId,
        cmd_id: Uuid,
        ota: &Ota,
    ) -> Result<Option<String>, StoreError> {
        let key = cmd_id.to_string();
        let next = text(to_json(ota)?);
        for attempt in 0..retry::MAX_ATTEMPTS {
            let Some(item) = self.table.get(device_id.as_str(), &key).await? else {
                return Ok(None);
            };
            let read = item.get("ota").cloned();
            let command = from_item(item)?;
            let is_progress =
                (command.ota.as_ref()).is_none_or(|before| before.is_advanced_by(ota));
            let target = command.fw_version().map(str::to_owned);
            if command.cmd != CommandKind::StartOta || !is_progress {
                return Ok(target);
            }
            let update = self
                .table
                .update(device_id.as_str(), &key)
                .update_expression("SET #ota = :next")
                .set_expression_attribute_names(names(["ota"]))
                .expression_attribute_values(":next", next.clone());
            let update = match read {
                Some(read) => update
                    .condition_expression("#ota = :read")
                    .expression_attribute_values(":read", read),
                None => {
                    let exists = self.table.exists();
                    update.condition_expression(format!("{exists} AND attribute_not_exists(#ota)"))
                }
            };
            if self.apply_update(update).await? {
                return Ok(target);
            }
            retry::wait(attempt).await;
        }
        Err(too_many_conflicts())
    }

    async fn delete_for_device(
        &self,
        device_id: &DeviceId,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let delete = GuardedDelete { devices: &self.devices, device_id, at };
        match delete.delete_first(&self.table, device_id.as_str()).await? {
            (0, _) => idempotency::delete_keys(&self.table, delete).await,
            // The keys are deleted in a later call, after all commands.
            (_, outcome) => Ok(outcome != DeleteOutcome::TombstoneMissing),
        }
    }
}

fn too_many_conflicts() -> StoreError {
    let reason = format!("{} conflicts in a row", retry::MAX_ATTEMPTS);
    StoreError::conflict("update of a command", reason)
}
