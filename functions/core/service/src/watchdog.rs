//! Scheduled checks: detects silent devices, sequence gaps and command timeouts, rolls up hours,
//! and resumes interrupted effects and cleanups.
//!
//! A run costs in proportion to the devices and commands that are due, not to the fleet. It queries
//! sparse indexes of deadlines, and updates each device under the version of its state
//! (docs/adr/0014). It can be interrupted at any point, and two runs can be concurrent.

mod command_check;
mod device_check;

use std::collections::VecDeque;

use futures::StreamExt;
use meter_domain::id::DeviceId;
use meter_domain::state::DevicePolicy;
use meter_domain::time::Timestamp;
use meter_store::{
    CommandStore, IngestLagStore, QueueDepth, StateStore, StoreError, Stores, error_chain,
};
use uuid::Uuid;

use self::command_check::CommandCheck;
use self::device_check::{CheckTime, DeviceCheck};
use crate::device_cleanup::{CleanupStatus, clean_up_device};
use crate::rollup::roll_up;
use crate::rule_cache::RuleCache;

/// Devices and commands of one run, at most. The next run, a minute later, continues.
const MAX_DEVICES_PER_RUN: usize = 10_000;
const MAX_COMMANDS_PER_RUN: usize = 10_000;

/// Cleanup rounds of one run, beyond one for each device. A round of a purge rewrites hundreds of
/// objects.
const EXTRA_CLEANUP_ROUNDS: usize = 40;

/// Devices that are cleaned up concurrently.
const CLEANUP_CONCURRENCY: usize = 4;

/// Devices or commands that are checked concurrently.
const CONCURRENCY: usize = 16;

/// The ingest lag in seconds beyond which no device is set offline.
const MAX_LAG_S: u32 = 30;

/// The scheduled checks.
#[derive(Debug)]
pub struct Watchdog<S> {
    /// The ports of the system.
    pub stores: S,
    /// The cache of the alert rules.
    pub alert_rules: RuleCache,
    /// The policy of all devices.
    pub policy: DevicePolicy,
    /// Days after which rollups expire; none: never.
    pub rollup_ttl_days: Option<u32>,
}

/// The counts of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WatchdogReport {
    /// Devices that were due.
    pub devices: usize,
    /// Devices that became offline.
    pub went_offline: usize,
    /// Cleanups that were completed.
    pub cleaned_up: usize,
    /// Hours of devices that were rolled up.
    pub rolled_up: usize,
    /// Cleanups that the next run continues.
    pub cleanups_pending: usize,
    /// Commands that were due.
    pub commands: usize,
    /// Commands that timed out.
    pub timed_out: usize,
    /// Commands that were published again.
    pub republished: usize,
    /// Devices, commands and queries that failed. The devices and commands stay due.
    pub failed: usize,
    /// Whether ingest lagged, so that no device was set offline.
    pub ingest_lagging: bool,
}

impl<S: Stores> Watchdog<S> {
    /// Executes one run.
    ///
    /// # Errors
    ///
    /// Neither the devices nor the commands that are due can be listed. Any other failure is
    /// counted.
    pub async fn run(&self, now: Timestamp) -> Result<WatchdogReport, StoreError> {
        // Concurrently, because commands must not wait while thousands of devices become offline.
        let (devices, commands) = futures::join!(self.check_devices(now), self.check_commands(now));
        let (mut report, deleted, of_commands) = match (devices, commands) {
            (Ok((report, deleted)), Ok(commands)) => (report, deleted, commands),
            (Ok((report, deleted)), Err(error)) => {
                (report, deleted, WatchdogReport::query_failed(&error))
            }
            (Err(error), Ok(commands)) => {
                (WatchdogReport::query_failed(&error), Vec::new(), commands)
            }
            (Err(error), Err(_)) => return Err(error),
        };
        report.add_commands(&of_commands);
        // Last, because a purge can take all the time that is left.
        self.clean_up_devices(deleted, &mut report).await;
        Ok(report)
    }

    /// Checks the devices that are due. Returns those that must be cleaned up.
    async fn check_devices(
        &self,
        now: Timestamp,
    ) -> Result<(WatchdogReport, Vec<DeviceId>), StoreError> {
        let due = self.stores.states().list_due(now, MAX_DEVICES_PER_RUN).await?;
        let mut report = WatchdogReport { devices: due.len(), ..WatchdogReport::default() };
        if !due.is_empty() {
            report.ingest_lagging = self.is_ingest_lagging(now).await.unwrap_or_else(|error| {
                let error = error_chain(&error);
                tracing::error!(error, "reading the ingest lag failed; no device is set offline");
                report.failed += 1;
                true
            });
        }
        let time = CheckTime { now, detect_offline: !report.ingest_lagging };
        let checks = due.into_iter().map(|id| self.check_device(id, time));
        let mut checks = futures::stream::iter(checks).buffer_unordered(CONCURRENCY);
        let mut deleted = Vec::new();
        while let Some((id, result)) = checks.next().await {
            match result {
                Some((check, _)) if check.needs_cleanup => deleted.push(id),
                result => report.add_device(result),
            }
        }
        Ok((report, deleted))
    }

