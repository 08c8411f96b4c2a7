//! Idempotent creation of a resource of a device, in one transaction with a check of the
//! registration, the idempotency key and a count.

use aws_sdk_dynamodb::types::Update;
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_store::retry;
use meter_store::{CreateOutcome, IdempotencyKey, StoreError};
use uuid::Uuid;

use super::item::Item;
use super::table::{Table, checked_build};
use super::transaction::{self, TransactAction, TransactionError};
use super::{devices, idempotency};

/// The creation of one resource.
pub(super) struct IdempotentCreate<'a> {
    /// The table of the resource.
    pub(super) table: &'a Table,
    /// The table of registered devices.
    pub(super) devices: &'a Table,
    /// The device of the resource.
    pub(super) device_id: &'a DeviceId,
    /// The id of the resource.
    pub(super) id: Uuid,
    /// The item of the resource, with its key.
    pub(super) item: Item,
    /// The idempotency key of the client.
    pub(super) key: Option<&'a IdempotencyKey>,
    /// The time of the request, from which the lifetime of `key` counts.
    pub(super) at: Timestamp,
    /// The update of a count of resources.
    pub(super) count: Option<Update>,
}

// Positions in the transaction.
const DEVICE_ACTION: usize = 0;
const KEY_ACTION: usize = 2;

impl IdempotentCreate<'_> {
    /// Creates the resource, or reads the one that was created earlier with `get`.
    pub(super) async fn execute<T, F>(
        self,
        get: impl Fn(Uuid) -> F,
    ) -> Result<CreateOutcome<T>, StoreError>
    where
        F: Future<Output = Result<Option<T>, StoreError>>,
    {
        let mut replaced_id = None;
        for _ in 0..retry::MAX_ATTEMPTS {
            let created = match self.write(replaced_id).await {
                Ok(()) => return Ok(CreateOutcome::Created),
                Err(TransactionError::Store(error)) => return Err(error),
                Err(TransactionError::ConditionFailed(failed))
                    if failed.contains(DEVICE_ACTION) =>
                {
                    return Ok(CreateOutcome::DeviceNotFound);
                }
                Err(TransactionError::ConditionFailed(failed)) => {
                    match failed.existing_item(KEY_ACTION) {
                        Some(key) if failed.contains(KEY_ACTION) => idempotency::resource_id(key)?,
                        _ => self.id,
                    }
                }
            };
            if let Some(existing) = get(created).await? {
                return Ok(CreateOutcome::AlreadyExists(existing));
            }
            // The resource was deleted since, so the next attempt may replace its key.
            replaced_id = Some(created);
        }
        let reason =
            format!("resource {} of {} was deleted at every attempt", self.id, self.device_id);
        Err(StoreError::conflict("idempotent create", reason))
    }

    async fn write(&self, replaced_id: Option<Uuid>) -> Result<(), TransactionError> {
        let registered = self
            .devices
            .condition_check(self.device_id.as_str(), "")
            .condition_expression(devices::IS_REGISTERED);
        let put = self.table.put(self.item.clone()).condition_expression(self.table.not_exists());
        let mut actions =
            vec![checked_build(registered.build())?.action(), checked_build(put.build())?.action()];
        if let Some(key) = self.key {
            let (table, id, at) = (self.table, self.id, self.at);
            let put_key = idempotency::put_key(table, self.device_id, key, id, at, replaced_id)?;
            actions.push(put_key.action());
        }
        actions.extend(self.count.clone().map(TransactAction::action));
        transaction::write(&self.table.client, actions).await
    }
}
