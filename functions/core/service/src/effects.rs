//! Executes the effects in the outbox of a device's state.
//!
//! Every effect is idempotent. A crash between the execution of an effect and its removal from the
//! outbox repeats the effect and changes nothing else.

use meter_domain::notification::Notification;
use meter_domain::state::{DevicePolicy, DeviceState, Effect};
use meter_domain::time::Timestamp;
use meter_store::{
    AlertStore, CommandStore, Notifier, StateWrite, StoreError, Stores, WriteError, error_chain,
};

use crate::{command_publisher, optimistic_update, report_interval};

/// Rounds of one dispatch. An effect can add one more effect (an upgrade whose target is already
/// running is complete at once). Effects that are left after that were added by other processes,
/// which execute them.
const MAX_DISPATCH_ROUNDS: usize = 2;

/// The result of the execution of an effect.
enum EffectOutcome {
    Done,
    /// The effect that replaces it in the outbox; none: it was given up.
    Rescheduled(Option<Effect>),
}

/// Executes the effects of a stored state that are due at `now`, and removes them from its outbox.
///
/// # Errors
///
/// An effect failed. All effects of the round stay in the outbox.
pub async fn dispatch_due_effects<S: Stores>(
    stores: &S,
    mut state: DeviceState,
    now: Timestamp,
    policy: &DevicePolicy,
) -> Result<(), StoreError> {
    for _ in 0..MAX_DISPATCH_ROUNDS {
        let is_due = |effect: &&Effect| effect.not_before().is_none_or(|time| time <= now);
        let mut due: Vec<Effect> = state.outbox.iter().filter(is_due).cloned().collect();
        if due.is_empty() {
            break;
        }
        due.sort_by_key(execution_order);
        state = dispatch(stores, state, &due, now, policy).await?;
    }
    Ok(())
}

/// Executes effects and replaces them in the outbox by those that were rescheduled. Returns the
/// state as stored.
async fn dispatch<S: Stores>(
    stores: &S,
    mut state: DeviceState,
    due: &[Effect],
    now: Timestamp,
    policy: &DevicePolicy,
) -> Result<DeviceState, StoreError> {
    let mut rescheduled = Vec::new();
    for effect in due {
        if let EffectOutcome::Rescheduled(later) =
            execute(stores, &state, effect, now, policy).await?
        {
            rescheduled.extend(later);
        }
    }
    let replace = |state: &mut DeviceState| {
        state.outbox.replace(due, &rescheduled);
    };
    replace(&mut state);
    let id = state.device_id.clone();
    let connection_before = state.presence.connection;
    let write = StateWrite { state, connection_before };
    match optimistic_update::save_state(stores.states(), write).await {
        Ok(state) => Ok(state),
        // The stored state may contain new effects: only the executed ones are removed from it.
        Err(WriteError::Conflict) => {
            optimistic_update::update_state(stores.states(), &id, replace).await
        }
        Err(WriteError::Store(error)) => Err(error),
    }
}

async fn execute<S: Stores>(
    stores: &S,
    state: &DeviceState,
    effect: &Effect,
    now: Timestamp,
    policy: &DevicePolicy,
) -> Result<EffectOutcome, StoreError> {
    let device_id = &state.device_id;
    match effect {
        Effect::OpenAlert { alert } => stores.alerts().open(alert, None).await.map(drop)?,
        Effect::ReviseAlert { alert_id, revision } => {
            stores.alerts().revise(device_id, *alert_id, revision).await?;
        }
        Effect::RecordCommandAck { cmd_id, result, detail, at } => {
            let detail = detail.as_deref();
            let commands = stores.commands();
            let outcome =
                commands.record_acknowledgement(device_id, *cmd_id, *result, detail, *at).await?;
            if outcome.changes_configuration() {
                report_interval::sync(stores, device_id, now, policy).await?;
            }
        }
        Effect::AdvanceOta { cmd_id, ota } => {
            let target = stores.commands().advance_ota(device_id, *cmd_id, ota).await?;
            if let Some(target) = target.filter(|_| state.lacks_target(*cmd_id)) {
                let set_target = |state: &mut DeviceState| {
                    state.set_upgrade_target(*cmd_id, &target, now, policy);
                };
                optimistic_update::update_state(stores.states(), device_id, set_target).await?;
            }
        }
        Effect::RepublishCommands { at } => {
            command_publisher::republish_pending(stores, device_id, *at, now).await?;
        }
        Effect::Notify { notification, .. } => {
            return Ok(notify(stores.publisher(), effect, notification, now).await);
        }
    }
    Ok(EffectOutcome::Done)
}

