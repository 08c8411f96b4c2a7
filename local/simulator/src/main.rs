//! `simulator`: see `simulator --help`.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use simulator::cli::Arguments;
use simulator::counters::Counters;
use simulator::fleet::run_fleet;
use simulator::fleet_context::FleetContext;
use simulator::identities::Identities;
use simulator::limits::raise_open_file_limit;
use simulator::report::{ProgressReport, summary};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;
use tracing_subscriber::EnvFilter;

/// The interval of progress lines.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            // rumqttc logs every lost connection of every device as an error.
            EnvFilter::try_from_default_env().unwrap_or_else(|_| "info,rumqttc=off".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();

    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let plan = arguments.plan(seed)?;
    let devices = plan.devices.len();
    raise_open_file_limit(devices)?;
    let counters = Arc::new(Counters::default());
    let mut fleet_context = FleetContext::new(Arc::clone(&counters), arguments.restart_every);
    if let Some(folder) = &arguments.identities {
        let ids = plan.devices.iter().map(|device| device.device_id.as_str());
        fleet_context.identities = Identities::read(folder, ids)?;
    }
    let fleet_context = Arc::new(fleet_context);
    let (stop, stopped) = watch::channel(false);
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;

    println!("Simulating {devices} devices on {} with --seed {seed}", arguments.broker);
    let mut fleet = tokio::spawn(run_fleet(plan, Arc::clone(&fleet_context), stopped));
    let mut progress = ProgressReport::new(devices);
    let mut ticker = tokio::time::interval(PROGRESS_INTERVAL);
    ticker.tick().await;
    let time_is_up = tokio::time::sleep(arguments.duration.unwrap_or(Duration::MAX));
    tokio::pin!(time_is_up);
    let elapsed = || fleet_context.clock.now().elapsed;
    let undelivered = loop {
        let stopping = *stop.borrow();
        let signalled = tokio::select! {
            ended = &mut fleet => break ended.context("the fleet has failed")?,
            _ = ticker.tick() => {
                println!("{}", progress.line(elapsed(), &counters));
                continue;
            }
            () = &mut time_is_up, if !stopping => false,
            _ = interrupt.recv() => true,
            _ = terminate.recv() => true,
        };
        if signalled && stopping {
            // The second signal: the broker publishes the last wills.
            return Ok(ExitCode::from(130));
        }
        info!(
            "stopping: devices deliver their messages and disconnect; a second Ctrl-C ends at once"
        );
        stop.send_replace(true);
    };
    print!("{}", summary(devices, seed, elapsed(), &counters, undelivered));
    Ok(if undelivered == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
