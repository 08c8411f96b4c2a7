//! Making something of a registered device once, whatever is asked twice: in one transaction with a look
//! at the registry, the client's key, and the count that it changes.

use aws_sdk_dynamodb::types::Update;
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_store::retry;
use meter_store::{IdempotencyKey, Made, StoreError};
use uuid::Uuid;

use super::item::Item;
use super::table::{Table, built};
use super::transaction::{self, Action, Canceled};
use super::{devices, idempotency};
use crate::unavailable;

/// What is to be made.
pub(super) struct Making<'a> {
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
const DEVICE: usize = 0;
const KEY: usize = 2;

impl Making<'_> {
    /// Makes it, or finds with `get` what was made before.
    pub(super) async fn make<T, F>(self, get: impl Fn(Uuid) -> F) -> Result<Made<T>, StoreError>
    where
        F: Future<Output = Result<Option<T>, StoreError>>,
    {
        let mut gone = None;
        for _ in 0..retry::ATTEMPTS {
            let made = match self.write(gone).await {
                Ok(()) => return Ok(Made::New),
                Err(Canceled::Failed(error)) => return Err(error),
                Err(Canceled::Refused(refused)) if refused.at(DEVICE) => return Ok(Made::NoDevice),
                Err(Canceled::Refused(refused)) => match refused.stored(KEY) {
                    Some(memo) if refused.at(KEY) => idempotency::made(memo)?,
                    _ => self.id,
                },
            };
            if let Some(already) = get(made).await? {
                return Ok(Made::Already(already));
            }
            // It was swept meanwhile, and the key is free again.
            gone = Some(made);
        }
        let reason = format!("{} of {} comes and goes", self.id, self.device_id);
        Err(unavailable("making of something once")(reason))
    }

    async fn write(&self, gone: Option<Uuid>) -> Result<(), Canceled> {
        let registered = self
            .devices
            .check(self.device_id.as_str(), "")
            .condition_expression(devices::IS_REGISTERED);
        let row = self.table.put(self.item.clone()).condition_expression(self.table.is_free());
        let mut actions = vec![built(registered.build())?.action(), built(row.build())?.action()];
        if let Some(key) = self.key {
            let (table, id, at) = (self.table, self.id, self.at);
            let memo = idempotency::remember(table, self.device_id, key, id, at, gone)?;
            actions.push(memo.action());
        }
        actions.extend(self.count.clone().map(Action::action));
        transaction::write(&self.table.client, actions).await
    }
}