/// Sends a notification. A failure is no error: an unavailable topic must not block telemetry, so
/// the notification is rescheduled until it is a day old.
async fn notify<N: Notifier>(
    notifier: &N,
    effect: &Effect,
    notification: &Notification,
    now: Timestamp,
) -> EffectOutcome {
    let Err(error) = notifier.notify(notification).await else { return EffectOutcome::Done };
    let later = effect.reschedule(now);
    let (dedup_id, error) = (notification.dedup_id(), error_chain(&error));
    match later {
        Some(_) => tracing::warn!(dedup_id, error, "notification failed; it is retried"),
        None => tracing::error!(dedup_id, error, "notification failed; it is given up"),
    }
    EffectOutcome::Rescheduled(later)
}

/// The rank of an effect in one round. Acknowledgements are recorded before commands are
/// republished, so that an acknowledged command is not sent again. Notifications are last: a
/// failure before them repeats the whole round, which would send them twice.
fn execution_order(effect: &Effect) -> u8 {
    match effect {
        Effect::RepublishCommands { .. } => 1,
        Effect::Notify { .. } => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use meter_domain::alert::Alert;
    use meter_testing::memory::{Fault, MemoryStores, Operation};

    use super::*;
    use crate::test_fixtures::{device_id, register, second};

    fn open_alert(s: i64) -> Effect {
        Effect::OpenAlert { alert: Alert::device_offline(&device_id(), second(s)) }
    }

    fn notify(s: i64) -> Effect {
        let alert = Alert::device_offline(&device_id(), second(s));
        let notification = Notification::opened(&alert, second(s));
        Effect::Notify { notification, not_before: second(s), since: None }
    }

    /// A registered device with effects in its outbox.
    async fn state_with(effects: &[Effect]) -> (MemoryStores, DeviceState) {
        let memory = register(MemoryStores::new()).await;
        let add = |state: &mut DeviceState| state.outbox.replace(&[], effects);
        let state = optimistic_update::update_state(&memory, &device_id(), add).await.unwrap();
        (memory, state)
    }

    async fn dispatch_at(
        memory: &MemoryStores,
        state: DeviceState,
        s: i64,
    ) -> Result<(), StoreError> {
        dispatch_due_effects(memory, state, second(s), &DevicePolicy::default()).await
    }

    fn outbox(memory: &MemoryStores) -> Vec<Effect> {
        memory.state(&device_id()).unwrap().outbox.to_vec()
    }

    #[tokio::test]
    async fn due_effects_are_executed_and_removed() {
        let (memory, state) = state_with(&[notify(1), open_alert(1), notify(100)]).await;
        dispatch_at(&memory, state, 5).await.unwrap();
        assert_eq!((memory.alerts(&device_id()).len(), memory.notifications().len()), (1, 1));
        assert_eq!(outbox(&memory), [notify(100)]);
    }

    #[tokio::test]
    async fn failed_effect_keeps_all_effects_and_sends_no_notification() {
        let effects = [notify(1), open_alert(1)];
        let (memory, state) = state_with(&effects).await;
        memory.fail_next(Operation::OpenAlert, Fault::Reject);
        assert!(dispatch_at(&memory, state.clone(), 5).await.is_err());
        assert_eq!(memory.notifications(), []);
        assert_eq!(outbox(&memory), effects);
        dispatch_at(&memory, state, 5).await.unwrap();
        assert_eq!(outbox(&memory), []);
    }

    #[tokio::test]
    async fn effect_added_by_another_process_stays_in_the_outbox() {
        let (memory, state) = state_with(&[open_alert(1)]).await;
        let add = |state: &mut DeviceState| state.outbox.enqueue(open_alert(2));
        optimistic_update::update_state(&memory, &device_id(), add).await.unwrap();
        let policy = DevicePolicy::default();
        dispatch(&memory, state, &[open_alert(1)], second(5), &policy).await.unwrap();
        assert_eq!(outbox(&memory), [open_alert(2)]);
    }

    #[tokio::test]
    async fn failed_notification_is_rescheduled() {
        let (memory, state) = state_with(&[notify(1)]).await;
        memory.fail_next(Operation::Notify, Fault::Reject);
        dispatch_at(&memory, state, 5).await.unwrap();
        assert_eq!(outbox(&memory), [notify(1).reschedule(second(5)).unwrap()]);
    }
}
