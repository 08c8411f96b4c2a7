//! Waiting until a service responds.

use std::future::Future;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::child::Child;

/// Several times the startup time of a debug build on a busy machine with two cores.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);
/// The time after which a message names the child that is waited for.
const SLOW_START: Duration = Duration::from_secs(10);

/// Returns when `probe` succeeds. The error names the child and its log.
pub(crate) async fn wait_for_child<Probe, ProbeFuture>(child: &Child, probe: Probe) -> Result<()>
where
    Probe: Fn() -> ProbeFuture,
    ProbeFuture: Future<Output = bool>,
{
    let begin = Instant::now();
    let mut logged = false;
    loop {
        if probe().await {
            return Ok(());
        }
        if begin.elapsed() >= SLOW_START && !logged {
            info!("waiting for {}; its log: {}", child.name(), child.log().display());
            logged = true;
        }
        if child.is_finished() || begin.elapsed() >= STARTUP_TIMEOUT {
            bail!("{} does not respond; its log: {}", child.name(), child.log().display());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Returns when a service that this devstack did not start responds.
pub(crate) async fn wait_until_reachable<Probe, ProbeFuture>(
    service: &str,
    probe: Probe,
) -> Result<()>
where
    Probe: Fn() -> ProbeFuture,
    ProbeFuture: Future<Output = bool>,
{
    let begin = Instant::now();
    while !probe().await {
        if begin.elapsed() >= STARTUP_TIMEOUT {
            bail!("{service} does not respond: is it running?");
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Whether the log of the child contains a line with this beginning.
pub(crate) async fn has_logged(child: &Child, beginning: &str) -> bool {
    match tokio::fs::read_to_string(child.log()).await {
        Ok(log) => log.lines().any(|line| line.starts_with(beginning)),
        Err(_not_yet) => false,
    }
}

/// Whether the port accepts connections.
pub(crate) async fn is_listening(port: u16) -> bool {
    accepts_connections((Ipv4Addr::LOCALHOST, port)).await
}

/// Whether the address accepts connections.
pub(crate) async fn accepts_connections(address: impl ToSocketAddrs) -> bool {
    TcpStream::connect(address).await.is_ok()
}

/// Whether a GET of `url` gets a response, with any status.
pub(crate) async fn responds(http: &reqwest::Client, url: &str) -> bool {
    http.get(url).timeout(Duration::from_secs(5)).send().await.is_ok()
}

/// Whether a GET of `url` gets a response with a 2xx status.
pub(crate) async fn responds_ok(http: &reqwest::Client, url: &str) -> bool {
    match http.get(url).timeout(Duration::from_secs(5)).send().await {
        Ok(response) => response.status().is_success(),
        Err(_not_yet) => false,
    }
}
