//! What a seed is played in: an endpoint with its stores, ingest and the watchdog each behind a proxy of
//! its own, and the functions of the REST API, which see no faults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use faults::Proxy;
use stack::{Options, Stack};
use tempfile::TempDir;

use super::function::Function;
use super::rest::Api;

/// A function, and the proxy that stands between it and the endpoint.
pub(super) struct Exposed {
    pub(super) function: Function,
    pub(super) proxy: Proxy,
}

/// The system under test but for MQTT, which a seed needs none of.
pub struct World {
    pub(super) ingest: Vec<Exposed>,
    pub(super) watchdog: Exposed,
    pub(super) api: Api,
    pub(super) stack: Stack,
    logs: TempDir,
}

impl World {
    /// Starts one, with so many processes of ingest.
    ///
    /// # Errors
    /// As [`Stack::start`]: each says what to do about it.
    pub async fn start(processes: usize) -> Result<Self> {
        let options = Options::endpoint();
        let binaries = options.binaries.clone();
        let stack = Stack::start(options).await?;
        let logs = tempfile::Builder::new().prefix("iot-meter-soak-").tempdir()?;
        let start = async |name: &str, log: &str, endpoint: &str| {
            let environment = environment(stack.settings(), endpoint);
            Function::new(binaries.join(name), environment, logs.path().join(log)).await
        };
        let expose = async |name: &str, log: &str| {
            let proxy = Proxy::start(&stack.endpoint_url()).await?;
            let function = start(name, log, &proxy.url()).await?;
            let target = function.target();
            proxy.on_kill(move || target.kill());
            anyhow::Ok(Exposed { function, proxy })
        };
        let mut ingest = Vec::with_capacity(processes);
        for number in 1..=processes {
            ingest.push(expose("ingest", &format!("ingest-{number}.log")).await?);
        }
        let watchdog = expose("watchdog", "watchdog.log").await?;
        let endpoint = stack.endpoint_url();
        let api = Api {
            devices: start("devices", "devices.log", &endpoint).await?,
            alerts: start("alerts", "alerts.log", &endpoint).await?,
            stats: start("stats", "stats.log", &endpoint).await?,
        };
        Ok(Self { ingest, watchdog, api, stack, logs })
    }

    /// The functions that meet faults.
    pub(super) fn exposed(&mut self) -> impl Iterator<Item = &mut Exposed> {
        self.ingest.iter_mut().chain([&mut self.watchdog])
    }

    /// Where the functions' logs are, until the world ends.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.logs.path().to_owned()
    }

    /// Keeps the logs; where they are.
    pub fn keep_logs(&mut self) -> PathBuf {
        self.logs.disable_cleanup(true);
        self.logs()
    }

    /// Ends everything.
    pub async fn stop(mut self) {
        for exposed in self.exposed() {
            exposed.function.end().await;
        }
        self.api.end().await;
        self.stack.stop().await;
    }
}

/// What a function is told: what it is told in the local system, but for the endpoint.
fn environment(settings: &BTreeMap<String, String>, endpoint: &str) -> Vec<(String, String)> {
    let mut environment = settings.clone();
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned());
    environment.extend(
        [
            ("AWS_ENDPOINT_URL", endpoint),
            // The endpoint takes commands, too, and no device of a seed listens.
            ("AWS_ENDPOINT_URL_IOT_DATA_PLANE", endpoint),
            // Seeds are played at other times than now.
            ("MESSAGE_TTL_DAYS", "0"),
            // Nor does a command expire because the machine that plays them is slow.
            ("COMMAND_TIMEOUT_S", "604800"),
            ("RUST_LOG", &level),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    environment.into_iter().collect()
}
