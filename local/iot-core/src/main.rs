//! The command line of the IoT Core emulator.

use std::io::IsTerminal;

use clap::Parser;
use iot_core::{Config, Ready};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;

/// Emulates AWS IoT Core, SQS event source mappings and EventBridge between Mosquitto and the
/// functions
///
/// Subscribes to the topics of the IoT rules in template.yaml and sends their messages to the
/// queue; invokes the functions that consume the queue or have a schedule; publishes the functions'
/// messages over MQTT.
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
    let requested = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("stopping");
        requested.cancel();
    });
    iot_core::run(config, shutdown, print_ready).await
}

/// Prints the line that the starting process waits for, independently of the log level.
fn print_ready(ready: Ready) {
    println!(
        "ready: {} topic filters, {} consumers, {} schedules, iot-data at http://{}",
        ready.routing.topic_filters.len(),
        ready.routing.event_sources.len(),
        ready.routing.schedules.len(),
        ready.iot_data
    );
}

/// Initializes logging: `RUST_LOG` sets the level (default `info`), `LOG_FORMAT=json` the format.
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
