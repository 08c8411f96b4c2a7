//! Making something of a registered device once, whatever is asked twice: in one transaction with a look
//! at the registry, the client's key, and the count that it changes.

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

/// What is to be made.
pub(super) struct IdempotentCreate<'a> {
    /// Where.
    pub(super) table: &'a Table,
    /// The registry.
    pub(super) devices: &'a Table,
    /// Of which device.
    pub(super) device_id: &'a DeviceId,
    /// Its id.
    pub(super) id: Uuid,
    /// All of it.
    pub(super) item: Item,
    /// The client's name for the request.
    pub(super) key: Option<&'a IdempotencyKey>,
    /// Now, as far as the key's end is concerned.
    pub(super) at: Timestamp,
    /// What else changes by it.
    pub(super) count: Option<Update>,
}

// The places in the transaction.
const DEVICE_ACTION: usize = 0;
const KEY_ACTION: usize = 2;

impl IdempotentCreate<'_> {
    /// Makes it, or finds with `get` what was made before.
    pub(super) async fn execute<T, F>(
        self,
        get: impl Fn(Uuid) -> F,
    ) -> Result<CreateOutcome<T>, StoreError>
    where
        F: Future<Output = Result<Option<T>, StoreError>>,
    {
        let mut replaced_id = None;
        for _ in 0..retry::MAX_ATTEMPTS {
            let made = match self.write(replaced_id).await {
                Ok(()) => return Ok(CreateOutcome::Created),
                Err(TransactionError::Store(error)) => return Err(error),
                Err(TransactionError::ConditionFailed(refused))
                    if refused.contains(DEVICE_ACTION) =>
                {
                    return Ok(CreateOutcome::DeviceNotFound);
                }
                Err(TransactionError::ConditionFailed(refused)) => match refused
                    .existing_item(KEY_ACTION)
                {
                    Some(memo) if refused.contains(KEY_ACTION) => idempotency::resource_id(memo)?,
                    _ => self.id,
                },
            };
            if let Some(already) = get(made).await? {
                return Ok(CreateOutcome::AlreadyExists(already));
            }
            // It was swept meanwhile, and the key is free again.
            replaced_id = Some(made);
        }
        let reason = format!("{} of {} comes and goes", self.id, self.device_id);
        Err(StoreError::conflict("idempotent create", reason))
    }

    async fn write(&self, replaced_id: Option<Uuid>) -> Result<(), TransactionError> {
        let registered = self
            .devices
            .condition_check(self.device_id.as_str(), "")
            .condition_expression(devices::IS_REGISTERED);
        let row = self.table.put(self.item.clone()).condition_expression(self.table.not_exists());
        let mut actions =
            vec![checked_build(registered.build())?.action(), checked_build(row.build())?.action()];
        if let Some(key) = self.key {
            let (table, id, at) = (self.table, self.id, self.at);
            let memo = idempotency::put_key(table, self.device_id, key, id, at, replaced_id)?;
            actions.push(memo.action());
        }
        actions.extend(self.count.clone().map(TransactAction::action));
        transaction::write(&self.table.client, actions).await
    }
}
