//! `load`: see `load --help`.

use std::fmt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use blackbox::load::compare::Difference;
use blackbox::load::latency::{Quantiles, measure};
use blackbox::load::model::LoadSpec;
use blackbox::load::rest::RestClient;
use blackbox::load::throughput::{flush, publish, register, verify, wait_until_readable};
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use simulator::cli::duration;
use simulator::config::Broker;
use tokio::time::{Instant, sleep};

/// Publishes many messages to a running system as fast as they go, waits until all can be read, and
/// compares: every message archived once, every point stored once with its value.
///
/// A duration is a number of seconds (10), or has a unit (500ms, 5m).
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    mode: Option<Mode>,
    #[command(flatten)]
    throughput: Throughput,
}

#[derive(Subcommand)]
enum Mode {
    /// Publishes one message at a time, and measures how long until it can be read
    Latency(Latency),
}

/// Where the system is.
#[derive(Args)]
struct Target {
    /// The MQTT broker
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    mqtt: Broker,

    /// The API
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    api: String,

    /// Register the devices first
    #[arg(long)]
    register: bool,
}

#[derive(Args)]
struct Throughput {
    #[command(flatten)]
    target: Target,

    /// Messages of all clients together
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    messages: usize,

    /// Clients, each a device with its own connection
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one)]
    clients: usize,

    /// Measurements in each message, 1 to 200
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_most_200)]
    measurements: usize,

    /// How often to publish the very same bytes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    repeat: usize,

    /// Publish the bytes of an earlier run again (its number is printed)
    #[arg(long, value_name = "NUMBER")]
    run: Option<u32>,

    /// End the wait if no further message becomes readable for this time
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    timeout: Duration,

    /// How long to wait for what should not come: a second copy
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    settle: Duration,
}

#[derive(Args)]
struct Latency {
    #[command(flatten)]
    target: Target,

    /// How many messages
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    samples: usize,

    /// How long to wait for one message
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

/// Differences that are shown.
const MAX_SHOWN_DIFFERENCES: usize = 20;
/// From one progress line to the next.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.mode {
        Some(Mode::Latency(latency)) => run_latency(latency).await,
        None => run_throughput(arguments.throughput).await,
    }
}

async fn run_throughput(arguments: Throughput) -> Result<ExitCode> {
    let Throughput { target, messages, clients, measurements, repeat, .. } = arguments;
    let rest = RestClient::new(&target.api)?;
    rest.check().await?;
    let run = arguments.run.map_or_else(current_epoch_second, Ok)?;
    let clients = clients.min(messages.max(1));
    let devices = LoadSpec { prefix: "load", run, clients, messages, measurements }.devices();
    println!("Run {run}: {messages} messages from {clients} clients");
    println!("           measurements in each: {measurements}, published: {repeat} x");
    if target.register {
        register(&rest, &devices).await?;
    }

    let started_at = Instant::now();
    let published = with_progress("acknowledged", messages * repeat, async |count| {
        publish(&target.mqtt, &devices, repeat, count).await
    });
    let published = published.await?;
    let rate = Rate { count: published.acknowledged, elapsed: published.elapsed };
    println!("published  {rate}   acknowledged by the broker");
    if published.reconnects > 0 {
        println!("           {} connections were lost and made again", published.reconnects);
    }

    let complete = with_progress("devices complete", clients, async |count| {
        wait_until_readable(&rest, &devices, arguments.timeout, count).await
    });
    let again = arguments.run.is_some();
    match (complete.await?, again) {
        (true, false) => {
            let rate = Rate { count: messages as u64, elapsed: started_at.elapsed() };
            println!("stored     {rate}   readable over REST, from the first publish");
        }
        (true, true) => {
            println!("stored     {messages:>9} by the earlier run, so there is no rate")
        }
        (false, _) => {
            println!("stored     incomplete: no further message for {:?}", arguments.timeout)
        }
    }
    if again || repeat > 1 {
        let run = current_epoch_second()?;
        if let Err(error) = flush(&target.mqtt, &rest, run, arguments.timeout).await {
            println!("repeats    may not be processed yet: {error:#}");
        }
    }
    sleep(arguments.settle).await;

    let differences = verify(&rest, &devices).await?;
    Ok(print_result(run, messages, messages * measurements, &differences))
}

fn print_result(run: u32, messages: usize, points: usize, differences: &[Difference]) -> ExitCode {
    if differences.is_empty() {
        println!(
            "compared   {messages} messages archived and {points} points stored, each exactly once"
        );
        println!("Publish the same bytes again with --run {run} and the same numbers.");
        return ExitCode::SUCCESS;
    }
    println!(
        "DIFFERENT  {} differences, the first {}:",
        differences.len(),
        differences.len().min(MAX_SHOWN_DIFFERENCES)
    );
    for difference in differences.iter().take(MAX_SHOWN_DIFFERENCES) {
        println!("  {difference}");
    }
    ExitCode::FAILURE
}

async fn run_latency(arguments: Latency) -> Result<ExitCode> {
    let Latency { target, samples, timeout } = arguments;
    let rest = RestClient::new(&target.api)?;
    rest.check().await?;
    let spec = LoadSpec {
        prefix: "latency",
        run: current_epoch_second()?,
        clients: 1,
        messages: samples,
        measurements: 1,
    };
    let devices = spec.devices();
    let device = devices.first().context("a run without devices")?;
    if target.register {
        register(&rest, &devices).await?;
    }
    println!("{samples} messages of {}, one at a time", device.device_id);
    let measured = measure(&target.mqtt, &rest, device, timeout, |n, sample| {
        if sample.readable_after.is_none() {
            println!("message {n} cannot be read after {timeout:?}");
        }
    });
    let measured = measured.await?;
    let rows = [
        ("acknowledged", Quantiles::of(measured.iter().map(|s| s.acknowledged))),
        ("readable", Quantiles::of(measured.iter().filter_map(|s| s.readable_after))),
        ("one question", Quantiles::of(measured.iter().map(|s| s.query_duration))),
    ];
    for (name, quantiles) in rows {
        match quantiles {
            Some(quantiles) => println!("{name:<14}{quantiles}"),
            None => println!("{name:<14}never"),
        }
    }
    println!(
        "From just before the publish; \"one question\" is how long GET metrics takes to answer."
    );
    let lost = measured.iter().filter(|sample| sample.readable_after.is_none()).count();
    Ok(if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A count in a time, and how many that makes in a second.
struct Rate {
    count: u64,
    elapsed: Duration,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        let rate = if seconds > 0.0 { self.count as f64 / seconds } else { 0.0 };
        write!(f, "{:>9} in {seconds:>8.2} s   {rate:>9.0} /s", self.count)
    }
}

/// Does something that counts, and shows the count on stderr while it takes long.
async fn with_progress<T>(
    what: &str,
    total: usize,
    work: impl AsyncFnOnce(&AtomicU64) -> Result<T>,
) -> Result<T> {
    let count = AtomicU64::new(0);
    let work = work(&count);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = sleep(PROGRESS_INTERVAL) => {
                eprintln!("           {:>9} of {total} {what}", count.load(Ordering::Relaxed));
            }
        }
    }
}

fn current_epoch_second() -> Result<u32> {
    u32::try_from(Timestamp::now().as_second()).context("the clock shows a year after 2105")
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "write a number from 1".to_owned())
}

fn at_most_200(text: &str) -> Result<usize, String> {
    at_least_one(text)
        .ok()
        .filter(|n| *n <= 200)
        .ok_or_else(|| "write a number from 1 to 200".to_owned())
}
