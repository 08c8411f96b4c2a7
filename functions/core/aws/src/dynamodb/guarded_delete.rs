//! Removing what hung on a deleted device, while the tombstone says that it is deleted: who is late with it finds
//! another tombstone, or a device that is registered again, and removes nothing of that.

use aws_sdk_dynamodb::types::TransactWriteItem;
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_store::StoreError;

use super::devices;
use super::table::{Table, checked_build};
use super::transaction::{self, TransactAction, TransactionError};

/// Items that one transaction removes at most: it takes 100, and one is the tombstone.
pub(super) const MAX_DELETES: i32 = 99;

/// A delete of a device.
#[derive(Clone, Copy)]
pub(super) struct GuardedDelete<'a> {
    /// The registry.
    pub(super) devices: &'a Table,
    /// Which device.
    pub(super) device_id: &'a DeviceId,
    /// When that was asked for.
    pub(super) at: Timestamp,
}

/// What became of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeleteOutcome {
    /// It is done.
    Deleted,
    /// Something was not as it was read.
    ConditionFailed,
    /// The tombstone is not there.
    TombstoneMissing,
}

impl GuardedDelete<'_> {
    /// Removes items of a table, and does what else belongs to that, or nothing of it.
    pub(super) async fn delete_items(
        &self,
        table: &Table,
        removals: impl IntoIterator<Item = TransactWriteItem>,
    ) -> Result<DeleteOutcome, StoreError> {
        let tombstone = devices::tombstone_check(self.devices, self.device_id, self.at)?;
        let actions = [tombstone.action()].into_iter().chain(removals).collect();
        match transaction::write(&table.client, actions).await {
            Ok(()) => Ok(DeleteOutcome::Deleted),
            Err(TransactionError::ConditionFailed(refused)) if refused.contains(0) => {
                Ok(DeleteOutcome::TombstoneMissing)
            }
            Err(TransactionError::ConditionFailed(_)) => Ok(DeleteOutcome::ConditionFailed),
            Err(TransactionError::Store(error)) => Err(error),
        }
    }

    /// Removes the first items of a partition; how many there were, and what became of it.
    pub(super) async fn delete_first(
        &self,
        table: &Table,
        partition: &str,
    ) -> Result<(usize, DeleteOutcome), StoreError> {
        let (items, _) = table.query_first(partition, MAX_DELETES).await?;
        if items.is_empty() {
            return Ok((0, DeleteOutcome::Deleted));
        }
        let mut removals = Vec::with_capacity(items.len());
        for item in &items {
            let (partition_key, sort_key) = table.key_text_of(item);
            removals.push(checked_build(table.delete(&partition_key, &sort_key).build())?.action());
        }
        Ok((items.len(), self.delete_items(table, removals).await?))
    }
}
