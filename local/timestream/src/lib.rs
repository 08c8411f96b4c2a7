//! An emulator of Amazon Timestream for LiveAnalytics: TimestreamWrite and TimestreamQuery on one
//! port, over a SQLite file.
//!
//! A client can observe these differences: there is one account and region, requests are not
//! authenticated, and reads see every write at once. Unsupported features are rejected by name. The
//! README of this crate lists them.

mod api;
mod error;
mod http;
mod instant;
mod limits;
mod query;
mod sql;
mod store;
mod value;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use tokio::{net::TcpListener, select, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    api::Service,
    query::Queries,
    store::{Store, catalog::Table, records},
};

/// The maximum time that open requests have at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// The interval at which expired records are deleted.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);

/// The settings of an emulator.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// The directory of the data
    #[arg(
        long,
        env = "TIMESTREAM_DATA",
        value_name = "DIRECTORY",
        default_value = ".local/timestream"
    )]
    pub data: PathBuf,

    /// The port of both APIs on 127.0.0.1, because requests are not authenticated; 0 selects a free
    /// one
    #[arg(long, env = "TIMESTREAM_PORT", default_value_t = 4567)]
    pub port: u16,

    /// The time limit of a query for each page
    #[arg(long, env = "TIMESTREAM_QUERY_TIMEOUT", value_name = "SECONDS", default_value = "60", value_parser = parse_seconds)]
    pub query_timeout: Duration,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=3_600) => Ok(Duration::from_secs(seconds)),
        _ => Err("expected a whole number of seconds from 1 to 3600".to_owned()),
    }
}

/// A server that is bound and does not serve yet.
pub struct Server {
    listener: TcpListener,
    service: Service,
}

impl Server {
    /// Opens the data and binds to the port.
    ///
    /// # Errors
    ///
    /// If the port is in use or the data cannot be opened.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let store = Arc::new(Store::open(&config.data)?);
        let listener = TcpListener::bind(("127.0.0.1", config.port))
            .await
            .with_context(|| format!("cannot listen on 127.0.0.1:{}", config.port))?;
        let queries = Queries::new(Arc::clone(&store), config.query_timeout);
        Ok(Self { listener, service: Service { store, queries } })
    }

    /// Returns the address of the listener.
    ///
    /// # Errors
    ///
    /// If the system cannot return it.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`; then finishes open requests, for a few seconds.
    ///
    /// # Errors
    ///
    /// If the listener fails.
    pub async fn serve(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let expiry = tokio::spawn(expire(Arc::clone(&self.service.store)));
        let stopped = shutdown.clone().cancelled_owned();
        let server =
            axum::serve(self.listener, http::routes(self.service)).with_graceful_shutdown(stopped);
        let too_late = async {
            shutdown.cancelled().await;
            sleep(SHUTDOWN_GRACE).await;
        };
        let result = select! {
            result = server => result.context("the server failed"),
            () = too_late => {
                warn!("requests did not finish in time");
                Ok(())
            }
        };
        expiry.abort();
        result
    }
}

/// Deletes expired records periodically.
async fn expire(store: Arc<Store>) {
    loop {
        let store = Arc::clone(&store);
        match tokio::task::spawn_blocking(move || expire_once(&store)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(count)) => info!(count, "deleted expired records"),
            Ok(Err(error)) => error!(%error, "expired records cannot be deleted"),
            Err(error) => error!(%error, "expired records cannot be deleted"),
        }
        sleep(EXPIRY_INTERVAL).await;
    }
}

/// Deletes expired records in bounded transactions, between which writes can run.
fn expire_once(store: &Store) -> Result<usize, error::ApiError> {
    let mut total = 0;
    for table in Table::all(&store.reader()?)? {
        loop {
            let removed = store.write(|change| {
                // The table may have been deleted since it was listed.
                match Table::find(&change.transaction, &table.database, &table.name) {
                    Ok(table) => records::expire(change, &table, instant::now()),
                    Err(error::ApiError::ResourceNotFound(_)) => Ok(0),
                    Err(error) => Err(error),
                }
            })?;
            total += removed;
            if removed == 0 {
                break;
            }
        }
    }
    Ok(total)
}
