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

/// More than the attempts of the AWS SDK.
const MORE_THAN_SDK_ATTEMPTS: usize = 5;

/// The number of differences of a seed in the output.
const MAX_SHOWN_DIFFERENCES: usize = 20;

/// Run random scenarios with faults against the functions and compare the results with a model
///
/// The exit status is 1 if a message is lost or duplicated. `soak --seed N` repeats a seed: the
/// same messages, and the same faults at the same calls if the order of calls is the same. Ctrl-C
/// ends the run after the current seeds and prints the summary.
#[derive(Parser)]
struct Arguments {
    /// Number of seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,

    /// First seed
    #[arg(long, default_value_t = 1)]
    first_seed: u64,

    /// Run only this seed
    #[arg(long, conflicts_with_all = ["seeds", "first_seed"])]
    seed: Option<u64>,

    /// Run the scenario of the seed with this fault plan, in one process (see `fault-proxy --help`)
    #[arg(long, requires = "seed")]
    plan: Option<FaultPlan>,

    /// Fault plan of the first run of the watchdog
    #[arg(long, value_name = "PLAN", requires = "plan")]
    watchdog_plan: Option<FaultPlan>,

    /// Run the scenario of the seed once for each of its calls and each permanent fault: kill
    /// before or after the call, lost request, lost response
    #[arg(long, requires = "seed", conflicts_with = "plan")]
    every_call: bool,

    /// Number of environments that run at the same time, each with an AWS endpoint
    #[arg(long, default_value_t = 2)]
    jobs: usize,

    /// Stop at the first failure
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
        println!("{} seeds were not run", count - done);
    }
    if failed.is_empty() {
        println!("no message is lost or duplicated");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} failed; repeat them with:", failed.len());
    for trial in failed {
        println!("  {trial}");
    }
    Ok(ExitCode::FAILURE)
}

/// A flag that Ctrl-C sets, so that the current trials complete and the summary is printed.
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
    println!("\nseed {} failed; repeat it with: {trial}", trial.seed());
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

/// Prints a progress line: overwritten in a terminal, every 25 trials otherwise.
fn print_progress(done: usize, count: usize, failed: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let line = format!("{done} of {count} completed, {failed} failed, {seconds:.0} s");
    if std::io::stdout().is_terminal() {
        print!("\r{line}");
        // An error affects only the display.
        let _ = std::io::stdout().flush();
    } else if done.is_multiple_of(25) || done == count {
        println!("{line}");
    }
}
