//! Runs a seed: commands, then the messages in batches under the fault schedule, then the watchdog.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fault_proxy::{FaultPlan, Service};
use futures::future::try_join_all;
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::sleep;
use uuid::Uuid;

use super::CallLog;
use super::environment::{Environment, ProxiedFunction};
use super::fault_schedule::FaultSchedule;
use super::function::InvocationOutcome;
use super::queue::{self, DeliveryCounts, Queue};
use super::rest::RestApi;
use super::scenario::{Fleet, PlannedCommand, Registration, Scenario, rng};

/// The number of batches after which faults end. A message that fails then has a permanent error.
const MAX_BATCHES_WITH_FAULTS: usize = 400;

/// A fleet with its commands and its messages.
pub(super) struct ScenarioRun {
    pub(super) fleet: Fleet,
    pub(super) planned_commands: Vec<PlannedCommand>,
    pub(super) commands: Vec<Uuid>,
    pub(super) scenario: Scenario,
}

/// Registers the devices that are registered before their first message, and creates the commands.
pub(super) async fn prepare(
    environment: &mut Environment,
    seed: u64,
    name: &str,
) -> Result<ScenarioRun> {
    let fleet = Fleet::from_seed(seed, name);
    register(&mut environment.api, &fleet, Registration::BeforeMessages).await?;
    let planned_commands = fleet.planned_commands();
    let mut commands = Vec::with_capacity(planned_commands.len());
    for planned_command in &planned_commands {
        let path = format!("/api/devices/{}/commands", fleet.devices[planned_command.device].id);
        let body = json!({"cmd": planned_command.cmd, "params": planned_command.params});
        let answer = environment.api.post(&path, &body).await?;
        commands
            .push(answer["cmd_id"].as_str().context("the created command has no cmd_id")?.parse()?);
    }
    let scenario = fleet.scenario(&planned_commands, &commands);
    Ok(ScenarioRun { fleet, planned_commands, commands, scenario })
}

async fn register(api: &mut RestApi, fleet: &Fleet, when: Registration) -> Result<()> {
    for device in fleet.devices.iter().filter(|device| device.registration == when) {
        let body = json!({"device_id": device.id, "device_name": device.id});
        api.post("/api/devices", &body).await?;
    }
    Ok(())
}

