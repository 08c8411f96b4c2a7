//! Soak: seeds of trouble, each played against the real `ingest` and held against a model.
//!
//! A seed decides who says what ([`scenario`]) and what goes wrong meanwhile ([`fault_schedule`]). It is played
//! ([`runner`]) in a [`environment`]: an endpoint with the stores in it, and the functions as processes that are
//! given their events directly ([`function`], [`runtime`]), so that no broker and no queue cost time, and
//! the [`queue`] may behave as badly as SQS is allowed to. Each process reaches the endpoint through a
//! proxy of its own ([`fault_proxy`]), which loses, delays and refuses calls and kills the process. When nothing
//! goes wrong any more and everything is delivered, what the REST API answers must be what the [`model`]
//! says ([`verify`]); then the watchdog looks for what did not come, and that comes after all.

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

/// A seed, and how it is played.
#[derive(Debug)]
pub struct Trial {
    seed: u64,
    /// What the ids of its devices begin with: no two trials in a environment have the same.
    name: String,
    fault_schedule: FaultSchedule,
    fault_source: FaultSource,
}

#[derive(Debug)]
enum FaultSource {
    /// The seed decides.
    Seed,
    /// One process, the largest batches, and plans for it and for a run of the watchdog.
    Plans(FaultPlan, Option<FaultPlan>),
}

/// Whose calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetProcess {
    /// Those of the process that handles messages.
    Ingest,
    /// Those of one that looks for what did not come.
    Watchdog,
}

/// What a trial came to.
#[derive(Debug)]
pub struct Report {
    /// What is not as it must be, one line each.
    pub differences: Vec<String>,
    /// In numbers.
    pub summary: Summary,
    /// The calls of the first process of ingest while things could go wrong.
    pub ingest_calls: CallLog,
    /// Those of the watchdog.
    pub watchdog_calls: CallLog,
}

/// Calls of a process, numbered from 1.
#[derive(Clone, Debug)]
pub struct CallLog {
    /// How many.
    pub count: usize,
    /// Those that may change something.
    writes: BTreeSet<usize>,
    /// The first ones of invocations.
    invocation_starts: BTreeSet<usize>,
}

impl CallLog {
    /// `first` are the numbers of the first calls of invocations in the later tally.
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

    /// Whether to die at this moment of the `nth` call is like no other death. What a process leaves behind is what its
    /// calls have changed. So it dies before each call that may change something, and when the last one of an invocation
    /// is done, of which nobody hears then. At any other moment it leaves what it leaves at the next of these.
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
    /// Everything as the seed decides, with so many processes of ingest at most.
    #[must_use]
    pub fn from_seed(seed: u64, processes: usize) -> Self {
        let fault_schedule = FaultSchedule::from_seed(seed, processes);
        Self { seed, name: format!("soak{seed}"), fault_schedule, fault_source: FaultSource::Seed }
    }

    /// The seed's scenario under a plan for ingest, and one for a first run of the watchdog, in one process
    /// and in batches as large as can be, so that the calls are the same each time, or nearly.
    #[must_use]
    pub fn from_plans(seed: u64, ingest: FaultPlan, watchdog: Option<FaultPlan>) -> Self {
        let plans = watchdog.iter().fold(ingest.to_string(), |text, plan| format!("{text}-{plan}"));
        let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name = format!("soak{seed}-{plans}").chars().take(80).map(letter).collect();
        let fault_schedule = FaultSchedule::from_plans(ingest.clone(), watchdog.clone());
        Self { seed, name, fault_schedule, fault_source: FaultSource::Plans(ingest, watchdog) }
    }

    /// The seed's scenario with a fault at one call, and so many after it.
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

    /// What goes wrong, for a person.
    #[must_use]
    pub fn fault_schedule(&self) -> String {
        self.fault_schedule.to_string()
    }

    /// Plays it and compares.
    ///
    /// # Errors
    /// When it could not be played to its end, which is a failure of the trial as well.
    pub async fn run(&self, environment: &mut Environment) -> Result<Report> {
        // New processes, so that a trial finds none that remembers another one.
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
            report.differences.into_iter().map(|line| format!("told: {line}")).collect();
        let watchdog_calls = runner.run_watchdog(environment, &self.fault_schedule).await?;
        let report =
            verify(environment, &scenario_run, &before, VerifyStage::AfterWatchdog).await?;
        differences.extend(report.differences.into_iter().map(|line| format!("watched: {line}")));

        let mut summary = Summary::new(&scenario_run, &runner, &report.totals);
        for (proxied, before) in environment.proxied_functions().zip(&tallies) {
            summary.add_faults(before, &proxied.proxy.stats());
        }
        Ok(Report { differences, summary, ingest_calls, watchdog_calls })
    }
}

/// How to play it again.
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
    fn a_process_dies_before_each_call_that_changes_something_and_at_the_end_of_each_invocation() {
        let stats = |count: usize, writes: &[usize]| ProxyStats {
            calls: [(Call::new(Service::S3, "PUT"), count)].into(),
            writes: writes.iter().copied().collect(),
            ..ProxyStats::default()
        };
        // Ten calls from the 101st on, of two invocations.
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
