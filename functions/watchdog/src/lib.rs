//! What did not happen: silence, gaps, command timeouts, effects and deletes that were left half done.
//!
//! The schedule invokes it once a minute. Its work is in proportion to what is due, never to the fleet:
//! it asks sparse indexes of deadlines, looks at the state of what they name, and acts or sets the next
//! deadline, each under the lock of the device's state (docs/adr/0014). So it may die
//! anywhere, or run twice at once.

mod commands;
mod devices;
mod recount;

use std::collections::VecDeque;

use futures::StreamExt;
use meter_domain::id::DeviceId;
use meter_domain::state::Rules;
use meter_domain::time::Timestamp;
use meter_runtime::observe::Metrics;
use meter_service::outbox::Outbox;
use meter_service::rollup::roll_up;
use meter_service::rule_cache::RuleCache;
use meter_service::sweep::{Progress, sweep};
use meter_store::with_causes;
use meter_store::{
    AlertStore, Archive, ArchiveKeys, CommandPublisher, CommandStore, DeviceStore, MessageStore,
    Notifier, ProgressStore, QueueDepth, RollupStore, RuleStore, StateStore, StoreError,
};
use uuid::Uuid;

pub use self::recount::{Request, recount};

/// What a run takes on at most; the next run, a minute later, goes on with the rest.
const DEVICES_A_RUN: usize = 10_000;
const COMMANDS_A_RUN: usize = 10_000;

/// Rounds of sweeps in a run, beyond one for each device: that of a purge rewrites hundreds of objects.
const MORE_SWEEP_ROUNDS: usize = 40;

/// Devices that are swept at once.
const SWEPT_AT_ONCE: usize = 4;

/// Devices or commands that are handled at once.
const CONCURRENCY: usize = 16;

/// How far ingest may be behind, in seconds, before silence means nothing.
const MAX_LAG_S: u32 = 30;

/// The watchdog, over the ports that it needs.
#[derive(Debug)]
pub struct Watchdog<S, A, C, D, P, Q, M, O, R> {
    /// Device states, alerts, commands and the registry, and the way to the devices.
    pub outbox: Outbox<S, A, C, D, P>,
    /// What waits for ingest.
    pub queue: Q,
    /// The archive's index and the measurements, for purges.
    pub messages: M,
    /// The archive's objects, for purges.
    pub archive: O,
    /// What raises alerts.
    pub alert_rules: RuleCache<R>,
    /// What holds for devices.
    pub rules: Rules,
    /// Days until rollups may be forgotten; none: never.
    pub rollup_ttl_days: Option<u32>,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Devices looked at.
    pub devices: usize,
    /// Devices declared silent.
    pub silent: usize,
    /// Deletes finished.
    pub swept: usize,
    /// Hours of devices that were rolled up.
    pub rolled_up: usize,
    /// Deletes that go on in the next run.
    pub unfinished: usize,
    /// Commands looked at.
    pub commands: usize,
    /// Commands that timed out.
    pub timed_out: usize,
    /// Commands published again.
    pub republished: usize,
    /// Devices and commands that could not be handled, and questions that were not answered; what is due stays so.
    pub failed: usize,
    /// Ingest was behind, so nobody was declared silent.
    pub behind: bool,
}

impl Report {
    /// As metrics of one run that began at `now`.
    pub fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::new("watchdog");
        metrics.count("DevicesDue", self.devices);
        metrics.count("DevicesSilent", self.silent);
        metrics.count("DevicesSwept", self.swept);
        metrics.count("HoursRolledUp", self.rolled_up);
        metrics.count("SweepsUnfinished", self.unfinished);
        metrics.count("CommandsDue", self.commands);
        metrics.count("CommandsTimedOut", self.timed_out);
        metrics.count("CommandsRepublished", self.republished);
        metrics.count("WatchdogFailures", self.failed);
        metrics.count("IngestBehind", usize::from(self.behind));
        metrics
    }
}

