//! Carrying out what a state's outbox asks for. Every effect can be carried out any number of times to
//! the same end, so a crash between doing it and clearing it only means doing it again.

use meter_domain::command::{self, Command, CommandStatus};
use meter_domain::id::DeviceId;
use meter_domain::state::{DevicePolicy, DeviceState, Effect};
use meter_domain::time::Timestamp;
use meter_store::error_chain;
use meter_store::{
    AlertStore, CommandPublisher, CommandStore, DeviceStore, Notifier, PUBLISH_RETRY_DELAY_S,
    PageRequest, PublishError, StateStore, StateWrite, StoreError, WriteError,
};

use crate::optimistic_update;
use crate::report_interval;

/// Commands that are published again when their device comes online, at most: a client that made more
/// in five minutes asks too much of a train.
const MAX_REPUBLISHED_COMMANDS: usize = 100;

/// What is carried out may leave more to carry out, once: an upgrade that is complete as soon as its target is
/// known. Whatever else is there then, others have left, and it is theirs.
const MAX_DISPATCH_ROUNDS: usize = 2;

/// The ports through which the effects of a state leave.
#[derive(Debug, Clone)]
pub struct Outbox<S, A, C, D, P> {
    /// Where the outboxes are.
    pub states: S,
    /// Alerts.
    pub alerts: A,
    /// Commands.
    pub commands: C,
    /// The registry, which knows the keys that commands are signed with.
    pub registry: D,
    /// The way to the devices, and to people.
    pub publisher: P,
}

impl<S: Clone> Outbox<S, S, S, S, S> {
    /// An outbox whose ports are all one store.
    pub fn of_one(store: &S) -> Self {
        Self {
            states: store.clone(),
            alerts: store.clone(),
            commands: store.clone(),
            registry: store.clone(),
            publisher: store.clone(),
        }
    }
}

/// What became of publishing a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    /// The broker has it.
    Published,
    /// The broker did not take it; it is tried again.
    Failed,
    /// Nobody knows whether the broker took it, and it is not tried again, since twice would do harm.
    OutcomeUnknown,
    /// It must not be published twice, and somebody has published it, or tried; or it is answered.
    AlreadyClaimed,
    /// It expired before.
    Expired,
}

/// What became of an effect.
enum EffectOutcome {
    Done,
    /// It is to be tried again as this, or given up.
    Rescheduled(Option<Effect>),
}

impl<S, A, C, D, P> Outbox<S, A, C, D, P>
where
    S: StateStore,
    A: AlertStore,
    C: CommandStore,
    D: DeviceStore,
    P: CommandPublisher + Notifier,
{
    /// Carries out the effects in the outbox of a stored state whose time has come at `now`, the clock, then removes
    /// them from it.
    pub async fn dispatch_due_effects(
        &self,
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
            state = self.dispatch_effects(state, &due, now, policy).await?;
        }
        Ok(())
    }

    /// The state as it is then.
    async fn dispatch_effects(
        &self,
        mut state: DeviceState,
        due: &[Effect],
        now: Timestamp,
        policy: &DevicePolicy,
    ) -> Result<DeviceState, StoreError> {
        let mut again = Vec::new();
        for effect in due {
            if let EffectOutcome::Rescheduled(later) =
                self.execute(&state, effect, now, policy).await?
            {
                again.extend(later);
            }
        }
        let settled = |state: &mut DeviceState| {
            state.outbox.replace(due, &again);
        };
        settled(&mut state);
        let id = state.device_id.clone();
        let connection_before = state.presence.connection;
        match optimistic_update::save_state(&self.states, StateWrite { state, connection_before })
            .await
        {
            Ok(state) => Ok(state),
            // Somebody wrote meanwhile, perhaps with effects of his own: take out only what is done.
            Err(WriteError::Conflict) => {
                optimistic_update::update_state(&self.states, &id, settled).await
            }
            Err(WriteError::Store(error)) => Err(error),
        }
    }

    async fn execute(
        &self,
        state: &DeviceState,
        effect: &Effect,
        now: Timestamp,
        policy: &DevicePolicy,
    ) -> Result<EffectOutcome, StoreError> {
        let device_id = &state.device_id;
        match effect {
            Effect::OpenAlert { alert } => self.alerts.open(alert, None).await.map(drop)?,
            Effect::ReviseAlert { alert_id, revision } => {
                self.alerts.revise(device_id, *alert_id, revision).await?;
            }
            Effect::RecordCommandAck { cmd_id, result, detail, at } => {
                let (detail, at) = (detail.as_deref(), *at);
                let finished = self
                    .commands
                    .record_acknowledgement(device_id, *cmd_id, *result, detail, at)
                    .await?;
                if finished.changes_configuration() {
                    let Self { states, registry, .. } = self;
                    report_interval::sync(states, registry, device_id, now, policy).await?;
                }
            }
            Effect::AdvanceOta { cmd_id, ota } => {
                let target = self.commands.advance_ota(device_id, *cmd_id, ota).await?;
                if let Some(target) = target.filter(|_| state.lacks_target(*cmd_id)) {
                    let aim = |state: &mut DeviceState| {
                        state.set_upgrade_target(*cmd_id, &target, now, policy)
                    };
                    optimistic_update::update_state(&self.states, device_id, aim).await?;
                }
            }
            Effect::RepublishCommands { at } => self.republish(device_id, *at, now).await?,
            Effect::Notify { notification, .. } => {
                // No topic in the world may hold up telemetry: this is tried again in a while, and given up in a day.
                if let Err(error) = self.publisher.notify(notification).await {
                    let later = effect.reschedule(now);
                    let dedup_id = notification.dedup_id();
                    let error = error_chain(&error);
                    match later {
                        Some(_) => tracing::warn!(dedup_id, error, "a notification was not sent"),
                        None => tracing::error!(dedup_id, error, "a notification is never sent"),
                    }
                    return Ok(EffectOutcome::Rescheduled(later));
                }
            }
        }
        Ok(EffectOutcome::Done)
    }
}

