//! `soak`: see `soak --help`.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use blackbox::soak::summary::Summary;
use blackbox::soak::world::World;
use blackbox::soak::{Report, Trial};
use clap::Parser;
use faults::{Fault, Moment, Plan};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Processes of ingest in a world.
const PROCESSES: usize = 2;

/// More often than the SDK tries.
const MORE_THAN_TRIED: usize = 5;

/// Plays seeds of trouble against the real ingest function, and holds what the REST API answers in the end
/// against a model: nothing lost, nothing doubled.
///
/// Exits with 1 when something is. A seed is played again by `soak --seed N`: the same messages, and the
/// same faults at the same calls, as far as the calls come in the same order.
#[derive(Parser)]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,

    /// The first one
    #[arg(long, default_value_t = 1)]
    first: u64,

    /// Play this seed and no other
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,

    /// Play the seed's story under this plan, in one process (see `faults --help`)
    #[arg(long, requires = "seed")]
    plan: Option<Plan>,

    /// Play the seed's story once for each call that it makes, and each way in which that can fail for
    /// good: the process is killed before it or after it, it is lost, its answer is lost
    #[arg(long, requires = "seed", conflicts_with = "plan")]
    every_call: bool,

    /// Worlds that are played in at the same time, each with an endpoint of its own
    #[arg(long, default_value_t = 2)]
    jobs: usize,

    /// End at the first failure
    #[arg(long)]
    stop: bool,
}

/// A trial and what became of it.
type News = (Trial, Result<Report>);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut trials = trials(&arguments).await?;
    let count = trials.len();
    // Taken from the end.
    trials.reverse();
    let trials = Mutex::new(trials);
    let started = Instant::now();
    let (news, mut told) = unbounded_channel();
    let jobs: Vec<_> = (0..arguments.jobs.clamp(1, count.max(1)))
        .map(|_| play(&trials, arguments.stop, news.clone()))
        .collect();
    drop(news);
    let listen = async {
        let (mut summary, mut failed) = (Summary::default(), Vec::new());
        let mut done = 0;
        while let Some((trial, result)) = told.recv().await {
            done += 1;
            if show(&trial, &result) {
                failed.push(trial.to_string());
            }
            if let Ok(report) = &result {
                summary += &report.summary;
            }
            progress(done, count, failed.len(), started);
        }
        (summary, failed)
    };
    let (played, (summary, failed)) = tokio::join!(futures::future::try_join_all(jobs), listen);
    played?;
    println!("\n{summary}{:<34}{:>9.0} s", "time", started.elapsed().as_secs_f64());
    if failed.is_empty() {
        println!("nothing lost, nothing doubled");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} failed; to play them again:", failed.len());
    for trial in failed {
        println!("  {trial}");
    }
    Ok(ExitCode::FAILURE)
}

async fn trials(arguments: &Arguments) -> Result<Vec<Trial>> {
    Ok(match (arguments.seed, &arguments.plan) {
        (Some(seed), Some(plan)) => vec![Trial::with_plan(seed, plan.clone())],
        (Some(seed), None) if arguments.every_call => {
            let mut world = World::start(PROCESSES).await?;
            let calls = Trial::with_plan(seed, Plan::none()).play(&mut world).await?.calls;
            world.stop().await;
            println!("seed {seed} makes {calls} calls");
            let at_call = |nth| {
                [
                    (Fault::Killed(Moment::Before), 1),
                    (Fault::Killed(Moment::After), 1),
                    (Fault::Lost, MORE_THAN_TRIED),
                    (Fault::AnswerLost, MORE_THAN_TRIED),
                ]
                .map(|(fault, times)| Trial::at_call(seed, nth, fault, times))
            };
            (1..=calls).flat_map(at_call).collect()
        }
        (Some(seed), None) => vec![Trial::of(seed, PROCESSES)],
        (None, _) => {
            let end = arguments.first.saturating_add(arguments.seeds);
            (arguments.first..end).map(|seed| Trial::of(seed, PROCESSES)).collect()
        }
    })
}

/// Plays trials in a world of its own until there are no more.
async fn play(trials: &Mutex<Vec<Trial>>, stop: bool, news: UnboundedSender<News>) -> Result<()> {
    let take = || trials.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut world = World::start(PROCESSES).await?;
    while let Some(trial) = take() {
        let result = trial.play(&mut world).await;
        let is_good = result.as_ref().is_ok_and(|report| report.differences.is_empty());
        if !is_good {
            println!("\nthe logs of the functions are kept in {}", world.keep_logs().display());
        }
        if !is_good && stop {
            while take().is_some() {}
        }
        // Nobody listens any more only when nobody cares.
        let _ = news.send((trial, result));
    }
    drop(news);
    world.stop().await;
    Ok(())
}

/// Prints what is wrong; whether anything is.
fn show(trial: &Trial, result: &Result<Report>) -> bool {
    let differences = match result {
        Ok(report) if report.differences.is_empty() => return false,
        Ok(report) => &report.differences,
        Err(error) => &vec![format!("it was not played to its end: {error:#}")],
    };
    println!("\nseed {} failed; to play it again: {trial}", trial.seed());
    print!("{}", trial.misfortune());
    for difference in differences.iter().take(20) {
        println!("  {difference}");
    }
    if differences.len() > 20 {
        println!("  and {} more", differences.len() - 20);
    }
    true
}

/// A line that is written over in a terminal, and one now and then in a file.
fn progress(done: usize, count: usize, failed: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let line = format!("{done} of {count} played, {failed} failed, {seconds:.0} s");
    if std::io::stdout().is_terminal() {
        print!("\r{line}");
        // The next line shows what this one could not.
        let _ = std::io::stdout().flush();
    } else if done.is_multiple_of(25) || done == count {
        println!("{line}");
    }
}
