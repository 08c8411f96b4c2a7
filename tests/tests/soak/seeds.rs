//! Seeds of trouble against the real functions, see `blackbox::soak`.

use std::ops::ControlFlow;

use anyhow::{Result, ensure};
use blackbox::soak::Trial;
use blackbox::soak::campaign::{INGEST_PROCESSES, run_all, trials_at_every_call};
use fault_proxy::{Fault, KillPoint};

/// Worlds at once: most of a environment's time is waiting.
const ENVIRONMENTS: usize = 3;

/// A short scenario with everything in it: two devices, commands and their answers, absences and their alerts,
/// nonsense, and numbers that are missing.
const SHORT_SEED: u64 = 92;

/// Plays all of them; the first that fails is named with what is wrong and how to play it again.
async fn assert_all_pass(trials: Vec<Trial>) -> Result<()> {
    let mut failed = Vec::new();
    run_all(trials, ENVIRONMENTS, |ended| {
        println!("{}", ended.trial);
        let found = ended.failures();
        if found.is_empty() {
            return ControlFlow::Continue(());
        }
        let fault_schedule = ended.trial.fault_schedule();
        failed.push(format!("{}\n{fault_schedule}{}", ended.trial, found.join("\n")));
        ControlFlow::Break(())
    })
    .await?;
    ensure!(failed.is_empty(), "{}", failed.join("\n\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_dozen_seeds_of_trouble_lose_nothing_and_double_nothing() -> Result<()> {
    assert_all_pass((1..=24).map(|seed| Trial::from_seed(seed, INGEST_PROCESSES)).collect()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_and_watchdog_may_die_before_and_after_each_of_their_calls() -> Result<()> {
    let kills =
        [KillPoint::BeforeCall, KillPoint::AfterCall].map(|moment| (Fault::Killed(moment), 1));
    let trials = trials_at_every_call(SHORT_SEED, &kills).await?;
    ensure!(trials.len() > 10, "only {} kills: the scenario is not what it was", trials.len());
    assert_all_pass(trials).await
}
