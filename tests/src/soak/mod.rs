//! Soak test: random scenarios with random faults, run against the deployed functions and compared
//! with a model (docs/soak.md).
//!
//! A seed determines the messages of a fleet ([`scenario`]) and the faults ([`fault_schedule`]).
//! The [`runner`] runs it in an [`environment`]: an AWS endpoint with the stores, and the functions
//! as processes that receive their events directly ([`function`], [`runtime`]). No broker and no
//! queue cost time, and the simulated [`queue`] delivers as badly as SQS may. Each process reaches
//! the endpoint through a proxy of its own ([`fault_proxy`]), which loses, delays and rejects calls
//! and kills the process. After the last fault and the last delivery, the responses of the REST API
//! must match the [`model`] ([`verify`]). Then the watchdog runs, the late messages arrive, and the
//! comparison repeats.

pub mod campaign;
pub mod environment;
mod fault_schedule;
mod function;
mod model;
mod queue;
mod rest;
mod runner;
mod runtime;
mod scenario;
pub mod summary;
mod verify;

use std::collections::BTreeSet;
use std::fmt;

use anyhow::Result;
use fault_proxy::{CallFilter, Fault, FaultPlan, FaultRule, KillPoint, ProxyStats, Times};

use self::environment::Environment;
use self::fault_schedule::FaultSchedule;
use self::model::VerifyStage;
use self::runner::Runner;
use self::summary::Summary;
use self::verify::{FleetStats, verify};

/// One run of a seed.
#[derive(Debug)]
pub struct Trial {
    seed: u64,
    /// The prefix of its device ids, unique among the trials in an environment.
    name: String,
    fault_schedule: FaultSchedule,
    fault_source: FaultSource,
}

#[derive(Debug)]
enum FaultSource {
    /// The seed determines the faults.
    Seed,
    /// One process of ingest and batches of the maximum size, with a plan for ingest and one for a
    /// run of the watchdog.
    Plans(FaultPlan, Option<FaultPlan>),
}

/// The function that a fault is injected into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetProcess {
    /// The process that stores messages.
    Ingest,
    /// The process that detects missing messages and silent devices.
    Watchdog,
}

/// The result of a trial.
#[derive(Debug)]
pub struct Report {
    /// Differences between expected and actual data, one line each.
    pub differences: Vec<String>,
    /// Counts of messages, calls and faults.
    pub summary: Summary,
    /// The calls of the first process of ingest while its plan was active.
    pub ingest_calls: CallLog,
    /// The calls of the watchdog.
    pub watchdog_calls: CallLog,
}

/// Calls of a process, numbered from 1.
#[derive(Clone, Debug)]
pub struct CallLog {
    /// The number of calls.
    pub count: usize,
    /// The numbers of the calls that may write.
    writes: BTreeSet<usize>,
    /// The numbers of the first calls of invocations.
    invocation_starts: BTreeSet<usize>,
}

impl CallLog {
    /// The calls between two snapshots. `invocation_starts` are the numbers of the first calls of
    /// invocations, counted as in `after`.
    fn between(
        before: &ProxyStats,
        after: &ProxyStats,
        invocation_starts: &BTreeSet<usize>,
    ) -> Self {
        let earlier = before.total_calls();
        let later = |numbers: &BTreeSet<usize>| {
            numbers
                .iter()
                .filter(|number| **number > earlier)
                .map(|number| number - earlier)
                .collect()
        };
        let count = after.total_calls() - earlier;
        Self { count, writes: later(&after.writes), invocation_starts: later(invocation_starts) }
    }

    /// Whether a kill at this point of the `nth` call leaves a state that no other kill leaves. The
    /// state consists of the writes so far. So a process is killed before each call that may write,
    /// and after the last call of an invocation, whose result is then lost. A kill at any other
    /// point leaves the same state as one at the next of these points.
    #[must_use]
    pub fn is_distinct_kill_point(&self, nth: usize, moment: KillPoint) -> bool {
        match moment {
            KillPoint::BeforeCall => self.writes.contains(&nth),
            KillPoint::AfterCall => {
                nth == self.count || self.invocation_starts.contains(&(nth + 1))
            }
        }
    }
}

impl Trial {
    /// A trial with the faults of the seed and at most `processes` processes of ingest.
    #[must_use]
    pub fn from_seed(seed: u64, processes: usize) -> Self {
        let fault_schedule = FaultSchedule::from_seed(seed, processes);
        Self { seed, name: format!("soak{seed}"), fault_schedule, fault_source: FaultSource::Seed }
    }

