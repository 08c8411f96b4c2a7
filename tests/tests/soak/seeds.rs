//! Seeds of trouble against the real functions, see `blackbox::soak`.

use std::ops::ControlFlow;

use anyhow::{Result, ensure};
use blackbox::soak::Trial;
use blackbox::soak::campaign::{PROCESSES, at_every_call, play_all};
use faults::{Fault, Moment};

/// Worlds at once: most of a world's time is waiting.
const WORLDS: usize = 3;

/// A short story with everything in it: two devices, commands and their answers, absences and their alerts,
/// nonsense, and numbers that are missing.
const SHORT: u64 = 92;

/// Plays all of them; the first that fails is named with what is wrong and how to play it again.
async fn all_end_well(trials: Vec<Trial>) -> Result<()> {
    let mut failed = Vec::new();
    play_all(trials, WORLDS, |ended| {
        println!("{}", ended.trial);
        let found = ended.faults_found();
        if found.is_empty() {
            return ControlFlow::Continue(());
        }
        let misfortune = ended.trial.misfortune();
        failed.push(format!("{}\n{misfortune}{}", ended.trial, found.join("\n")));
        ControlFlow::Break(())
    })
    .await?;
    ensure!(failed.is_empty(), "{}", failed.join("\n\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_dozen_seeds_of_trouble_lose_nothing_and_double_nothing() -> Result<()> {
    all_end_well((1..=24).map(|seed| Trial::of(seed, PROCESSES)).collect()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_and_watchdog_may_die_before_and_after_each_of_their_calls() -> Result<()> {
    let deaths = [Moment::Before, Moment::After].map(|moment| (Fault::Killed(moment), 1));
    let trials = at_every_call(SHORT, &deaths).await?;
    ensure!(trials.len() > 10, "only {} deaths: the story is not what it was", trials.len());
    all_end_well(trials).await
}
