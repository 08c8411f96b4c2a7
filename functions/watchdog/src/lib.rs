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
use meter_domain::state::DevicePolicy;
use meter_domain::time::Timestamp;
use meter_runtime::observability::Metrics;
use meter_service::device_cleanup::{CleanupStatus, clean_up_device};
use meter_service::rollup::roll_up;
use meter_service::rule_cache::RuleCache;
use meter_store::error_chain;
use meter_store::{CommandStore, IngestLagStore, QueueDepth, StateStore, StoreError, Stores};
use uuid::Uuid;

pub use self::recount::{Request, recount};

/// What a run takes on at most; the next run, a minute later, goes on with the rest.
const MAX_DEVICES_PER_RUN: usize = 10_000;
const MAX_COMMANDS_PER_RUN: usize = 10_000;

/// Rounds of sweeps in a run, beyond one for each device: that of a purge rewrites hundreds of objects.
const EXTRA_CLEANUP_ROUNDS: usize = 40;

/// Devices that are swept at once.
const CLEANUP_CONCURRENCY: usize = 4;

/// Devices or commands that are handled at once.
const CONCURRENCY: usize = 16;

/// How far ingest may be behind, in seconds, before silence means nothing.
const MAX_LAG_S: u32 = 30;

/// The watchdog, over the ports that it needs.
#[derive(Debug)]
pub struct Watchdog<S> {
    /// The ports of the system.
    pub stores: S,
    /// What raises alerts.
    pub alert_rules: RuleCache,
    /// What holds for devices.
    pub policy: DevicePolicy,
    /// Days until rollups may be forgotten; none: never.
    pub rollup_ttl_days: Option<u32>,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Devices looked at.
    pub devices: usize,
    /// Devices declared silent.
    pub went_offline: usize,
    /// Deletes finished.
    pub cleaned_up: usize,
    /// Hours of devices that were rolled up.
    pub rolled_up: usize,
    /// Deletes that go on in the next run.
    pub cleanups_pending: usize,
    /// Commands looked at.
    pub commands: usize,
    /// Commands that timed out.
    pub timed_out: usize,
    /// Commands published again.
    pub republished: usize,
    /// Devices and commands that could not be handled, and questions that were not answered; what is due stays so.
    pub failed: usize,
    /// Ingest was behind, so nobody was declared silent.
    pub ingest_lagging: bool,
}

impl Report {
    /// As metrics of one run that began at `now`.
    pub fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::new("watchdog");
        metrics.count("DevicesDue", self.devices);
        metrics.count("DevicesWentOffline", self.went_offline);
        metrics.count("DeviceCleanupsCompleted", self.cleaned_up);
        metrics.count("HoursRolledUp", self.rolled_up);
        metrics.count("DeviceCleanupsPending", self.cleanups_pending);
        metrics.count("CommandsDue", self.commands);
        metrics.count("CommandsTimedOut", self.timed_out);
        metrics.count("CommandsRepublished", self.republished);
        metrics.count("WatchdogFailures", self.failed);
        metrics.count("IngestLagging", usize::from(self.ingest_lagging));
        metrics
    }
}

impl<S: Stores> Watchdog<S> {
    /// One run. Fails only when it cannot learn what is due: what it can learn it does.
    pub async fn run(&self, now: Timestamp) -> Result<Report, StoreError> {
        // At once: commands must not wait for a fleet that went silent.
        let (devices, commands) = futures::join!(self.check_devices(now), self.check_commands(now));
        let (mut report, deleted, of_commands) = match (devices, commands) {
            (Ok((report, deleted)), Ok(commands)) => (report, deleted, commands),
            (Ok((report, deleted)), Err(error)) => (report, deleted, Report::query_failed(&error)),
            (Err(error), Ok(commands)) => (Report::query_failed(&error), Vec::new(), commands),
            (Err(error), Err(_)) => return Err(error),
        };
        report.add_commands(&of_commands);
        // The last thing, since a purge may take all the time that is left.
        self.clean_up_devices(deleted, &mut report).await;
        Ok(report)
    }

    /// What is due of devices; which of them are deleted and must be swept.
    async fn check_devices(&self, now: Timestamp) -> Result<(Report, Vec<DeviceId>), StoreError> {
        let due = self.stores.states().list_due(now, MAX_DEVICES_PER_RUN).await?;
        let mut report = Report { devices: due.len(), ..Report::default() };
        if !due.is_empty() {
            // Asked once, and only when somebody might be declared silent.
            report.ingest_lagging = self.is_ingest_lagging(now).await.unwrap_or_else(|error| {
                let error = error_chain(&error);
                tracing::error!(
                    error,
                    "how far ingest is, is not known: nobody is declared silent"
                );
                report.failed += 1;
                true
            });
        }
        let detect_offline = !report.ingest_lagging;
        let checked = due.into_iter().map(|id| self.check_device(id, detect_offline, now));
        let mut checked = futures::stream::iter(checked).buffer_unordered(CONCURRENCY);
        let mut deleted = Vec::new();
        while let Some((id, outcome)) = checked.next().await {
            match outcome {
                Some(checked) if checked.needs_cleanup => deleted.push(id),
                outcome => report.add_device(outcome),
            }
        }
        Ok((report, deleted))
    }

