//! `replay`: see `replay --help`, and docs/archive.md.

mod mark;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use meter_aws::settings::{ArchiveBucket, Tables};
use meter_aws::{Bucket, Clients, dynamodb};
use meter_domain::id::{BadDeviceId, DeviceId};
use meter_domain::time::Timestamp;
use meter_http::range::{BadTime, parse_time};
use meter_runtime::settings::{self, Alerting, Ingest, Metrics, Presence};
use meter_service::replay::{Progress, Replay, Scope, Walk};
use meter_store::retry;
use tracing_subscriber::EnvFilter;

use self::mark::Mark;

/// How often it is said, and noted, how far it is: what was done since is done again after an end on the way.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// Builds the metrics, and the index of the archive, again from the archive.
///
/// It stores what ingest stored, under the same identities: what is there already does not change, and two runs do
/// no harm. Presence, alerts and commands are left alone. A run that was stopped goes on where it was when the same
/// command is given again. The functions' settings are read from the environment.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Only messages received at this time or later: a date and time (RFC 3339), or a duration before now (-7d)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time)]
    start: String,
    /// Only messages received before this time
    #[arg(long, value_name = "TIME", default_value = "now()", allow_hyphen_values = true, value_parser = time)]
    stop: String,
    /// Only messages of this device
    #[arg(long, value_name = "DEVICE_ID", value_parser = device)]
    device: Option<DeviceId>,
    /// Begin again where a run before was stopped on its way
    #[arg(long)]
    again: bool,
}

/// A text that is a time whenever it is read.
fn time(text: &str) -> Result<String, BadTime> {
    parse_time(text, Timestamp::now()).map(|_| text.to_owned())
}

fn device(text: &str) -> Result<DeviceId, BadDeviceId> {
    DeviceId::parse(text)
}

impl Arguments {
    fn scope(&self, now: Timestamp) -> Result<Scope> {
        let (start, stop) = (parse_time(&self.start, now)?, parse_time(&self.stop, now)?);
        anyhow::ensure!(start < stop, "--start: is {start}, not before --stop, {stop}");
        Ok(Scope { device: self.device.clone(), start, stop })
    }
}

/// On AWS.
type OnAws =
    Replay<Bucket, dynamodb::Messages, meter_runtime::metric_store::Metrics, dynamodb::States>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    start_log();
    let scope = arguments.scope(Timestamp::now())?;
    let replay = on_aws().await?;
    let mark = Mark::of(&replay.archive, &arguments);
    let mut progress = Progress::default();
    if !arguments.again
        && let Some(noted) = mark.read().await?
    {
        eprintln!("going on after a run that was stopped (--again begins again): {}", noted.counts);
        progress = noted;
    }
    tokio::select! {
        done = run(&replay, &scope, &mark, &mut progress) => {
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
    replay: &OnAws,
    scope: &Scope,
    mark: &Mark<'_>,
    progress: &mut Progress,
) -> Result<()> {
    let mut told = Instant::now();
    while progress.walk != Walk::Done {
        *progress = step(replay, scope, progress).await?;
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            mark.write(progress).await?;
            if let Walk::Batches(after) | Walk::Messages(after) = &progress.walk {
                eprintln!("{after}: {}", progress.counts);
            }
        }
    }
    mark.remove().await
}

/// A store that throttles is asked again, later each time.
async fn step(replay: &OnAws, scope: &Scope, progress: &Progress) -> Result<Progress> {
    let mut attempt = 0;
    loop {
        match replay.step(scope, progress, Timestamp::now()).await {
            Err(error) if attempt < retry::ATTEMPTS => {
                tracing::warn!(%error, attempt, "again");
                retry::pause(attempt).await;
                attempt += 1;
            }
            answer => return Ok(answer?),
        }
    }
}

/// With the settings, and so with the decisions, of ingest.
async fn on_aws() -> Result<OnAws> {
    let (tables, bucket, ingest): (Tables, ArchiveBucket, Ingest) = settings::load()?;
    let (presence, metrics, alerting): (Presence, Metrics, Alerting) = settings::load()?;
    let clients = Clients::from_environment().await;
    Ok(Replay {
        archive: Bucket::new(&clients, bucket.name),
        messages: dynamodb::Messages::new(&clients, &tables),
        metrics: meter_runtime::metric_store::Metrics::new(&clients, &tables, &metrics).await?,
        states: dynamodb::States::new(&clients, &tables),
        rules: ingest.rules(&presence, &metrics, &alerting),
        ttl_days: ingest.message_ttl_days(),
    })
}

fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .without_time()
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
}
