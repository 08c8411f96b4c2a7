//! Commands, in the table `commands`, a partition a device; the index `by-id` says whose one is, and
//! `by-due` which of those that are pending somebody must look at. Also clients' keys. What people and
//! devices made up (parameters, progress) is JSON text.

mod acknowledgement;
mod command_item;

use aws_sdk_dynamodb::types::builders::UpdateBuilder;
use meter_domain::command::{AckResult, Command, CommandKind, CommandStatus, Ota};
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_store::retry;
use meter_store::{
    AcknowledgeOutcome, CommandStore, CreateOutcome, IdempotencyKey, Order, Page, PageRequest,
    StoreError,
};
use uuid::Uuid;

use self::command_item::{from_item, to_item};
use super::conditional::{self, ConditionalWriteError};
use super::guarded_delete::{DeleteOutcome, GuardedDelete};
use super::idempotent_create::IdempotentCreate;
use super::item::{Item, attribute, text, to_json};
use super::merged_query::{self, MergedQuery, PartitionQuery, ReadBudget, RowBatch};
use super::table::{Table, checked_build, names, values};
use super::{devices, due, idempotency, index};
use crate::Clients;
use crate::settings::Tables;

/// The tables `commands` and, for registrations and configurations, `devices`: a [`CommandStore`].
#[derive(Debug, Clone)]
pub struct Commands {
    table: Table,
    devices: Table,
}

impl Commands {
    /// The tables of these names.
    pub fn new(clients: &Clients, tables: &Tables) -> Self {
        Self {
            table: Table::with_sort_key(clients, &tables.commands, "device_id", "cmd_id"),
            devices: devices::table(clients, tables),
        }
    }
}

/// A device's commands with a status, newest first.
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
    /// Whose command this is, and its id, of an index's item.
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

    /// An update that is refused unless the command is pending.
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

    /// Whether it was done; else its condition is false.
    async fn apply_update(&self, update: UpdateBuilder) -> Result<bool, StoreError> {
        match conditional::update(&self.table.client, checked_build(update.build())?).await {
            Ok(_) => Ok(true),
            Err(ConditionalWriteError::ConditionFailed(_)) => Ok(false),
            Err(ConditionalWriteError::Store(error)) => Err(error),
        }
    }
}

impl CommandStore for Commands {
    async fn create(
        &self,
        command: &Command,
        key: Option<&IdempotencyKey>,
    ) -> Result<CreateOutcome<Command>, StoreError> {
        let creation = IdempotentCreate {
            table: &self.table,
            devices: &self.devices,
            device_id: &command.device_id,
            id: command.cmd_id,
            item: to_item(command)?,
            key,
            at: command.created_at,
            count: None,
        };
        creation.execute(|id| self.get(&command.device_id, id)).await
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
        // One that cannot be read must not stop its neighbours.
        let read = |item: &Item| {
            let identity = self.ids_of(item);
            identity.inspect_err(|error| tracing::error!(%error, "what is due is no command")).ok()
        };
        Ok(items.iter().filter_map(read).collect())
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
        // `expires_at` is stored in the form of `due_at`.
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
        // The answer was faster, or it is not there at all.
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
            .index_name("by-id")
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
        let newest = CommandQuery { table: &self.table, status };
        let (after, limit) = (request.after.as_deref(), request.limit);
        merged_query::read_page(&newest, [device_id], after, limit, &mut ReadBudget::default())
            .await
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
            let answered = Command {
                status: result.into(),
                ack_detail: detail.map(str::to_owned),
                acked_at: Some(at),
                ..command.clone()
            };
            if self.store_acknowledgement(&command, &answered, at).await? {
                return Ok(AcknowledgeOutcome::Recorded(answered));
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
            let is_further = (command.ota.as_ref()).is_none_or(|before| before.is_advanced_by(ota));
            let target = command.fw_version().map(str::to_owned);
            if command.cmd != CommandKind::StartOta || !is_further {
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
            match conditional::update(&self.table.client, checked_build(update.build())?).await {
                Ok(_) => return Ok(target),
                Err(ConditionalWriteError::ConditionFailed(_)) => retry::wait(attempt).await,
                Err(ConditionalWriteError::Store(error)) => return Err(error),
            }
        }
        Err(too_many_conflicts())
    }

    async fn delete_for_device(
        &self,
        device_id: &DeviceId,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let deleted = GuardedDelete { devices: &self.devices, device_id, at };
        match deleted.delete_first(&self.table, device_id.as_str()).await? {
            (0, _) => idempotency::delete_keys(&self.table, deleted).await,
            // The keys are swept when there are no commands any more.
            (_, removal) => Ok(removal != DeleteOutcome::TombstoneMissing),
        }
    }
}

fn too_many_conflicts() -> StoreError {
    let reason = format!("{} conflicts in a row", retry::MAX_ATTEMPTS);
    StoreError::conflict("update of a command", reason)
}
