//! The command line of the fault proxy.

use std::io::IsTerminal;

use anyhow::Result;
use clap::Parser;
use fault_proxy::{FaultPlan, Proxy};
use tracing_subscriber::EnvFilter;

/// Forwards calls of functions to the AWS endpoint and injects faults
///
/// A plan is a list of rules separated by spaces, each CALLS#NTH[xTIMES]=FAULT. CALLS is `any`, a
/// service (s3, dynamodb, sqs, iot-data, timestream) or service:operation (dynamodb:PutItem,
/// s3:PUT). TIMES is a number (default 1), or `*` for an outage. FAULT is request-lost,
/// response-lost, delayed-2000ms, throttled, throughput-exceeded, internal-error, conflict or
/// partial-batch.
///
/// Set AWS_ENDPOINT_URL of a function to the printed address. Ctrl-C prints the statistics.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The endpoint that calls are forwarded to
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4566")]
    endpoint: String,

    /// The port on the loopback interface; 0 selects a free one
    #[arg(long, default_value_t = 4570)]
    port: u16,

    /// The plan of faults
    #[arg(default_value = "", hide_default_value = true)]
    plan: FaultPlan,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| "fault_proxy=debug".into()),
        )
        .with_ansi(std::io::stdout().is_terminal())
        .with_target(false)
        .init();
    let proxy = Proxy::listen(arguments.port).await?;
    proxy.set_upstream(&arguments.endpoint);
    proxy.set_plan(arguments.plan);
    println!("{} → {}", proxy.url(), arguments.endpoint);
    tokio::signal::ctrl_c().await?;
    let stats = proxy.stats();
    for (call, count) in &stats.calls {
        println!("{count:8}  {call}");
    }
    for (fault, count) in &stats.faults {
        println!("{count:8}  {fault}");
    }
    Ok(())
}
