//! Runs many trials in several environments at the same time.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};
use fault_proxy::{Fault, FaultPlan};
use futures::future::try_join_all;

use super::environment::Environment;
use super::{Report, TargetProcess, Trial};

/// Processes of ingest in an environment.
pub const INGEST_PROCESSES: usize = 2;

/// Trials after which an environment is replaced: its endpoint slows down with the amount of data.
const MAX_TRIALS_PER_ENVIRONMENT: usize = 50;

/// A trial and its result.
#[derive(Debug)]
pub struct TrialResult {
    /// The trial.
    pub trial: Trial,
    /// Its report, or the error that ended it.
    pub result: Result<Report>,
    /// The directory with the logs of the functions, if the trial failed.
    pub logs: Option<PathBuf>,
}

impl TrialResult {
    /// The failures, one line each.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        match &self.result {
            Ok(report) => report.differences.clone(),
            Err(error) => vec![format!("the trial did not complete: {error:#}")],
        }
    }
}

/// Runs trials in order, each in the next free environment, and passes each result to `on_result`.
/// Ends after the last trial, or when `on_result` returns `Break`.
///
/// # Errors
///
/// If an environment cannot be started.
pub async fn run_all(
    trials: Vec<Trial>,
    environments: usize,
    on_result: impl FnMut(TrialResult) -> ControlFlow<()> + Send,
) -> Result<()> {
    let environments = environments.clamp(1, trials.len().max(1));
    let trials = Mutex::new(trials.into_iter());
    let on_result = Mutex::new(on_result);
    let take = || trials.lock().unwrap_or_else(PoisonError::into_inner).next();
    let stop = || while take().is_some() {};
    let run_trials = async || {
        let mut environment = Environment::start(INGEST_PROCESSES).await?;
        let mut played = 0;
        while let Some(trial) = take() {
            if played == MAX_TRIALS_PER_ENVIRONMENT {
                environment.stop().await;
                environment = Environment::start(INGEST_PROCESSES).await?;
                played = 0;
            }
            played += 1;
            let result = trial.run(&mut environment).await;
            let is_good = result.as_ref().is_ok_and(|report| report.differences.is_empty());
            let logs = (!is_good).then(|| environment.keep_logs());
            let mut on_result = on_result.lock().unwrap_or_else(PoisonError::into_inner);
            if on_result(TrialResult { trial, result, logs }).is_break() {
                stop();
            }
        }
        environment.stop().await;
        anyhow::Ok(())
    };
    try_join_all((0..environments).map(|_| run_trials())).await.map(drop)
}

/// One trial for each call of ingest and of the watchdog in the scenario of a seed and each of the
/// faults, repeated as often as given. A first run without faults counts the calls. Of several
/// kills that leave the same state, one is included.
///
/// # Errors
///
/// If the environment cannot be started, or the scenario fails without faults.
pub async fn trials_at_every_call(seed: u64, faults: &[(Fault, usize)]) -> Result<Vec<Trial>> {
    let mut environment = Environment::start(INGEST_PROCESSES).await?;
    let report = Trial::from_plans(seed, FaultPlan::none(), None).run(&mut environment).await?;
    environment.stop().await;
    ensure!(report.differences.is_empty(), "without faults: {}", report.differences.join("\n"));
    let mut trials = Vec::new();
    for (target, calls) in [
        (TargetProcess::Ingest, report.ingest_calls),
        (TargetProcess::Watchdog, report.watchdog_calls),
    ] {
        for nth in 1..=calls.count {
            for (fault, times) in faults {
                let is_distinct = match fault {
                    Fault::Killed(moment) => calls.is_distinct_kill_point(nth, *moment),
                    _ => true,
                };
                if is_distinct {
                    trials.push(Trial::with_fault_at_call(seed, target, nth, *fault, *times));
                }
            }
        }
    }
    Ok(trials)
}
