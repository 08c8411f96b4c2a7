//! The second half of a delete: removing what hangs on a device that has a tombstone. Whoever deletes
//! does it; when that ends early, the watchdog goes on, since the device's state is due until then.

use crate::id::DeviceId;
use crate::lock;
use crate::outbox::Outbox;
use crate::state::DeviceState;
use crate::store::{
    AlertStore, CommandPublisher, CommandStore, DeviceStore, StateStore, StoreError,
};

/// Removes alerts and commands, then the tombstone, then the note in the state that this is to be done:
/// in this order, so that ending anywhere leaves the note.
pub async fn sweep<S, A, C, D, P>(
    stores: &Outbox<S, A, C, D, P>,
    id: &DeviceId,
) -> Result<(), StoreError>
where
    S: StateStore,
    A: AlertStore,
    C: CommandStore,
    D: DeviceStore,
    P: CommandPublisher,
{
    while stores.alerts.sweep(id).await? {}
    while stores.commands.sweep(id).await? {}
    stores.registry.forget(id).await?;
    lock::change_state(&stores.states, id, DeviceState::swept).await.map(drop)
}
