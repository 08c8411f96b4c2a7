//! Deletion of the items of a deleted device, under the condition that its tombstone exists.
//!
//! A cleanup that is late finds another tombstone, or a device that was registered again, and
//! deletes nothing.

use aws_sdk_dynamodb::types::TransactWriteItem;
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_store::StoreError;

use super::devices;
use super::table::{Table, checked_build};
use super::transaction::{self, TransactAction, TransactionError};

/// Items that one transaction deletes: it has at most 100 actions, one of which is the tombstone
/// check.
pub(super) const MAX_DELETES: i32 = 99;

/// The cleanup of one deletion.
#[derive(Clone, Copy)]
pub(super) struct GuardedDelete<'a> {
    /// The table with the tombstone.
    pub(super) devices: &'a Table,
    /// The deleted device.
    pub(super) device_id: &'a DeviceId,
    /// The time of the deletion.
    pub(super) at: Timestamp,
}

/// The result of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeleteOutcome {
    /// The items are deleted.
    Deleted,
    /// An item changed since it was read; no item was deleted.
    ConditionFailed,
    /// The tombstone does not exist; no item was deleted.
    TombstoneMissing,
}

impl GuardedDelete<'_> {
    /// Executes deletions, and updates that belong to them, all or none.
    pub(super) async fn delete_items(
        &self,
        table: &Table,
        actions: impl IntoIterator<Item = TransactWriteItem>,
    ) -> Result<DeleteOutcome, StoreError> {
        let tombstone = devices::tombstone_check(self.devices, self.device_id, self.at)?;
        let actions = [tombstone.action()].into_iter().chain(actions).collect();
        match transaction::write(&table.client, actions).await {
            Ok(()) => Ok(DeleteOutcome::Deleted),
            Err(TransactionError::ConditionFailed(failed)) if failed.contains(0) => {
                Ok(DeleteOutcome::TombstoneMissing)
            }
            Err(TransactionError::ConditionFailed(_)) => Ok(DeleteOutcome::ConditionFailed),
            Err(TransactionError::Store(error)) => Err(error),
        }
    }

    /// Deletes the first items of a partition and returns their number and the result.
    pub(super) async fn delete_first(
        &self,
        table: &Table,
        partition: &str,
    ) -> Result<(usize, DeleteOutcome), StoreError> {
        let (items, _) = table.query_first(partition, MAX_DELETES).await?;
        if items.is_empty() {
            return Ok((0, DeleteOutcome::Deleted));
        }
        let mut deletes = Vec::with_capacity(items.len());
        for item in &items {
            let (partition_key, sort_key) = table.key_text_of(item);
            deletes.push(checked_build(table.delete(&partition_key, &sort_key).build())?.action());
        }
        Ok((items.len(), self.delete_items(table, deletes).await?))
    }
}
