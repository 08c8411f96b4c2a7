//! `replay`: see `replay --help`, and docs/archive.md.

mod checkpoint;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use meter_aws::Clients;
use meter_domain::id::{DeviceId, InvalidDeviceId};
use meter_domain::time::Timestamp;
use meter_http::range::{InvalidTime, parse_time};
use meter_runtime::settings::{self, Ingest, Presence};
use meter_runtime::{AwsStores, StoreSettings};
use meter_service::replay::{ArchiveCursor, Replay, ReplayProgress, ReplayScope};
use meter_store::{Stores, retry};
use tracing_subscriber::EnvFilter;

use self::checkpoint::Checkpoint;

/// How often it is said, and noted, how far it is: what was done since is done again after an end
/// on the way.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// Builds the metrics, and the index of the archive, again from the archive.
///
/// It stores what ingest stored, under the same identities: what is there already does not change,
/// and two runs do no harm. Presence, alerts and commands are left alone. A run that was stopped
/// goes on where it was when the same command is given again. The functions' settings are read from
/// the environment.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Only messages received at this time or later: a date and time (RFC 3339), or a duration
    /// before now (-7d)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = parse_time_argument)]
    start: String,
    /// Only messages received before this time
    #[arg(long, value_name = "TIME", default_value = "now()", allow_hyphen_values = true, value_parser = parse_time_argument)]
    stop: String,
    /// Only messages of this device
    #[arg(long, value_name = "DEVICE_ID", value_parser = parse_device_id)]
    device: Option<DeviceId>,
    /// Begin again where a run before was stopped on its way
    #[arg(long)]
    restart: bool,
}

/// A text that is a time whenever it is read.
fn parse_time_argument(text: &str) -> Result<String, InvalidTime> {
    parse_time(text, Timestamp::now()).map(|_| text.to_owned())
}

fn parse_device_id(text: &str) -> Result<DeviceId, InvalidDeviceId> {
    DeviceId::parse(text)
}

impl Arguments {
    fn scope(&self, now: Timestamp) -> Result<ReplayScope> {
        let (start, stop) = (parse_time(&self.start, now)?, parse_time(&self.stop, now)?);
        anyhow::ensure!(start < stop, "--start: is {start}, not before --stop, {stop}");
        Ok(ReplayScope { device: self.device.clone(), start, stop })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    init_logging();
    let scope = arguments.scope(Timestamp::now())?;
    let replay = aws_replay().await?;
    let checkpoint = Checkpoint::new(replay.stores.archive(), &arguments);
    let mut progress = ReplayProgress::default();
    if !arguments.restart
        && let Some(stored) = checkpoint.read().await?
    {
        eprintln!(
            "going on after a run that was stopped (--restart begins again): {}",
            stored.counts
        );
        progress = stored;
    }
    tokio::select! {
        done = run(&replay, &scope, &checkpoint, &mut progress) => {
            done.context("the same command goes on from here, once this works")?;
        }
        _ = tokio::signal::ctrl_c() => {
            anyhow::bail!("stopped; the same command goes on from here");
        }
    }
    println!("{}", progress.counts);
    Ok(())
}

/// To the end, with notes on the way.
async fn run(
    replay: &Replay<AwsStores>,
    scope: &ReplayScope,
    checkpoint: &Checkpoint<'_>,
    progress: &mut ReplayProgress,
) -> Result<()> {
    let mut last_report = Instant::now();
    while progress.cursor != ArchiveCursor::Done {
        *progress = step_with_retry(replay, scope, progress).await?;
        if last_report.elapsed() >= REPORT_INTERVAL {
            last_report = Instant::now();
            checkpoint.write(progress).await?;
            if let ArchiveCursor::Batches(after) | ArchiveCursor::Messages(after) = &progress.cursor
            {
                eprintln!("{after}: {}", progress.counts);
            }
        }
    }
    checkpoint.remove().await
}

/// A store that throttles is asked again, later each time.
async fn step_with_retry(
    replay: &Replay<AwsStores>,
    scope: &ReplayScope,
    progress: &ReplayProgress,
) -> Result<ReplayProgress> {
    let mut attempt = 0;
    loop {
        match replay.step(scope, progress, Timestamp::now()).await {
            Err(error) if attempt < retry::MAX_ATTEMPTS => {
                tracing::warn!(%error, attempt, "again");
                retry::wait(attempt).await;
                attempt += 1;
            }
            answer => return Ok(answer?),
        }
    }
}

/// With the settings, and so with the decisions, of ingest.
async fn aws_replay() -> Result<Replay<AwsStores>> {
    let (stores, ingest, presence): (StoreSettings, Ingest, Presence) = settings::load()?;
    let clients = Clients::from_environment().await;
    Ok(Replay {
        stores: AwsStores::new(&clients, &stores),
        policy: ingest.device_policy(&presence, &stores.metrics, &stores.alerting),
        ttl_days: ingest.message_ttl_days(),
    })
}

fn init_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .without_time()
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
}
