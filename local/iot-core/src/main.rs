//! The edge as a process.

use std::io::IsTerminal;

use clap::Parser;
use iot_core::{Config, Ready};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;

/// Between Mosquitto and the functions, what AWS IoT Core, SQS and EventBridge do in the cloud
///
/// Subscribes to the topics of template.yaml's IoT rules and puts what arrives into their queue; invokes
/// the functions that consume the queue, and those with a schedule; publishes for them over MQTT.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    config: Config,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Cli { config } = Cli::parse();
    init_logging();
    let shutdown = CancellationToken::new();
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let asked = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("stopping");
        asked.cancel();
    });
    iot_core::run(config, shutdown, print_ready).await
}

/// Whoever has started the edge may wait for this line, so it does not depend on the log's level.
fn print_ready(ready: Ready) {
    println!(
        "ready: {} topic filters, {} consumers, {} schedules, iot-data at http://{}",
        ready.routing.topic_filters.len(),
        ready.routing.event_sources.len(),
        ready.routing.schedules.len(),
        ready.iot_data
    );
}

/// `RUST_LOG` chooses the level (default `info`), `LOG_FORMAT=json` the form.
fn init_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stdout().is_terminal());
    if std::env::var("LOG_FORMAT").is_ok_and(|format| format == "json") {
        log.json().init();
    } else {
        log.init();
    }
}
