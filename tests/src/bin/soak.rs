//! `soak`: see `soak --help`.

use std::io::{IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;
use blackbox::soak::Trial;
use blackbox::soak::campaign::{INGEST_PROCESSES, TrialResult, run_all, trials_at_every_call};
use blackbox::soak::summary::Summary;
use clap::Parser;
use fault_proxy::{Fault, FaultPlan, KillPoint};

/// More often than the SDK tries.
const MORE_THAN_SDK_ATTEMPTS: usize = 5;

/// Differences that are shown of a seed.
const MAX_SHOWN_DIFFERENCES: usize = 20;

/// Plays seeds of trouble against the real functions, and holds what the REST API answers in the end
/// against a model: nothing lost, nothing doubled.
///
/// Exits with 1 when something is. A seed is played again by `soak --seed N`: the same messages, and the
/// same faults at the same calls, as far as the calls come in the same order. Ctrl-C ends it after the seeds that are
/// being played, with the summary of those that were.
#[derive(Parser)]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,

    /// The first one
    #[arg(long, default_value_t = 1)]
    first_seed: u64,

    /// Play this seed and no other
    #[arg(long, conflicts_with_all = ["seeds", "first_seed"])]
    seed: Option<u64>,

    /// Play the seed's scenario under this plan, in one process (see `fault-proxy --help`)
    #[arg(long, requires = "seed")]
    plan: Option<FaultPlan>,

    /// And the first run of the watchdog under this one
    #[arg(long, value_name = "PLAN", requires = "plan")]
    watchdog_plan: Option<FaultPlan>,

    /// Play the seed's scenario once for each call that it makes, and each way in which that can fail for
    /// good: the process is killed before it or after it, it is lost, its answer is lost
    #[arg(long, requires = "seed", conflicts_with = "plan")]
    every_call: bool,

    /// Environments that are played in at the same time, each with an endpoint of its own
    #[arg(long, default_value_t = 2)]
    jobs: usize,

    /// End at the first failure
    #[arg(long)]
    fail_fast: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let trials = trials(&arguments).await?;
    let count = trials.len();
    let started = Instant::now();
    let interrupted = interrupt_flag();
    let (mut summary, mut failed, mut done) = (Summary::default(), Vec::new(), 0);
    run_all(trials, arguments.jobs, |ended| {
        done += 1;
        let is_good = ended.failures().is_empty();
        if !is_good {
            print_failure(&ended);
            failed.push(ended.trial.to_string());
        }
        if let Ok(report) = &ended.result {
            summary += &report.summary;
        }
        print_progress(done, count, failed.len(), started);
        match interrupted.load(Ordering::Relaxed) || (arguments.fail_fast && !is_good) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })
    .await?;
    println!("\n{summary}{:<34}{:>9.0} s", "time", started.elapsed().as_secs_f64());
    if done < count {
        println!("{} were not played", count - done);
    }
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

/// Becomes true with Ctrl-C: what is being played is played to its end, and what it all came to is told.
fn interrupt_flag() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            flag.store(true, Ordering::Relaxed);
        }
    });
    interrupted
}

async fn trials(arguments: &Arguments) -> Result<Vec<Trial>> {
    Ok(match (arguments.seed, &arguments.plan) {
        (Some(seed), Some(plan)) => {
            vec![Trial::from_plans(seed, plan.clone(), arguments.watchdog_plan.clone())]
        }
        (Some(seed), None) if arguments.every_call => {
            let faults = [
                (Fault::Killed(KillPoint::BeforeCall), 1),
                (Fault::Killed(KillPoint::AfterCall), 1),
                (Fault::RequestLost, MORE_THAN_SDK_ATTEMPTS),
                (Fault::ResponseLost, MORE_THAN_SDK_ATTEMPTS),
            ];
            trials_at_every_call(seed, &faults).await?
        }
        (Some(seed), None) => vec![Trial::from_seed(seed, INGEST_PROCESSES)],
        (None, _) => {
            let end = arguments.first_seed.saturating_add(arguments.seeds);
            (arguments.first_seed..end)
                .map(|seed| Trial::from_seed(seed, INGEST_PROCESSES))
                .collect()
        }
    })
}

fn print_failure(ended: &TrialResult) {
    let trial = &ended.trial;
    println!("\nseed {} failed; to play it again: {trial}", trial.seed());
    print!("{}", trial.fault_schedule());
    let found = ended.failures();
    for line in found.iter().take(MAX_SHOWN_DIFFERENCES) {
        println!("  {line}");
    }
    if found.len() > MAX_SHOWN_DIFFERENCES {
        println!("  and {} more", found.len() - MAX_SHOWN_DIFFERENCES);
    }
    if let Some(logs) = &ended.logs {
        println!("  logs of the functions: {}", logs.display());
    }
}

/// A line that is written over in a terminal, and one now and then in a file.
fn print_progress(done: usize, count: usize, failed: usize, started: Instant) {
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
