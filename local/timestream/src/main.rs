//! The command line of the Timestream emulator.

use std::io::IsTerminal;

use clap::Parser;
use timestream::{Config, Server};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;

/// Emulates Amazon Timestream for LiveAnalytics
///
/// Serves TimestreamWrite and TimestreamQuery, with SQL, on one port of 127.0.0.1, and stores the
/// data in a directory. Set AWS_ENDPOINT_URL_TIMESTREAM_WRITE and AWS_ENDPOINT_URL_TIMESTREAM_QUERY
/// to the printed address.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    config: Config,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Cli { config } = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with_target(false)
        .with_ansi(std::io::stdout().is_terminal())
        .init();
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
    let server = Server::bind(&config).await?;
    // The starting process may wait for this line, so it does not depend on the log level.
    println!("ready: http://{}, data in {}", server.address()?, config.data.display());
    server.serve(shutdown).await
}
