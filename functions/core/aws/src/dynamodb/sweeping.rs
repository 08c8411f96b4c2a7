//! Removing what hung on a deleted device, while the tombstone says that it is deleted: who is late with it finds
//! another tombstone, or a device that is registered again, and removes nothing of that.

use aws_sdk_dynamodb::types::TransactWriteItem;
use meter_domain::id::DeviceId;
use meter_domain::time::Timestamp;
use meter_store::StoreError;

use super::devices;
use super::table::{Table, built};
use super::transaction::{self, Action, Canceled};

/// Items that one transaction removes at most: it takes 100, and one is the tombstone.
pub(super) const AT_ONCE: i32 = 99;

/// A delete of a device.
#[derive(Clone, Copy)]
pub(super) struct Deleted<'a> {
    /// The registry.
    pub(super) devices: &'a Table,
    /// Which device.
    pub(super) device_id: &'a DeviceId,
    /// When that was asked for.
    pub(super) at: Timestamp,
}

/// What became of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    /// It is done.
    Done,
    /// Something was not as it was read.
    Changed,
    /// The tombstone is not there.
    NotDeleted,
}

impl Deleted<'_> {
    /// Removes items of a table, and does what else belongs to that, or nothing of it.
    pub(super) async fn remove(
        &self,
        table: &Table,
        removals: impl IntoIterator<Item = TransactWriteItem>,
    ) -> Result<Removal, StoreError> {
        let tombstone = devices::is_deleted(self.devices, self.device_id, self.at)?;
        let actions = [tombstone.action()].into_iter().chain(removals).collect();
        match transaction::write(&table.client, actions).await {
            Ok(()) => Ok(Removal::Done),
            Err(Canceled::Refused(refused)) if refused.at(0) => Ok(Removal::NotDeleted),
            Err(Canceled::Refused(_)) => Ok(Removal::Changed),
            Err(Canceled::Failed(error)) => Err(error),
        }
    }

    /// Removes the first items of a partition; how many there were, and what became of it.
    pub(super) async fn remove_first_of(
        &self,
        table: &Table,
        partition: &str,
    ) -> Result<(usize, Removal), StoreError> {
        let (items, _) = table.first_of(partition, AT_ONCE).await?;
        if items.is_empty() {
            return Ok((0, Removal::Done));
        }
        let mut removals = Vec::with_capacity(items.len());
        for item in &items {
            let (hash, sort) = table.key_of(item);
            removals.push(built(table.delete(&hash, &sort).build())?.action());
        }
        Ok((items.len(), self.remove(table, removals).await?))
    }
}