impl<S, A, C, D, P, Q, M, O, R> Watchdog<S, A, C, D, P, Q, M, O, R>
where
    S: StateStore + ProgressStore,
    A: AlertStore,
    C: CommandStore,
    D: DeviceStore,
    P: CommandPublisher + Notifier,
    Q: QueueDepth,
    M: MessageStore + RollupStore,
    O: Archive + ArchiveKeys,
    R: RuleStore,
{
    /// One run. Fails only when it cannot learn what is due: what it can learn it does.
    pub async fn run(&self, now: Timestamp) -> Result<Report, StoreError> {
        // At once: commands must not wait for a fleet that went silent.
        let (devices, commands) = futures::join!(self.watch_devices(now), self.watch_commands(now));
        let (mut report, deleted, of_commands) = match (devices, commands) {
            (Ok((report, deleted)), Ok(commands)) => (report, deleted, commands),
            (Ok((report, deleted)), Err(error)) => (report, deleted, Report::unlearned(&error)),
            (Err(error), Ok(commands)) => (Report::unlearned(&error), Vec::new(), commands),
            (Err(error), Err(_)) => return Err(error),
        };
        report.add_commands(&of_commands);
        // The last thing, since a purge may take all the time that is left.
        self.sweep_all(deleted, &mut report).await;
        Ok(report)
    }

    /// What is due of devices; which of them are deleted and must be swept.
    async fn watch_devices(&self, now: Timestamp) -> Result<(Report, Vec<DeviceId>), StoreError> {
        let due = self.outbox.states.due(now, DEVICES_A_RUN).await?;
        let mut report = Report { devices: due.len(), ..Report::default() };
        if !due.is_empty() {
            // Asked once, and only when somebody might be declared silent.
            report.behind = self.is_behind(now).await.unwrap_or_else(|error| {
                let error = with_causes(&error);
                tracing::error!(
                    error,
                    "how far ingest is, is not known: nobody is declared silent"
                );
                report.failed += 1;
                true
            });
        }
        let silence_counts = !report.behind;
        let watched = due.into_iter().map(|id| self.watch_device(id, silence_counts, now));
        let mut watched = futures::stream::iter(watched).buffer_unordered(CONCURRENCY);
        let mut deleted = Vec::new();
        while let Some((id, outcome)) = watched.next().await {
            match outcome {
                Some(watched) if watched.must_be_swept => deleted.push(id),
                outcome => report.add_device(outcome),
            }
        }
        Ok((report, deleted))
    }

    async fn watch_commands(&self, now: Timestamp) -> Result<Report, StoreError> {
        let due = self.outbox.commands.due(now, COMMANDS_A_RUN).await?;
        let mut report = Report { commands: due.len(), ..Report::default() };
        let watched = due.into_iter().map(|(id, cmd_id)| self.watch_command(id, cmd_id, now));
        let mut watched = futures::stream::iter(watched).buffer_unordered(CONCURRENCY);
        while let Some(outcome) = watched.next().await {
            report.add_command(outcome);
        }
        Ok(report)
    }

    /// One round for each, then more for those that need them, in turn.
    async fn sweep_all(&self, devices: Vec<DeviceId>, report: &mut Report) {
        let first = devices.into_iter().map(|id| self.sweep(id));
        let mut first = futures::stream::iter(first).buffer_unordered(SWEPT_AT_ONCE);
        let mut unfinished = VecDeque::new();
        while let Some((id, progress)) = first.next().await {
            unfinished.extend(report.add_sweep(progress).then_some(id));
        }
        for _ in 0..MORE_SWEEP_ROUNDS {
            let Some(id) = unfinished.pop_front() else { break };
            let (id, progress) = self.sweep(id).await;
            unfinished.extend(report.add_sweep(progress).then_some(id));
        }
        report.unfinished = unfinished.len();
    }

    async fn sweep(&self, id: DeviceId) -> (DeviceId, Option<Progress>) {
        let swept = sweep(&self.outbox, &self.messages, &self.archive, &id).await;
        let progress = swept.inspect_err(|error| failed(&id, error)).ok();
        (id, progress)
    }

    async fn watch_device(
        &self,
        id: DeviceId,
        silence_counts: bool,
        now: Timestamp,
    ) -> (DeviceId, Option<devices::Outcome>) {
        let watched = async {
            let (outbox, alert_rules) = (&self.outbox, &self.alert_rules);
            let clock = devices::Clock { now, silence_counts };
            let watched = devices::watch(outbox, alert_rules, &id, clock, &self.rules).await?;
            if !watched.must_be_rolled_up {
                return Ok(watched);
            }
            let (states, messages) = (&self.outbox.states, &self.messages);
            let ttl_days = self.rollup_ttl_days;
            let rolled =
                roll_up(states, messages, messages, &id, ttl_days, now, &self.rules).await?;
            Ok(devices::Outcome { rolled_up: rolled.hours, ..watched })
        };
        let outcome = watched.await.inspect_err(|error| failed(&id, error)).ok();
        (id, outcome)
    }

    async fn watch_command(
        &self,
        id: DeviceId,
        cmd_id: Uuid,
        now: Timestamp,
    ) -> Option<commands::Outcome> {
        let watched = commands::watch(&self.outbox, &id, cmd_id, now).await;
        watched.inspect_err(|error| failed(&id, error)).ok()
    }

    /// Whether what was said lately may still be on its way: something waits, and ingest was not seen
    /// to be up to date a moment ago.
    async fn is_behind(&self, now: Timestamp) -> Result<bool, StoreError> {
        if self.queue.depth().await? == 0 {
            return Ok(false);
        }
        let progress = self.outbox.states.progress(now).await?;
        Ok(progress.is_none_or(|progress| progress.lag_s > MAX_LAG_S))
    }
}

fn failed(id: &DeviceId, error: &StoreError) {
    tracing::error!(device_id = %id, error = with_causes(error), "not watched; it stays due");
}

impl Report {
    /// Of a run that could not learn what is due.
    fn unlearned(error: &StoreError) -> Self {
        tracing::error!(error = with_causes(error), "what is due is not known; it stays due");
        Self { failed: 1, ..Self::default() }
    }

    fn add_commands(&mut self, commands: &Self) {
        self.commands += commands.commands;
        self.timed_out += commands.timed_out;
        self.republished += commands.republished;
        self.failed += commands.failed;
    }

    fn add_device(&mut self, outcome: Option<devices::Outcome>) {
        match outcome {
            Some(watched) => {
                self.silent += usize::from(watched.went_silent);
                self.rolled_up += watched.rolled_up;
            }
            None => self.failed += 1,
        }
    }

    /// Counts a round; whether there is more to do.
    fn add_sweep(&mut self, progress: Option<Progress>) -> bool {
        match progress {
            Some(Progress::Done) => self.swept += 1,
            Some(Progress::Unfinished) => return true,
            None => self.failed += 1,
        }
        false
    }

    fn add_command(&mut self, outcome: Option<commands::Outcome>) {
        match outcome {
            Some(commands::Outcome::TimedOut) => self.timed_out += 1,
            Some(commands::Outcome::Republished) => self.republished += 1,
            Some(commands::Outcome::Watched) => {}
            None => self.failed += 1,
        }
    }
}