    async fn check_commands(&self, now: Timestamp) -> Result<Report, StoreError> {
        let due = self.stores.commands().list_due(now, MAX_COMMANDS_PER_RUN).await?;
        let mut report = Report { commands: due.len(), ..Report::default() };
        let checked = due.into_iter().map(|(id, cmd_id)| self.check_command(id, cmd_id, now));
        let mut checked = futures::stream::iter(checked).buffer_unordered(CONCURRENCY);
        while let Some(outcome) = checked.next().await {
            report.add_command(outcome);
        }
        Ok(report)
    }

    /// One round for each, then more for those that need them, in turn.
    async fn clean_up_devices(&self, devices: Vec<DeviceId>, report: &mut Report) {
        let first = devices.into_iter().map(|id| self.clean_up(id));
        let mut first = futures::stream::iter(first).buffer_unordered(CLEANUP_CONCURRENCY);
        let mut unfinished = VecDeque::new();
        while let Some((id, progress)) = first.next().await {
            unfinished.extend(report.add_cleanup(progress).then_some(id));
        }
        for _ in 0..EXTRA_CLEANUP_ROUNDS {
            let Some(id) = unfinished.pop_front() else { break };
            let (id, progress) = self.clean_up(id).await;
            unfinished.extend(report.add_cleanup(progress).then_some(id));
        }
        report.cleanups_pending = unfinished.len();
    }

    async fn clean_up(&self, id: DeviceId) -> (DeviceId, Option<CleanupStatus>) {
        let swept = clean_up_device(&self.stores, &id).await;
        let progress = swept.inspect_err(|error| log_failure(&id, error)).ok();
        (id, progress)
    }

    async fn check_device(
        &self,
        id: DeviceId,
        detect_offline: bool,
        now: Timestamp,
    ) -> (DeviceId, Option<devices::Outcome>) {
        let checked = async {
            let clock = devices::CheckTime { now, detect_offline };
            let (stores, rules) = (&self.stores, &self.alert_rules);
            let checked = devices::check(stores, rules, &id, clock, &self.policy).await?;
            if !checked.needs_rollup {
                return Ok(checked);
            }
            let rolled = roll_up(stores, &id, self.rollup_ttl_days, now, &self.policy).await?;
            Ok(devices::Outcome { rolled_up: rolled.hours, ..checked })
        };
        let outcome = checked.await.inspect_err(|error| log_failure(&id, error)).ok();
        (id, outcome)
    }

    async fn check_command(
        &self,
        id: DeviceId,
        cmd_id: Uuid,
        now: Timestamp,
    ) -> Option<commands::Outcome> {
        let checked = commands::check(&self.stores, &id, cmd_id, now).await;
        checked.inspect_err(|error| log_failure(&id, error)).ok()
    }

    /// Whether what was said lately may still be on its way: something waits, and ingest was not seen
    /// to be up to date a moment ago.
    async fn is_ingest_lagging(&self, now: Timestamp) -> Result<bool, StoreError> {
        if self.stores.queue().depth().await? == 0 {
            return Ok(false);
        }
        let progress = self.stores.states().ingest_lag(now).await?;
        Ok(progress.is_none_or(|progress| progress.lag_s > MAX_LAG_S))
    }
}

fn log_failure(id: &DeviceId, error: &StoreError) {
    tracing::error!(device_id = %id, error = error_chain(error), "not checked; it stays due");
}

impl Report {
    /// Of a run that could not learn what is due.
    fn query_failed(error: &StoreError) -> Self {
        tracing::error!(error = error_chain(error), "what is due is not known; it stays due");
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
            Some(checked) => {
                self.went_offline += usize::from(checked.went_offline);
                self.rolled_up += checked.rolled_up;
            }
            None => self.failed += 1,
        }
    }

    /// Counts a round; whether there is more to do.
    fn add_cleanup(&mut self, progress: Option<CleanupStatus>) -> bool {
        match progress {
            Some(CleanupStatus::Done) => self.cleaned_up += 1,
            Some(CleanupStatus::Unfinished) => return true,
            None => self.failed += 1,
        }
        false
    }

    fn add_command(&mut self, outcome: Option<commands::Outcome>) {
        match outcome {
            Some(commands::Outcome::TimedOut) => self.timed_out += 1,
            Some(commands::Outcome::Republished) => self.republished += 1,
            Some(commands::Outcome::UpdateError) => {}
            None => self.failed += 1,
        }
    }
}