    async fn check_commands(&self, now: Timestamp) -> Result<WatchdogReport, StoreError> {
        let due = self.stores.commands().list_due(now, MAX_COMMANDS_PER_RUN).await?;
        let mut report = WatchdogReport { commands: due.len(), ..WatchdogReport::default() };
        let checks = due.into_iter().map(|(id, cmd_id)| self.check_command(id, cmd_id, now));
        let mut checks = futures::stream::iter(checks).buffer_unordered(CONCURRENCY);
        while let Some(result) = checks.next().await {
            report.add_command(result);
        }
        Ok(report)
    }

    /// Executes one cleanup round for each device, then further rounds in turn.
    async fn clean_up_devices(&self, devices: Vec<DeviceId>, report: &mut WatchdogReport) {
        let first = devices.into_iter().map(|id| self.clean_up(id));
        let mut first = futures::stream::iter(first).buffer_unordered(CLEANUP_CONCURRENCY);
        let mut unfinished = VecDeque::new();
        while let Some((id, status)) = first.next().await {
            unfinished.extend(report.add_cleanup(status).then_some(id));
        }
        for _ in 0..EXTRA_CLEANUP_ROUNDS {
            let Some(id) = unfinished.pop_front() else { break };
            let (id, status) = self.clean_up(id).await;
            unfinished.extend(report.add_cleanup(status).then_some(id));
        }
        report.cleanups_pending = unfinished.len();
    }

    async fn clean_up(&self, id: DeviceId) -> (DeviceId, Option<CleanupStatus>) {
        let status = clean_up_device(&self.stores, &id).await;
        let status = status.inspect_err(|error| log_failure(&id, error)).ok();
        (id, status)
    }

    /// Checks a device, and rolls up its hours that are due. Returns the check and the number of
    /// hours.
    async fn check_device(
        &self,
        id: DeviceId,
        time: CheckTime,
    ) -> (DeviceId, Option<(DeviceCheck, usize)>) {
        let (stores, policy) = (&self.stores, &self.policy);
        let result = async {
            let check = device_check::check(stores, &self.alert_rules, &id, time, policy).await?;
            if !check.needs_rollup {
                return Ok((check, 0));
            }
            let rollup = roll_up(stores, &id, self.rollup_ttl_days, time.now, policy).await?;
            Ok((check, rollup.hours))
        };
        let result = result.await.inspect_err(|error| log_failure(&id, error)).ok();
        (id, result)
    }

    async fn check_command(
        &self,
        id: DeviceId,
        cmd_id: Uuid,
        now: Timestamp,
    ) -> Option<CommandCheck> {
        let check = command_check::check(&self.stores, &id, cmd_id, now).await;
        check.inspect_err(|error| log_failure(&id, error)).ok()
    }

    /// Whether recent messages may still be in the queue: it is not empty, and no recent report
    /// shows a small ingest lag.
    async fn is_ingest_lagging(&self, now: Timestamp) -> Result<bool, StoreError> {
        if self.stores.queue().depth().await? == 0 {
            return Ok(false);
        }
        let lag = self.stores.states().ingest_lag(now).await?;
        Ok(lag.is_none_or(|lag| lag.lag_s > MAX_LAG_S))
    }
}

fn log_failure(id: &DeviceId, error: &StoreError) {
    tracing::error!(device_id = %id, error = error_chain(error), "a check failed; it stays due");
}

impl WatchdogReport {
    /// The report of a query that failed.
    fn query_failed(error: &StoreError) -> Self {
        tracing::error!(error = error_chain(error), "listing what is due failed");
        Self { failed: 1, ..Self::default() }
    }

    fn add_commands(&mut self, commands: &Self) {
        self.commands += commands.commands;
        self.timed_out += commands.timed_out;
        self.republished += commands.republished;
        self.failed += commands.failed;
    }

    fn add_device(&mut self, result: Option<(DeviceCheck, usize)>) {
        match result {
            Some((check, hours)) => {
                self.went_offline += usize::from(check.went_offline);
                self.rolled_up += hours;
            }
            None => self.failed += 1,
        }
    }

    /// Adds a cleanup round. Returns whether another round is necessary.
    fn add_cleanup(&mut self, status: Option<CleanupStatus>) -> bool {
        match status {
            Some(CleanupStatus::Done) => self.cleaned_up += 1,
            Some(CleanupStatus::Unfinished) => return true,
            None => self.failed += 1,
        }
        false
    }

    fn add_command(&mut self, result: Option<CommandCheck>) {
        match result {
            Some(CommandCheck::TimedOut) => self.timed_out += 1,
            Some(CommandCheck::Republished) => self.republished += 1,
            Some(CommandCheck::Unchanged) => {}
            None => self.failed += 1,
        }
    }
}