/// When an effect's turn is among others. Answers before questions: what was answered by now need not be asked again.
/// Notices last: whatever fails before them makes everything come again, and they would be sent twice.
fn execution_order(effect: &Effect) -> u8 {
    match effect {
        Effect::RepublishCommands { .. } => 1,
        Effect::Notify { .. } => 2,
        _ => 0,
    }
}

impl<S, A, C, D, P> Outbox<S, A, C, D, P>
where
    S: StateStore,
    C: CommandStore,
    D: DeviceStore,
    P: CommandPublisher,
{
    /// A command that was made after the device came is on its way anyway.
    async fn republish(
        &self,
        device_id: &DeviceId,
        came_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let page = PageRequest { limit: MAX_REPUBLISHED_COMMANDS, after: None };
        let pending = self.commands.list(device_id, Some(CommandStatus::Pending), &page).await?;
        let waiting = |c: &&Command| c.cmd.is_idempotent() && c.created_at < came_at;
        // Oldest first, as they were made.
        for command in pending.items.iter().filter(waiting).rev() {
            self.publish(command, now).await?;
        }
        Ok(())
    }

    /// Publishes a command that has not expired at `now`, and notes it. One that must not be published twice is noted
    /// first: whoever dies in between has lost it, which its timeout shows, and nobody publishes it again.
    pub async fn publish(
        &self,
        command: &Command,
        now: Timestamp,
    ) -> Result<PublishOutcome, StoreError> {
        if now >= command.expires_at {
            return Ok(PublishOutcome::Expired);
        }
        let (device_id, cmd_id) = (&command.device_id, command.cmd_id);
        let device = self.registry.get(device_id).await?;
        let key = device.and_then(|device| device.command_key);
        let payload = command::payload(command, key.as_deref());
        let is_idempotent = command.cmd.is_idempotent();
        if !is_idempotent && !self.commands.claim(device_id, cmd_id, now).await? {
            return Ok(PublishOutcome::AlreadyClaimed);
        }
        if let Err(error) = self.publisher.publish(device_id, command.cmd, payload).await {
            tracing::warn!(%cmd_id, error = error_chain(&error), "a command was not published");
            if !is_idempotent && matches!(error, PublishError::OutcomeUnknown(_)) {
                return Ok(PublishOutcome::OutcomeUnknown);
            }
            let again = now.plus_seconds(PUBLISH_RETRY_DELAY_S).min(command.expires_at);
            self.commands.postpone(device_id, cmd_id, again).await?;
            return Ok(PublishOutcome::Failed);
        }
        if !is_idempotent {
            return Ok(PublishOutcome::Published);
        }
        // The device has it: failing now would only send it again, which a device knows by its id.
        if let Err(error) = self.commands.mark_published(device_id, cmd_id, now).await {
            tracing::warn!(%cmd_id, error = error_chain(&error), "published, but not noted");
        }
        Ok(PublishOutcome::Published)
    }
}
