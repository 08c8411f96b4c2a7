//! Many trials, in several worlds at once.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};
use faults::{Fault, Plan};
use futures::future::try_join_all;

use super::world::World;
use super::{Report, Trial, Whose};

/// Processes of ingest in a world.
pub const PROCESSES: usize = 2;

/// Trials that are played in a world before another one is started: its endpoint gets slower the more it holds.
const TRIALS_A_WORLD: usize = 50;

/// A trial that was played.
#[derive(Debug)]
pub struct Ended {
    /// Which.
    pub trial: Trial,
    /// What it came to; an error means that it was not played to its end.
    pub result: Result<Report>,
    /// Where the functions' logs are kept, if something is wrong.
    pub logs: Option<PathBuf>,
}

impl Ended {
    /// What is wrong, one line each.
    #[must_use]
    pub fn faults_found(&self) -> Vec<String> {
        match &self.result {
            Ok(report) => report.differences.clone(),
            Err(error) => vec![format!("it was not played to its end: {error:#}")],
        }
    }
}

/// Plays trials in order, each in the world that is free first, and tells of each as it ends, until there are
/// no more or the answer is to break off.
///
/// # Errors
/// When a world cannot be started.
pub async fn play_all(
    trials: Vec<Trial>,
    worlds: usize,
    tell: impl FnMut(Ended) -> ControlFlow<()> + Send,
) -> Result<()> {
    let worlds = worlds.clamp(1, trials.len().max(1));
    let trials = Mutex::new(trials.into_iter());
    let tell = Mutex::new(tell);
    let take = || trials.lock().unwrap_or_else(PoisonError::into_inner).next();
    let stop = || while take().is_some() {};
    let play = async || {
        let mut world = World::start(PROCESSES).await?;
        let mut played = 0;
        while let Some(trial) = take() {
            if played == TRIALS_A_WORLD {
                world.stop().await;
                world = World::start(PROCESSES).await?;
                played = 0;
            }
            played += 1;
            let result = trial.play(&mut world).await;
            let is_good = result.as_ref().is_ok_and(|report| report.differences.is_empty());
            let logs = (!is_good).then(|| world.keep_logs());
            let mut tell = tell.lock().unwrap_or_else(PoisonError::into_inner);
            if tell(Ended { trial, result, logs }).is_break() {
                stop();
            }
        }
        world.stop().await;
        anyhow::Ok(())
    };
    try_join_all((0..worlds).map(|_| play())).await.map(drop)
}

/// The seed's story once for each call that it makes, of ingest and of the watchdog, and each of these faults
/// at it, so many times in a row. Played once without a fault, to count. Of deaths that
/// leave the same behind one is played.
///
/// # Errors
/// When the world cannot be started, or the story fails without a fault.
pub async fn at_every_call(seed: u64, faults: &[(Fault, usize)]) -> Result<Vec<Trial>> {
    let mut world = World::start(PROCESSES).await?;
    let report = Trial::with_plans(seed, Plan::none(), None).play(&mut world).await?;
    world.stop().await;
    ensure!(report.differences.is_empty(), "without a fault: {}", report.differences.join("\n"));
    let mut trials = Vec::new();
    for (whose, calls) in
        [(Whose::Ingest, report.ingest_calls), (Whose::Watchdog, report.watchdog_calls)]
    {
        for nth in 1..=calls.count {
            for (fault, times) in faults {
                let is_like_no_other = match fault {
                    Fault::Killed(moment) => calls.is_a_death_of_its_own(nth, *moment),
                    _ => true,
                };
                if is_like_no_other {
                    trials.push(Trial::at_call(seed, whose, nth, *fault, *times));
                }
            }
        }
    }
    Ok(trials)
}
