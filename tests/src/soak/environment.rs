//! The environment of a trial: an AWS endpoint with the stores, ingest and the watchdog each behind
//! a proxy of its own, and the functions of the REST API without faults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use devstack::{DevStack, Options};
use fault_proxy::Proxy;
use tempfile::TempDir;

use super::function::Function;
use super::rest::RestApi;

/// A function and the proxy between it and the endpoint.
pub(super) struct ProxiedFunction {
    pub(super) function: Function,
    pub(super) proxy: Proxy,
}

/// The system under test without MQTT.
pub struct Environment {
    pub(super) ingest: Vec<ProxiedFunction>,
    pub(super) watchdog: ProxiedFunction,
    pub(super) api: RestApi,
    pub(super) stack: DevStack,
    logs: TempDir,
}

impl Environment {
    /// Starts an environment with `processes` processes of ingest.
    ///
    /// # Errors
    ///
    /// See [`DevStack::start`].
    pub async fn start(processes: usize) -> Result<Self> {
        let options = Options::endpoint_only();
        let binaries = options.binaries.clone();
        let stack = DevStack::start(options).await?;
        let logs = tempfile::Builder::new().prefix("iot-meter-soak-").tempdir()?;
        let start = async |name: &str, log: &str, endpoint: &str| {
            let env_vars = function_env_vars(stack.settings(), endpoint);
            Function::new(binaries.join(name), env_vars, logs.path().join(log)).await
        };
        let start_proxied = async |name: &str, log: &str| {
            let proxy = Proxy::start(&stack.endpoint_url()).await?;
            let function = start(name, log, &proxy.url()).await?;
            let kill_handle = function.kill_handle();
            proxy.on_kill(move || kill_handle.kill());
            anyhow::Ok(ProxiedFunction { function, proxy })
        };
        let mut ingest = Vec::with_capacity(processes);
        for number in 1..=processes {
            ingest.push(start_proxied("ingest", &format!("ingest-{number}.log")).await?);
        }
        let watchdog = start_proxied("watchdog", "watchdog.log").await?;
        let endpoint = stack.endpoint_url();
        let api = RestApi {
            devices: start("devices", "devices.log", &endpoint).await?,
            alerts: start("alerts", "alerts.log", &endpoint).await?,
            stats: start("stats", "stats.log", &endpoint).await?,
        };
        Ok(Self { ingest, watchdog, api, stack, logs })
    }

    /// The functions with injected faults.
    pub(super) fn proxied_functions(&mut self) -> impl Iterator<Item = &mut ProxiedFunction> {
        self.ingest.iter_mut().chain([&mut self.watchdog])
    }

    /// The directory with the logs of the functions. It is removed with the environment.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.logs.path().to_owned()
    }

    /// Keeps the logs after the end of the environment and returns their directory.
    pub fn keep_logs(&mut self) -> PathBuf {
        self.logs.disable_cleanup(true);
        self.logs()
    }

    /// Stops all processes.
    pub async fn stop(mut self) {
        for proxied in self.proxied_functions() {
            proxied.function.stop().await;
        }
        self.api.stop().await;
        self.stack.stop().await;
    }
}

/// The environment variables of a function: those of the dev stack with another endpoint.
fn function_env_vars(settings: &BTreeMap<String, String>, endpoint: &str) -> Vec<(String, String)> {
    let mut env_vars = settings.clone();
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned());
    env_vars.extend(
        [
            ("AWS_ENDPOINT_URL", endpoint),
            // The endpoint accepts commands; no device of a scenario subscribes to them.
            ("AWS_ENDPOINT_URL_IOT_DATA_PLANE", endpoint),
            // The messages of a scenario are older than the retention.
            ("MESSAGE_TTL_DAYS", "0"),
            // No command times out on a slow machine.
            ("COMMAND_TIMEOUT_S", "604800"),
            ("RUST_LOG", &level),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    env_vars.into_iter().collect()
}
