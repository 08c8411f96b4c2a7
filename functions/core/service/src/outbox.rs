//! Carrying out what a state's outbox asks for. Every effect can be carried out any number of times to
//! the same end, so a crash between doing it and clearing it only means doing it again.

use meter_domain::command::{self, Command, CommandStatus};
use meter_domain::id::DeviceId;
use meter_domain::state::{DeviceState, Effect, Rules};
use meter_domain::time::Timestamp;
use meter_store::with_causes;
use meter_store::{
    AlertStore, CommandPublisher, CommandStore, DeviceStore, Notifier, PUBLISH_PATIENCE_S,
    PageRequest, PublishError, StateStore, StateWrite, StoreError, WriteError,
};

use crate::lock;
use crate::reporting;

/// Commands that are published again when their device comes online, at most: a client that made more
/// in five minutes asks too much of a train.
const REPUBLISHED: usize = 100;

/// What is carried out may leave more to carry out, once: an upgrade that is complete as soon as its target is
/// known. Whatever else is there then, others have left, and it is theirs.
const ROUNDS: usize = 2;

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
pub enum Publication {
    /// The broker has it.
    Done,
    /// The broker did not take it; it is tried again.
    Failed,
    /// Nobody knows whether the broker took it, and it is not tried again, since twice would do harm.
    Unknown,
    /// It must not be published twice, and somebody has published it, or tried; or it is answered.
    Claimed,
    /// It expired before.
    Expired,
}

/// What became of an effect.
enum Outcome {
    Done,
    /// It is to be tried again as this, or given up.
    PutOff(Option<Effect>),
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
    pub async fn settle(
        &self,
        mut state: DeviceState,
        now: Timestamp,
        rules: &Rules,
    ) -> Result<(), StoreError> {
        for _ in 0..ROUNDS {
            let is_due = |effect: &&Effect| effect.not_before().is_none_or(|time| time <= now);
            let mut due: Vec<Effect> = state.outbox.iter().filter(is_due).cloned().collect();
            if due.is_empty() {
                break;
            }
            due.sort_by_key(place);
            state = self.settle_due(state, &due, now, rules).await?;
        }
        Ok(())
    }

    /// The state as it is then.
    async fn settle_due(
        &self,
        mut state: DeviceState,
        due: &[Effect],
        now: Timestamp,
        rules: &Rules,
    ) -> Result<DeviceState, StoreError> {
        let mut again = Vec::new();
        for effect in due {
            if let Outcome::PutOff(later) = self.carry_out(&state, effect, now, rules).await? {
                again.extend(later);
            }
        }
        let settled = |state: &mut DeviceState| {
            state.outbox.retain(|effect| !due.contains(effect));
            state.outbox.extend(again.iter().cloned());
        };
        settled(&mut state);
        let id = state.device_id.clone();
        let connection_before = state.presence.connection;
        match lock::save(&self.states, StateWrite { state, connection_before }).await {
            Ok(state) => Ok(state),
            // Somebody wrote meanwhile, perhaps with effects of his own: take out only what is done.
            Err(WriteError::Conflict) => lock::change_state(&self.states, &id, settled).await,
            Err(WriteError::Store(error)) => Err(error),
        }
    }

    async fn carry_out(
        &self,
        state: &DeviceState,
        effect: &Effect,
        now: Timestamp,
        rules: &Rules,
    ) -> Result<Outcome, StoreError> {
        let device_id = &state.device_id;
        match effect {
            Effect::OpenAlert { alert } => self.alerts.open(alert, None).await.map(drop)?,
            Effect::ReviseAlert { alert_id, revision } => {
                self.alerts.revise(device_id, *alert_id, revision).await?;
            }
            Effect::FinishCommand { cmd_id, result, detail, at } => {
                let (detail, at) = (detail.as_deref(), *at);
                let finished =
                    self.commands.finish(device_id, *cmd_id, *result, detail, at).await?;
                if finished.brings_configuration() {
                    let Self { states, registry, .. } = self;
                    reporting::follow(states, registry, device_id, now, rules).await?;
                }
            }
            Effect::AdvanceOta { cmd_id, ota } => {
                let target = self.commands.advance_ota(device_id, *cmd_id, ota).await?;
                if let Some(target) = target.filter(|_| state.lacks_target(*cmd_id)) {
                    let aim = |state: &mut DeviceState| state.aim(*cmd_id, &target, now, rules);
                    lock::change_state(&self.states, device_id, aim).await?;
                }
            }
            Effect::RepublishCommands { at } => self.republish(device_id, *at, now).await?,
            Effect::Notify { notice, .. } => {
                // No topic in the world may hold up telemetry: this is tried again in a while, and given up in a day.
                if let Err(error) = self.publisher.notify(notice).await {
                    let later = effect.put_off(now);
                    let name = notice.dedup_id();
                    let error = with_causes(&error);
                    match later {
                        Some(_) => tracing::warn!(name, error, "a notice was not sent"),
                        None => tracing::error!(name, error, "a notice is never sent"),
                    }
                    return Ok(Outcome::PutOff(later));
                }
            }
        }
        Ok(Outcome::Done)
    }
}

/// When an effect's turn is among others. Answers before questions: what was answered by now need not be asked again.
/// Notices last: whatever fails before them makes everything come again, and they would be sent twice.
fn place(effect: &Effect) -> u8 {
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
        let page = PageRequest { limit: REPUBLISHED, after: None };
        let pending = self.commands.list(device_id, Some(CommandStatus::Pending), &page).await?;
        let waiting = |c: &&Command| c.cmd.is_repeatable() && c.created_at < came_at;
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
    ) -> Result<Publication, StoreError> {
        if now >= command.expires_at {
            return Ok(Publication::Expired);
        }
        let (device_id, cmd_id) = (&command.device_id, command.cmd_id);
        let device = self.registry.get(device_id).await?;
        let key = device.and_then(|device| device.command_key);
        let payload = command::document(command, key.as_deref());
        let is_repeatable = command.cmd.is_repeatable();
        if !is_repeatable && !self.commands.claim(device_id, cmd_id, now).await? {
            return Ok(Publication::Claimed);
        }
        if let Err(error) = self.publisher.publish(device_id, command.cmd, payload).await {
            tracing::warn!(%cmd_id, error = with_causes(&error), "a command was not published");
            if !is_repeatable && matches!(error, PublishError::Unanswered(_)) {
                return Ok(Publication::Unknown);
            }
            let again = now.plus_seconds(PUBLISH_PATIENCE_S).min(command.expires_at);
            self.commands.postpone(device_id, cmd_id, again).await?;
            return Ok(Publication::Failed);
        }
        if !is_repeatable {
            return Ok(Publication::Done);
        }
        // The device has it: failing now would only send it again, which a device knows by its id.
        if let Err(error) = self.commands.published(device_id, cmd_id, now).await {
            tracing::warn!(%cmd_id, error = with_causes(&error), "published, but not noted");
        }
        Ok(Publication::Done)
    }
}
