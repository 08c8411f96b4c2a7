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

/// Publish messages to a running system at the maximum rate and verify that each is stored once
///
/// A duration is a number of seconds (10) or has a unit (500ms, 5m).
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
    /// Publish one message at a time and measure the time until it is readable
    Latency(Latency),
}

/// The system under test.
#[derive(Args)]
struct Target {
    /// Address of the MQTT broker
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1883")]
    mqtt: Broker,

    /// URL of the REST API
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

    /// Total number of messages
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    messages: usize,

    /// Number of clients, each a device with a connection
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one)]
    clients: usize,

    /// Measurements per message, 1 to 200
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_most_200)]
    measurements: usize,

    /// Number of times that the same bytes are published
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    repeat: usize,

    /// Publish the bytes of an earlier run again; a run prints its number
    #[arg(long, value_name = "NUMBER")]
    run: Option<u32>,

    /// End the wait if no further message becomes readable for this time
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    timeout: Duration,

    /// Time to wait for duplicates before the comparison
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    settle: Duration,
}

#[derive(Args)]
struct Latency {
    #[command(flatten)]
    target: Target,

    /// Number of messages
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    samples: usize,

    /// Time to wait for one message
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

/// The number of differences in the output.
const MAX_SHOWN_DIFFERENCES: usize = 20;
/// The time between two progress lines.
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
        println!("           {} connections were lost and reopened", published.reconnects);
    }

    let complete = with_progress("devices complete", clients, async |count| {
        wait_until_readable(&rest, &devices, arguments.timeout, count).await
    });
    let is_repeated = arguments.run.is_some();
    match (complete.await?, is_repeated) {
        (true, false) => {
            let rate = Rate { count: messages as u64, elapsed: started_at.elapsed() };
            println!("stored     {rate}   readable over REST, from the first publish");
        }
        (true, true) => {
            println!("stored     {messages:>9} by the earlier run, without a rate")
        }
        (false, _) => {
            println!("stored     incomplete: no further message for {:?}", arguments.timeout)
        }
    }
    if is_repeated || repeat > 1 {
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
    let device = devices.first().context("the run has no devices")?;
    if target.register {
        register(&rest, &devices).await?;
    }
    println!("{samples} messages of {}, one at a time", device.device_id);
    let measured = measure(&target.mqtt, &rest, device, timeout, |n, sample| {
        if sample.readable_after.is_none() {
            println!("message {n} is not readable after {timeout:?}");
        }
    });
    let measured = measured.await?;
    let rows = [
        ("acknowledged", Quantiles::of(measured.iter().map(|s| s.acknowledged))),
        ("readable", Quantiles::of(measured.iter().filter_map(|s| s.readable_after))),
        ("one query", Quantiles::of(measured.iter().map(|s| s.query_duration))),
    ];
    for (name, quantiles) in rows {
        match quantiles {
            Some(quantiles) => println!("{name:<14}{quantiles}"),
            None => println!("{name:<14}no data"),
        }
    }
    println!("Measured from the publication; \"one query\" is the duration of GET metrics.");
    let lost = measured.iter().filter(|sample| sample.readable_after.is_none()).count();
    Ok(if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A count and the time in which it was reached.
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

/// Runs work that counts, and prints the count to stderr at an interval.
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
    u32::try_from(Timestamp::now().as_second()).context("the system clock is after the year 2105")
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "must be a number of at least 1".to_owned())
}

fn at_most_200(text: &str) -> Result<usize, String> {
    at_least_one(text)
        .ok()
        .filter(|n| *n <= 200)
        .ok_or_else(|| "must be a number from 1 to 200".to_owned())
}
