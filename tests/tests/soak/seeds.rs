//! Scenarios with faults against the functions; see `blackbox::soak`.

use std::ops::ControlFlow;

use anyhow::{Result, ensure};
use blackbox::soak::Trial;
use blackbox::soak::campaign::{INGEST_PROCESSES, run_all, trials_at_every_call};
use fault_proxy::{Fault, KillPoint};

/// Environments that run at the same time; most of an environment's time is waiting.
const ENVIRONMENTS: usize = 3;

/// A short scenario with two devices, acknowledgements, offline periods, invalid messages and gaps.
const SHORT_SEED: u64 = 92;

/// Runs all trials. The first failure is reported with its differences and the command to repeat
/// it.
async fn assert_all_pass(trials: Vec<Trial>) -> Result<()> {
    let mut failed = Vec::new();
    run_all(trials, ENVIRONMENTS, |ended| {
        println!("{}", ended.trial);
        let failures = ended.failures();
        if failures.is_empty() {
            return ControlFlow::Continue(());
        }
        let fault_schedule = ended.trial.fault_schedule();
        failed.push(format!("{}\n{fault_schedule}{}", ended.trial, failures.join("\n")));
        ControlFlow::Break(())
    })
    .await?;
    ensure!(failed.is_empty(), "{}", failed.join("\n\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn seeds_with_random_faults_store_each_message_once() -> Result<()> {
    assert_all_pass((1..=24).map(|seed| Trial::from_seed(seed, INGEST_PROCESSES)).collect()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_at_each_call_of_ingest_and_watchdog_loses_no_message() -> Result<()> {
    let kills =
        [KillPoint::BeforeCall, KillPoint::AfterCall].map(|moment| (Fault::Killed(moment), 1));
    let trials = trials_at_every_call(SHORT_SEED, &kills).await?;
    ensure!(
        trials.len() > 10,
        "expected more than 10 kills, actual {}: the scenario of the seed has changed",
        trials.len()
    );
    assert_all_pass(trials).await
}
