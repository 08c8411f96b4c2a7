//! `fault-proxy`: see `fault-proxy --help`.

use std::io::IsTerminal;

use anyhow::Result;
use clap::Parser;
use fault_proxy::{FaultPlan, Proxy};
use tracing_subscriber::EnvFilter;

/// Stands between functions and the AWS endpoint, and makes go wrong what it is told to.
///
/// A plan is rules separated by blanks, each CALLS#NTH[xTIMES]=FAULT. CALLS is `any`, a service (s3,
/// dynamodb, sqs, iot-data, timestream) or service:operation (dynamodb:PutItem, s3:PUT). TIMES is 1, a number, or `*`
/// for an outage. FAULT is request-lost, response-lost, delayed-2000ms, throttled, throughput-exceeded, internal-error,
/// conflict, or partial-batch.
///
/// Set AWS_ENDPOINT_URL of a function to the address that is printed. Ctrl-C prints what was seen.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The endpoint that calls are passed on to
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4566")]
    endpoint: String,

    /// Where to listen, on the loopback interface; 0 takes a free port
    #[arg(long, default_value_t = 4570)]
    port: u16,

    /// What goes wrong
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
