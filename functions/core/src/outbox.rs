//! Carrying out what a state's outbox asks for. Every effect can be carried out any number of times to
//! the same end, so a crash between doing it and clearing it only means doing it again.

use crate::id::DeviceId;
use crate::lock;
use crate::state::{DeviceState, Effect};
use crate::store::{AlertStore, CommandStore, StateStore, StateWrite, StoreError, WriteError};

/// Carries out the effects in the outbox of a stored state, in order, then removes them from it.
pub async fn settle<S: StateStore, A: AlertStore, C: CommandStore>(
    states: &S,
    alerts: &A,
    commands: &C,
    mut state: DeviceState,
) -> Result<(), StoreError> {
    if state.outbox.is_empty() {
        return Ok(());
    }
    for effect in &state.outbox {
        carry_out(alerts, commands, &state.device_id, effect).await?;
    }
    let done = std::mem::take(&mut state.outbox);
    let id = state.device_id.clone();
    let connection_before = state.presence.connection;
    match lock::save(states, StateWrite { state, connection_before }).await {
        Ok(_) => Ok(()),
        // Somebody wrote meanwhile, perhaps with effects of his own: take out only what is done.
        Err(WriteError::Conflict) => {
            let remove =
                |state: &mut DeviceState| state.outbox.retain(|effect| !done.contains(effect));
            lock::change_state(states, &id, remove).await.map(drop)
        }
        Err(WriteError::Store(error)) => Err(error),
    }
}

async fn carry_out<A: AlertStore, C: CommandStore>(
    alerts: &A,
    commands: &C,
    device_id: &DeviceId,
    effect: &Effect,
) -> Result<(), StoreError> {
    match effect {
        Effect::OpenAlert { alert } => alerts.open(alert, None).await.map(drop),
        Effect::ResolveAlert { alert_id, at } => alerts.resolve(device_id, *alert_id, *at).await,
        Effect::FinishCommand { cmd_id, result, detail, at } => {
            commands.finish(device_id, *cmd_id, *result, detail.as_deref(), *at).await.map(drop)
        }
        Effect::AdvanceOta { cmd_id, ota } => commands.advance_ota(device_id, *cmd_id, ota).await,
    }
}
