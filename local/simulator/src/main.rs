//! `simulator`: see `simulator --help`.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use simulator::cli::Arguments;
use simulator::counters::Counters;
use simulator::fleet::operate;
use simulator::identities::Identities;
use simulator::limits::allow_connections;
use simulator::report::{Progress, summary};
use simulator::surroundings::Surroundings;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;
use tracing_subscriber::EnvFilter;

/// From one progress line to the next.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            // rumqttc reports every lost connection of every device at the level of errors.
            EnvFilter::try_from_default_env().unwrap_or_else(|_| "info,rumqttc=off".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();

    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let plan = arguments.plan(seed)?;
    let devices = plan.devices.len();
    allow_connections(devices)?;
    let counters = Arc::new(Counters::default());
    let mut surroundings = Surroundings::new(Arc::clone(&counters), arguments.restart_every);
    if let Some(folder) = &arguments.identities {
        let ids = plan.devices.iter().map(|device| device.device_id.as_str());
        surroundings.identities = Identities::read(folder, ids)?;
    }
    let surroundings = Arc::new(surroundings);
    let (stop, stopped) = watch::channel(false);
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;

    println!("Simulating {devices} devices on {} with --seed {seed}", arguments.broker);
    let mut fleet = tokio::spawn(operate(plan, Arc::clone(&surroundings), stopped));
    let mut progress = Progress::new(devices);
    let mut ticker = tokio::time::interval(PROGRESS_EVERY);
    ticker.tick().await;
    let time_is_up = tokio::time::sleep(arguments.duration.unwrap_or(Duration::MAX));
    tokio::pin!(time_is_up);
    let elapsed = || surroundings.clock.now().elapsed;
    let undelivered = loop {
        let stopping = *stop.borrow();
        let signalled = tokio::select! {
            ended = &mut fleet => break ended.context("running the fleet")?,
            _ = ticker.tick() => {
                println!("{}", progress.line(elapsed(), &counters));
                continue;
            }
            () = &mut time_is_up, if !stopping => false,
            _ = interrupt.recv() => true,
            _ = terminate.recv() => true,
        };
        if signalled && stopping {
            // Asked twice: last wills say the rest.
            return Ok(ExitCode::from(130));
        }
        info!("stopping: devices deliver what they have and say goodbye; once more ends at once");
        stop.send_replace(true);
    };
    print!("{}", summary(devices, seed, elapsed(), &counters, undelivered));
    Ok(if undelivered == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
