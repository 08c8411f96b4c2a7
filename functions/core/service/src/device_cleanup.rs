//! Removes the data of a device that has a tombstone, in rounds.
//!
//! The request that deletes the device executes the first rounds. The watchdog executes the rest:
//! the state of the device stays due until the cleanup is complete.

use std::future::Future;

use meter_domain::id::DeviceId;
use meter_domain::state::{DeviceCleanup, DeviceState, PurgeStage};
use meter_domain::time::Timestamp;
use meter_store::{AlertStore, CommandStore, DeviceStore, RollupStore, StoreError, Stores};

use crate::{optimistic_update, purge};

/// Delete calls to one store in one round, at most.
const CALLS_PER_ROUND: usize = 20;

/// The progress of a cleanup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum CleanupStatus {
    /// All data was removed.
    Done,
    /// Another round is necessary.
    Unfinished,
}

/// Executes one round of the cleanup of a device.
///
/// Removes alerts and commands, then, if a purge was requested, messages and archived data. At the
/// end it removes the tombstone, then the cleanup from the state. After a crash at any point the
/// state still contains the cleanup.
///
/// # Errors
///
/// A store failed. The round can be repeated.
pub async fn clean_up_device<S: Stores>(
    stores: &S,
    id: &DeviceId,
) -> Result<CleanupStatus, StoreError> {
    let state = optimistic_update::read_state(stores.states(), id).await?;
    // Without a cleanup, another process has completed it, and the device may be registered again.
    let Some(cleanup) = state.cleanup else { return Ok(CleanupStatus::Done) };
    // The device may be registered and deleted again during the round. Every change is therefore
    // conditional on the tombstone of this delete.
    let since = cleanup.since;
    if has_more(|| stores.alerts().delete_for_device(id, since)).await?
        || has_more(|| stores.commands().delete_for_device(id, since)).await?
    {
        return Ok(CleanupStatus::Unfinished);
    }
    if cleanup.purge.is_requested() && !purge_device(stores, &state, &cleanup).await? {
        return Ok(CleanupStatus::Unfinished);
    }
    stores.devices().remove_tombstone(id, since).await?;
    let complete =
        |state: &mut DeviceState| state.complete_cleanup(since, cleanup.purge.is_requested());
    let state = optimistic_update::update_state(stores.states(), id, complete).await?;
    // A purge may have been requested during the round.
    Ok(if state.cleanup.is_none() { CleanupStatus::Done } else { CleanupStatus::Unfinished })
}

/// Executes one round of a purge and records its progress. Returns whether the purge is complete.
async fn purge_device<S: Stores>(
    stores: &S,
    state: &DeviceState,
    cleanup: &DeviceCleanup,
) -> Result<bool, StoreError> {
    let (id, since) = (&state.device_id, cleanup.since);
    let searched_before = match cleanup.purge {
        PurgeStage::SearchingArchive { searched_before, .. } => Some(searched_before),
        _ => None,
    };
    if searched_before.is_none() {
        let from = match cleanup.purge {
            PurgeStage::RemovingMessages { purged_before } => purged_before,
            _ => record_purge_progress(stores, id, since, Timestamp::min()).await?,
        };
        if let Some(next) = purge::purge_round(stores, id, from).await? {
            record_purge_progress(stores, id, since, next).await?;
            return Ok(false);
        }
    }
    let until = state.purged_at.unwrap_or(since);
    if let Some(next) = purge::purge_unindexed(stores, id, searched_before, until).await? {
        let record = |state: &mut DeviceState| state.record_searched_before(since, next);
        optimistic_update::update_state(stores.states(), id, record).await?;
        return Ok(false);
    }
    Ok(!has_more(|| stores.messages().delete_rollups_for_device(id)).await?)
}

/// Records the time before which all messages of the device are removed, and returns it.
async fn record_purge_progress<S: Stores>(
    stores: &S,
    id: &DeviceId,
    since: Timestamp,
    purged_before: Timestamp,
) -> Result<Timestamp, StoreError> {
    let record = |state: &mut DeviceState| state.record_purged_before(since, purged_before);
    optimistic_update::update_state(stores.states(), id, record).await?;
    Ok(purged_before)
}

/// Repeats a delete call until it leaves nothing or the round is over. Returns whether there may be
/// more to delete.
async fn has_more<F>(call: impl Fn() -> F) -> Result<bool, StoreError>
where
    F: Future<Output = Result<bool, StoreError>>,
{
    for _ in 0..CALLS_PER_ROUND {
        if !call().await? {
            return Ok(false);
        }
    }
    Ok(true)
}