/// Delivers the messages of one queue to several processes.
pub(super) struct Runner<'a> {
    scenario: &'a Scenario,
    queue: Mutex<Queue<'a>>,
    /// Signals that a batch has ended, so that messages of a later phase may be ready.
    changed: Notify,
    kills: Mutex<usize>,
    /// The number of the first call of each invocation of ingest, among all calls of its process.
    first_calls: Mutex<BTreeSet<usize>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Runner<'a> {
    pub(super) fn new(scenario: &'a Scenario, fault_schedule: &FaultSchedule, seed: u64) -> Self {
        Self {
            scenario,
            queue: Mutex::new(Queue::new(scenario, fault_schedule, rng(seed, 5))),
            changed: Notify::new(),
            kills: Mutex::default(),
            first_calls: Mutex::default(),
        }
    }

    pub(super) fn counts(&self) -> DeliveryCounts {
        self.queue().counts
    }

    /// The number of killed processes.
    pub(super) fn kills(&self) -> usize {
        *lock(&self.kills)
    }

    /// Delivers all messages but the late ones: under the plans, then without faults. Returns the
    /// calls that the first process made under its plan.
    pub(super) async fn run_ingest(
        &self,
        environment: &mut Environment,
        fleet: &Fleet,
        fault_schedule: &FaultSchedule,
    ) -> Result<CallLog> {
        let before = environment.ingest[0].proxy.stats();
        for (ingest, plan) in environment.ingest.iter().zip(&fault_schedule.plans) {
            ingest.proxy.set_plan(plan.clone());
        }
        let working = fault_schedule.plans.len();
        let meanwhile = register(&mut environment.api, fleet, Registration::DuringMessages);
        let work = environment
            .ingest
            .iter_mut()
            .take(working)
            .map(|ingest| self.consume(ingest, MAX_BATCHES_WITH_FAULTS));
        tokio::try_join!(try_join_all(work), meanwhile)?;
        // Delayed calls arrive before the plans end.
        for ingest in &mut environment.ingest {
            ingest.proxy.wait_until_idle().await;
            ingest.proxy.set_plan(FaultPlan::none());
        }
        let after = environment.ingest[0].proxy.stats();
        let calls = CallLog::between(&before, &after, &lock(&self.first_calls));
        self.queue().stop_redelivery();
        self.drain(environment, working).await?;
        register(&mut environment.api, fleet, Registration::AfterMessages).await?;
        Ok(calls)
    }

    /// Runs the watchdog under its plans and then without faults, while the queue redelivers
    /// messages; then delivers the late messages. Returns the calls of the watchdog before those.
    pub(super) async fn run_watchdog(
        &self,
        environment: &mut Environment,
        fault_schedule: &FaultSchedule,
    ) -> Result<CallLog> {
        let working = fault_schedule.plans.len();
        self.queue().redeliver_share(0.2);
        let Environment { ingest, watchdog, .. } = environment;
        let before = watchdog.proxy.stats();
        let watchdog_runs = async {
            let mut missed_queue_length = false;
            for plan in &fault_schedule.watchdog {
                let calls_before = queue_length_calls(watchdog);
                watchdog.proxy.set_plan(plan.clone());
                // Its result is ignored: another run follows.
                if let InvocationOutcome::Exited = watchdog.function.invoke(&json!({})).await? {
                    *lock(&self.kills) += 1;
                }
                watchdog.proxy.wait_until_idle().await;
                missed_queue_length |= queue_length_calls(watchdog) > calls_before + 1;
            }
            watchdog.proxy.set_plan(FaultPlan::none());
            if missed_queue_length {
                wait_for_next_minute().await;
            }
            run_watchdog_once(watchdog).await
        };
        let work = ingest.iter_mut().take(working).map(|ingest| self.consume(ingest, usize::MAX));
        tokio::try_join!(try_join_all(work), watchdog_runs)?;
        let calls = CallLog::between(&before, &watchdog.proxy.stats(), &BTreeSet::new());
        {
            let mut queue = self.queue();
            queue.release_late_messages();
            queue.redeliver_share(0.2);
            // Work that a killed watchdog has left is resumed by the next run a minute later, or by
            // ingest with the next message of the device.
            queue.redeliver_one_per_device();
        }
        self.drain(environment, working).await?;
        // The watchdog of the next trial must not find work of this one.
        run_watchdog_once(&mut environment.watchdog).await?;
        Ok(calls)
    }

    /// Delivers messages without faults until the queue is empty.
    async fn drain(&self, environment: &mut Environment, working: usize) -> Result<()> {
        // A message may fail because of version conflicts on its device, but not permanently.
        let max_batches = self.counts().batches + 20 + 10 * self.scenario.receipts.len();
        let work = environment
            .ingest
            .iter_mut()
            .take(working)
            .map(|ingest| self.consume(ingest, max_batches));
        try_join_all(work).await?;
        ensure!(
            self.queue().is_empty(),
            "without faults, messages still fail after {max_batches} batches"
        );
        Ok(())
    }

    fn queue(&self) -> MutexGuard<'_, Queue<'a>> {
        lock(&self.queue)
    }

    /// Delivers batches to a process until the queue is empty or has handed out `max_batches`.
    async fn consume(&self, ingest: &mut ProxiedFunction, max_batches: usize) -> Result<()> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Enabled before the queue is read, so that no change in between is missed.
            changed.as_mut().enable();
            let batch = {
                let mut queue = self.queue();
                if queue.is_empty() || queue.counts.batches >= max_batches {
                    self.changed.notify_waiters();
                    return Ok(());
                }
                queue.receive()
            };
            if batch.is_empty() {
                changed.await;
                continue;
            }
            let failed = self.deliver(ingest, &batch).await?;
            self.queue().complete_batch(&batch, &failed);
            self.changed.notify_waiters();
        }
    }

    async fn deliver(
        &self,
        ingest: &mut ProxiedFunction,
        batch: &[usize],
    ) -> Result<HashSet<usize>> {
        let event = queue::event(self.scenario, batch);
        lock(&self.first_calls).insert(ingest.proxy.stats().total_calls() + 1);
        Ok(match ingest.function.invoke(&event).await? {
            InvocationOutcome::Response(answer) => match queue::failed(&answer, batch) {
                Some(failed) => failed,
                None => bail!("invalid response of ingest: {answer}"),
            },
            InvocationOutcome::Error(error) => bail!("ingest returned an error: {error}"),
            InvocationOutcome::Exited => {
                *lock(&self.kills) += 1;
                batch.iter().copied().collect()
            }
        })
    }
}

/// The number of calls in which the watchdog has requested the length of the queue. A watchdog that
/// gets no response cannot determine the ingest lag, and defers offline and gap detection by a
/// minute.
fn queue_length_calls(watchdog: &ProxiedFunction) -> usize {
    let calls = watchdog.proxy.stats().calls;
    calls.iter().filter(|(call, _)| call.service == Service::Sqs).map(|(_, times)| times).sum()
}

async fn wait_for_next_minute() {
    let over = Timestamp::now().as_second().rem_euclid(60).unsigned_abs();
    sleep(Duration::from_secs(60 - over)).await;
}

/// Runs the watchdog without faults.
async fn run_watchdog_once(watchdog: &mut ProxiedFunction) -> Result<()> {
    match watchdog.function.invoke(&json!({})).await? {
        InvocationOutcome::Response(_) => Ok(()),
        InvocationOutcome::Error(error) => bail!("without faults, the watchdog returned {error}"),
        InvocationOutcome::Exited => bail!("without faults, the watchdog exited"),
    }
}
