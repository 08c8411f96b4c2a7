//! The second half of a delete: removing what hangs on a device that has a tombstone, in rounds. Whoever
//! deletes does the first ones; the watchdog goes on, since the device's state is due until all is done.

use std::future::Future;

use crate::id::DeviceId;
use crate::lock;
use crate::outbox::Outbox;
use crate::purge;
use crate::state::DeviceState;
use crate::store::{
    AlertStore, Archive, CommandPublisher, CommandStore, DeviceStore, MessageStore, RollupStore,
    StateStore, StoreError,
};
use crate::time::Timestamp;

/// Calls of a store's sweep in one round.
const CALLS_A_ROUND: usize = 20;

/// How far a sweep is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Nothing is left.
    Done,
    /// There is more.
    Unfinished,
}

/// One round: removes alerts, commands and, if that was asked for, messages and archived data; when nothing of
/// it is left, the tombstone, then the note in the state that this is to be done: in this order, so that
/// ending anywhere leaves the note.
pub async fn sweep<S, A, C, D, P, M, O>(
    stores: &Outbox<S, A, C, D, P>,
    messages: &M,
    archive: &O,
    id: &DeviceId,
) -> Result<Progress, StoreError>
where
    S: StateStore,
    A: AlertStore,
    C: CommandStore,
    D: DeviceStore,
    P: CommandPublisher,
    M: MessageStore + RollupStore,
    O: Archive,
{
    let state = lock::read_state(&stores.states, id).await?;
    if state.registered {
        // Again, after somebody else has finished this sweep.
        return Ok(Progress::Done);
    }
    if is_more(|| stores.alerts.sweep(id)).await? || is_more(|| stores.commands.sweep(id)).await? {
        return Ok(Progress::Unfinished);
    }
    let purge = state.sweep.filter(|sweep| sweep.purge);
    if let Some(sweep) = purge {
        let from = match sweep.purged_before {
            Some(from) => from,
            None => note(&stores.states, id, Timestamp::min()).await?,
        };
        if let Some(next) = purge::round(messages, archive, id, from).await? {
            note(&stores.states, id, next).await?;
            return Ok(Progress::Unfinished);
        }
        if is_more(|| messages.sweep_rollups(id)).await? {
            return Ok(Progress::Unfinished);
        }
    }
    stores.registry.forget(id).await?;
    let swept = |state: &mut DeviceState| state.swept(purge.is_some());
    let state = lock::change_state(&stores.states, id, swept).await?;
    // Somebody may have asked for a purge meanwhile.
    Ok(if state.sweep.is_none() { Progress::Done } else { Progress::Unfinished })
}

/// Notes how far a purge is, for whoever goes on.
async fn note<S: StateStore>(
    states: &S,
    id: &DeviceId,
    purged_before: Timestamp,
) -> Result<Timestamp, StoreError> {
    lock::change_state(states, id, |state| state.purged(purged_before)).await?;
    Ok(purged_before)
}

/// Calls a store's sweep until it says that there is no more, or the round is over.
async fn is_more<F>(call: impl Fn() -> F) -> Result<bool, StoreError>
where
    F: Future<Output = Result<bool, StoreError>>,
{
    for _ in 0..CALLS_A_ROUND {
        if !call().await? {
            return Ok(false);
        }
    }
    Ok(true)
}
