//! The second half of a delete: removing what hangs on a device that has a tombstone, in rounds. Whoever
//! deletes does the first ones; the watchdog goes on, since the device's state is due until all is done.

use std::future::Future;

use meter_domain::id::DeviceId;
use meter_domain::state::{DeviceState, PurgeStage};
use meter_domain::time::Timestamp;
use meter_store::{
    AlertStore, Archive, ArchiveListing, CommandPublisher, CommandStore, DeviceStore, MessageStore,
    RollupStore, StateStore, StoreError,
};

use crate::optimistic_update;
use crate::outbox::Outbox;
use crate::purge;

/// Calls of a store's sweep in one round.
const CALLS_PER_ROUND: usize = 20;

/// How far a sweep is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum CleanupStatus {
    /// Nothing is left.
    Done,
    /// There is more.
    Unfinished,
}

/// One round: removes alerts, commands and, if that was asked for, messages and archived data; when nothing of
/// it is left, the tombstone, then the note in the state that this is to be done: in this order, so that
/// ending anywhere leaves the note.
pub async fn clean_up_device<S, A, C, D, P, M, O>(
    stores: &Outbox<S, A, C, D, P>,
    messages: &M,
    archive: &O,
    id: &DeviceId,
) -> Result<CleanupStatus, StoreError>
where
    S: StateStore,
    A: AlertStore,
    C: CommandStore,
    D: DeviceStore,
    P: CommandPublisher,
    M: MessageStore + RollupStore,
    O: Archive + ArchiveListing,
{
    let state = optimistic_update::read_state(&stores.states, id).await?;
    // None: somebody else has finished it, and the device is registered again, perhaps.
    let Some(this) = state.cleanup else { return Ok(CleanupStatus::Done) };
    // From here on all may be true that is true of a later registration, and of a later delete: nothing is done that is
    // not of this one.
    let since = this.since;
    if has_more(|| stores.alerts.delete_for_device(id, since)).await?
        || has_more(|| stores.commands.delete_for_device(id, since)).await?
    {
        return Ok(CleanupStatus::Unfinished);
    }
    if this.purge.is_requested() {
        let searched_before = match this.purge {
            PurgeStage::SearchingArchive { searched_before, .. } => Some(searched_before),
            _ => None,
        };
        if searched_before.is_none() {
            let from = match this.purge {
                PurgeStage::RemovingMessages { purged_before } => purged_before,
                _ => record_purge_progress(&stores.states, id, since, Timestamp::min()).await?,
            };
            if let Some(next) = purge::purge_round(messages, archive, id, from).await? {
                record_purge_progress(&stores.states, id, since, next).await?;
                return Ok(CleanupStatus::Unfinished);
            }
        }
        let until = state.purged_at.unwrap_or(since);
        let from = searched_before;
        if let Some(next) = purge::purge_unindexed(messages, archive, id, from, until).await? {
            let note = |state: &mut DeviceState| state.record_searched_before(since, next);
            optimistic_update::update_state(&stores.states, id, note).await?;
            return Ok(CleanupStatus::Unfinished);
        }
        if has_more(|| messages.delete_rollups_for_device(id)).await? {
            return Ok(CleanupStatus::Unfinished);
        }
    }
    stores.registry.remove_tombstone(id, since).await?;
    let swept = |state: &mut DeviceState| state.complete_cleanup(since, this.purge.is_requested());
    let state = optimistic_update::update_state(&stores.states, id, swept).await?;
    // Somebody may have asked for a purge meanwhile.
    Ok(if state.cleanup.is_none() { CleanupStatus::Done } else { CleanupStatus::Unfinished })
}

/// Notes how far a purge is, for whoever goes on.
async fn record_purge_progress<S: StateStore>(
    states: &S,
    id: &DeviceId,
    since: Timestamp,
    purged_before: Timestamp,
) -> Result<Timestamp, StoreError> {
    optimistic_update::update_state(states, id, |state| {
        state.record_purged_before(since, purged_before)
    })
    .await?;
    Ok(purged_before)
}

/// Calls a store's sweep until it says that there is no more, or the round is over.
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
