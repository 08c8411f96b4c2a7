//! Starting: each component when the components that it uses respond.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use simulator::fleet::default_fleet;
use tracing::{info, warn};

use super::{DevStack, Stage};
use crate::checkout;
use crate::child::{Child, Program};
use crate::functions::{FUNCTIONS, Router};
use crate::options::{Components, MetricStore, Options};
use crate::tls::TlsSetup;
use crate::{
    aws, broker, endpoint, mqtt_clients, readiness, seed_data, settings, stores, timestream,
};

impl DevStack {
    pub(super) async fn start_components(&mut self) -> Result<()> {
        match self.options.endpoint_url.clone() {
            None => {
                info!("starting the AWS endpoint (MiniStack)");
                self.start_endpoint().await?;
            }
            Some(url) => {
                info!("using the AWS endpoint {url}");
                readiness::wait_until_reachable(&url, || readiness::responds(&self.http, &url))
                    .await?;
            }
        }
        self.deploy_stores().await?;
        if self.options.metric_store == MetricStore::Timestream {
            self.start_timestream().await?;
        }
        if self.options.components == Components::System {
            self.start_broker().await?;
            self.start_functions().await?;
            self.start_iot_core().await?;
        }
        if self.options.devices > 0 {
            self.start_devices().await?;
        }
        Ok(())
    }

    async fn start_endpoint(&mut self) -> Result<()> {
        let program =
            endpoint::program(&tools(&self.options), self.ports.endpoint, &self.data_directory);
        let child = self.start_child(program).await?;
        let health = endpoint::health_url(self.ports.endpoint);
        readiness::wait_for_child(&child, || readiness::responds_ok(&self.http, &health)).await?;
        self.children.push((Stage::Stores, child));
        Ok(())
    }

    async fn deploy_stores(&mut self) -> Result<()> {
        info!("deploying bucket, queues and tables (infra/stores)");
        let template = self.options.checkout.join("infra/stores/template.yaml");
        let deployed = stores::deploy(&self.endpoint_url(), &template).await?;
        self.outputs = deployed.outputs;
        let is_own = self.options.endpoint_url.is_none();
        if deployed.new && is_own && self.options.data.is_some() {
            self.persist_endpoint().await?;
        }
        write_json(&self.data_directory.outputs(), &self.outputs).await?;

        let path = self.options.checkout.join("template.yaml");
        let template = tokio::fs::read_to_string(&path)
            .await
            .with_context(|| format!("cannot read {}", path.display()))?;
        self.settings = settings::from_template(&template, &self.outputs)?;
        self.settings.extend(self.local_settings());
        self.settings.extend(self.options.settings.iter().cloned());
        if let Some(hint) = self.metric_store_hint() {
            warn!("{hint}");
        }
        write_json(&self.data_directory.settings(), &self.settings).await
    }

    /// Points out that metrics of earlier runs are in another store. A change is possible at any
    /// time, since the archive contains every message.
    fn metric_store_hint(&self) -> Option<String> {
        let last = self.data_directory.last_metric_store()?;
        let current = self.settings.get("METRIC_STORE")?;
        (last != *current).then(|| {
            format!(
                "METRIC_STORE has changed from {last} to {current}: metrics of earlier runs stay in {last}. \
                 `make replay START=-30d` (iot-meter replay --local --start -30d) copies those of 30 days \
                 from the archive"
            )
        })
    }

    /// Restarts the endpoint, which writes objects to disk at once, but tables and queues only when
    /// it stops. If it crashed in the first run, there would be a bucket that no CloudFormation
    /// stack contains, and no deployment could succeed.
    async fn persist_endpoint(&mut self) -> Result<()> {
        if let Some((_, endpoint)) = self.children.pop() {
            endpoint.stop().await;
        }
        self.start_endpoint().await
    }

    async fn start_timestream(&mut self) -> Result<()> {
        info!("starting the Timestream emulator");
        let port = self.ports.timestream;
        let program = timestream::program(&self.options.binaries, port, &self.data_directory);
        let child = self.start_child(program).await?;
        let health = timestream::health_url(port);
        readiness::wait_for_child(&child, || readiness::responds_ok(&self.http, &health)).await?;
        self.children.push((Stage::Stores, child));
        timestream::deploy(&self.http, port).await
    }