    /// The scenario of a seed with a plan for ingest and one for the first run of the watchdog. One
    /// process with batches of the maximum size makes nearly the same calls in each run.
    #[must_use]
    pub fn from_plans(seed: u64, ingest: FaultPlan, watchdog: Option<FaultPlan>) -> Self {
        let plans = watchdog.iter().fold(ingest.to_string(), |text, plan| format!("{text}-{plan}"));
        let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name = format!("soak{seed}-{plans}").chars().take(80).map(letter).collect();
        let fault_schedule = FaultSchedule::from_plans(ingest.clone(), watchdog.clone());
        Self { seed, name, fault_schedule, fault_source: FaultSource::Plans(ingest, watchdog) }
    }

    /// The scenario of a seed with a fault at the `nth` call and at the following ones, `times` in
    /// all.
    #[must_use]
    pub fn with_fault_at_call(
        seed: u64,
        target: TargetProcess,
        nth: usize,
        fault: Fault,
        times: usize,
    ) -> Self {
        let rule = FaultRule { calls: CallFilter::Any, nth, times: Times::Count(times), fault };
        let plan = FaultPlan::from_iter([rule]);
        match target {
            TargetProcess::Ingest => Self::from_plans(seed, plan, None),
            TargetProcess::Watchdog => Self::from_plans(seed, FaultPlan::none(), Some(plan)),
        }
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The faults as text.
    #[must_use]
    pub fn fault_schedule(&self) -> String {
        self.fault_schedule.to_string()
    }

    /// Runs the trial and compares the results with the model.
    ///
    /// # Errors
    ///
    /// If the trial cannot be completed, which is a failure of the trial as well.
    pub async fn run(&self, environment: &mut Environment) -> Result<Report> {
        // New processes, so that no cache contains data of another trial.
        let mut tallies = Vec::new();
        for proxied in environment.proxied_functions() {
            proxied.function.stop().await;
            tallies.push(proxied.proxy.stats());
        }
        let before = FleetStats::read(&mut environment.api).await?;
        let scenario_run = runner::prepare(environment, self.seed, &self.name).await?;
        let runner = Runner::new(&scenario_run.scenario, &self.fault_schedule, self.seed);

        let ingest_calls =
            runner.run_ingest(environment, &scenario_run.fleet, &self.fault_schedule).await?;
        let report = verify(environment, &scenario_run, &before, VerifyStage::AfterIngest).await?;
        let mut differences: Vec<_> =
            report.differences.into_iter().map(|line| format!("after ingest: {line}")).collect();
        let watchdog_calls = runner.run_watchdog(environment, &self.fault_schedule).await?;
        let report =
            verify(environment, &scenario_run, &before, VerifyStage::AfterWatchdog).await?;
        differences
            .extend(report.differences.into_iter().map(|line| format!("after watchdog: {line}")));

        let mut summary = Summary::new(&scenario_run, &runner, &report.totals);
        for (proxied, before) in environment.proxied_functions().zip(&tallies) {
            summary.add_faults(before, &proxied.proxy.stats());
        }
        Ok(Report { differences, summary, ingest_calls, watchdog_calls })
    }
}

/// The command that repeats the trial.
impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "soak --seed {}", self.seed)?;
        match &self.fault_source {
            FaultSource::Seed => Ok(()),
            FaultSource::Plans(ingest, None) => write!(f, " --plan '{ingest}'"),
            FaultSource::Plans(ingest, Some(watchdog)) => {
                write!(f, " --plan '{ingest}' --watchdog-plan '{watchdog}'")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fault_proxy::{Call, Service};

    use super::*;

    #[test]
    fn kill_points_precede_each_write_and_follow_each_invocation() {
        let stats = |count: usize, writes: &[usize]| ProxyStats {
            calls: [(Call::new(Service::S3, "PUT"), count)].into(),
            writes: writes.iter().copied().collect(),
            ..ProxyStats::default()
        };
        // Ten calls of two invocations, from the 101st call on.
        let before = stats(100, &[50]);
        let after = stats(110, &[50, 102, 103, 107]);
        let calls = CallLog::between(&before, &after, &[7, 101, 106].into());
        let kills = |moment| -> Vec<_> {
            (1..=calls.count).filter(|nth| calls.is_distinct_kill_point(*nth, moment)).collect()
        };
        assert_eq!(
            (kills(KillPoint::BeforeCall), kills(KillPoint::AfterCall)),
            (vec![2, 3, 7], vec![5, 10])
        );
    }
}