    /// Settings of the local functions that differ from the template.
    fn local_settings(&self) -> Vec<(String, String)> {
        let mut settings = aws::environment(&self.endpoint_url());
        settings.extend(
            [
                ("AWS_ENDPOINT_URL_IOT_DATA_PLANE", self.iot_data_url()),
                ("AWS_ENDPOINT_URL_LAMBDA", self.functions_url()),
                // No API Gateway checks tokens, and every port is on loopback.
                ("API_AUTH", "none".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        settings.push(settings::max_response_bytes());
        if self.options.metric_store == MetricStore::Timestream {
            settings.extend(timestream::settings(self.ports.timestream));
        }
        settings
    }

    async fn start_broker(&mut self) -> Result<()> {
        if let Some(broker) = &self.options.broker {
            info!("using the MQTT broker {broker}");
            return readiness::wait_until_reachable(broker, || {
                readiness::accepts_connections(broker)
            })
            .await;
        }
        info!("starting the MQTT broker (Mosquitto)");
        let listeners = match TlsSetup::from_options(&self.options, &self.data_directory) {
            Some(tls) => tls.listeners(self.ports.mqtt).await?,
            None => broker::anonymous_listener(self.ports.mqtt),
        };
        let program = broker::program(&listeners, &self.data_directory)?;
        let child = self.start_child(program).await?;
        readiness::wait_for_child(&child, || readiness::is_listening(self.ports.mqtt)).await?;
        self.children.push((Stage::Stores, child));
        Ok(())
    }

    async fn start_functions(&mut self) -> Result<()> {
        let instances = self.options.instances;
        info!("starting the functions behind `cargo lambda watch`, {instances} instances each");
        for router in [Router::Rest, Router::Invocations] {
            let tools = tools(&self.options);
            let address = match router {
                Router::Rest => self.options.rest_address,
                Router::Invocations => Ipv4Addr::LOCALHOST.into(),
            };
            let listens = SocketAddr::new(address, self.port_of(router));
            let program = router.program(&tools, &self.options.checkout, listens);
            let child = self.start_child(program).await?;
            self.children.push((Stage::Routers, child));
        }
        for router in [Router::Rest, Router::Invocations] {
            let port = self.port_of(router);
            readiness::wait_for_child(self.child(router.name())?, || readiness::is_listening(port))
                .await?;
        }
        let environment: Vec<_> = self.settings.clone().into_iter().collect();
        for function in &FUNCTIONS {
            let programs = function.programs(
                &self.options.binaries,
                instances,
                self.port_of(function.router),
                &environment,
                self.data_directory.root(),
            );
            for program in programs {
                let child = self.start_child(program).await?;
                self.children.push((Stage::Functions, child));
            }
        }
        let health = format!("{}/health", self.rest_url());
        let stats = self.child("stats-1")?;
        readiness::wait_for_child(stats, || readiness::responds_ok(&self.http, &health)).await
    }

    async fn start_iot_core(&mut self) -> Result<()> {
        info!("starting the IoT Core emulator");
        let mqtt = match TlsSetup::from_options(&self.options, &self.data_directory) {
            Some(tls) => tls.iot_core_broker(self.ports.mqtt)?,
            None => self.broker(),
        };
        let endpoint = self.endpoint_url();
        let program = mqtt_clients::iot_core(
            &self.options,
            mqtt,
            &endpoint,
            self.ports,
            &self.data_directory,
        );
        let child = self.start_child(program).await?;
        // It listens before it has subscribed; until then the broker queues no messages for it.
        readiness::wait_for_child(&child, || readiness::has_logged(&child, "ready:")).await?;
        self.children.push((Stage::IotCore, child));
        Ok(())
    }

    async fn start_devices(&mut self) -> Result<()> {
        let devices = self.options.devices;
        info!("registering the sample devices and simulating {devices}");
        seed_data::register(&self.http, &self.rest_url()).await?;
        let tls = TlsSetup::from_options(&self.options, &self.data_directory);
        let (broker, identities) = match &tls {
            Some(tls) => {
                let fleet = default_fleet(devices.try_into()?);
                let mut ids: Vec<_> = fleet.into_iter().map(|member| member.device_id).collect();
                ids.push(seed_data::EXAMPLE_DEVICE.to_owned());
                (format!("127.0.0.1:{}", tls.port), Some(tls.identities(&ids).await?))
            }
            None => (self.broker(), None),
        };
        let program = mqtt_clients::simulator(
            &self.options.binaries,
            devices,
            broker,
            identities,
            &self.data_directory,
        );
        let child = self.start_child(program).await?;
        self.children.push((Stage::Simulator, child));
        Ok(())
    }

    async fn start_child(&self, program: Program) -> Result<Child> {
        Child::start(program, &self.data_directory.logs(), self.reaper.clone()).await
    }

    fn port_of(&self, router: Router) -> u16 {
        match router {
            Router::Rest => self.ports.rest,
            Router::Invocations => self.ports.functions,
        }
    }
}

/// Writes strings for `iot-meter --local` and the watch of notifications.
async fn write_json(path: &Path, strings: &BTreeMap<String, String>) -> Result<()> {
    let text = serde_json::to_vec_pretty(strings)?;
    tokio::fs::write(path, text).await.with_context(|| format!("cannot write {}", path.display()))
}

fn tools(options: &Options) -> PathBuf {
    options.checkout.join(".venv/bin")
}

/// Checks that the checkout, its tools and the binaries exist, before anything is started.
pub(super) fn check_tools(options: &Options) -> Result<()> {
    checkout::check(&options.checkout)?;
    let tools = tools(options);
    let ministack = options.endpoint_url.is_none().then_some("ministack");
    for tool in ministack.into_iter().chain(["cargo-lambda"]) {
        if !tools.join(tool).is_file() {
            bail!("{tool} is missing from {}: `make setup` installs it", tools.display());
        }
    }
    let mut binaries = Vec::new();
    if options.components == Components::System {
        binaries.extend(FUNCTIONS.iter().map(|function| function.name));
        binaries.extend([mqtt_clients::IOT_CORE, mqtt_clients::SIMULATOR]);
    }
    if options.metric_store == MetricStore::Timestream {
        binaries.push(timestream::NAME);
    }
    for binary in binaries {
        let path = options.binaries.join(binary);
        if !path.is_file() {
            bail!("{} is missing: `cargo build --workspace --bins` builds it", path.display());
        }
    }
    Ok(())
}
