//! A running devstack: stopping it, its children by name, and its addresses.

mod start;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use futures::future::{join_all, select_all};
use tracing::info;

use crate::child::Child;
use crate::data_directory::DataDirectory;
use crate::endpoint;
use crate::options::Options;
use crate::ports::{PortBlock, Ports};
use crate::reaper::Reaper;
use crate::settings::Outputs;

/// A running devstack. [`DevStack::stop`] ends it in order and keeps its data; dropping it kills
/// the children.
pub struct DevStack {
    /// In the order of their start.
    children: Vec<(Stage, Child)>,
    outputs: Outputs,
    settings: BTreeMap<String, String>,
    ports: Ports,
    reaper: Reaper,
    options: Options,
    http: reqwest::Client,
    // Dropped after the children, which use the folder and the ports.
    data_directory: DataDirectory,
    _port_block: Option<PortBlock>,
}

/// Children that stop together. Stages stop in reverse order, so that the services that a child
/// uses are available until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Stores,
    Routers,
    Functions,
    IotCore,
    Simulator,
}

impl DevStack {
    /// Starts the components of `options` and returns when they respond.
    ///
    /// # Errors
    /// A port or data directory in use, a missing tool or binary, or a child that does not respond.
    /// Each error contains the command that corrects it, or the path of a log.
    pub async fn start(options: Options) -> Result<Self> {
        let (ports, port_block) = match options.ports {
            Some(ports) => (ports, None),
            None => {
                let block = PortBlock::claim()?;
                (block.ports, Some(block))
            }
        };
        start::check_tools(&options)?;
        let data_directory = match &options.data {
            Some(path) => DataDirectory::open(path)?,
            None => DataDirectory::temporary()?,
        };
        ports.check_free(&options)?;
        let mut devstack = Self {
            children: Vec::new(),
            outputs: Outputs::new(),
            settings: BTreeMap::new(),
            ports,
            reaper: Reaper::start()?,
            options,
            http: reqwest::Client::builder().no_proxy().build()?,
            data_directory,
            _port_block: port_block,
        };
        if let Err(error) = devstack.start_components().await {
            devstack.data_directory.disable_cleanup(); // the error contains the path of a log
            devstack.stop().await;
            return Err(error);
        }
        Ok(devstack)
    }

    /// Stops everything in order: senders before receivers, the stores last. Their data is on disk
    /// afterwards.
    pub async fn stop(mut self) {
        while let Some(stage) = self.children.iter().map(|(stage, _)| *stage).max() {
            let (now, later) =
                std::mem::take(&mut self.children).into_iter().partition(|(of, _)| *of == stage);
            self.children = later;
            info!("stopping {}", stage.description());
            join_all(now.into_iter().map(|(_, child): (_, Child)| child.stop())).await;
        }
    }
}

/// Children, by name: `ministack`, `timestream` (if it is the metric store), `mosquitto`,
/// `rest-router`, `invocation-router`, `iot-core`, `simulator`, and each function with the number
/// of its instance (`ingest-1`).
impl DevStack {
    /// The names of the children, in the order of their start.
    pub fn child_names(&self) -> impl Iterator<Item = &str> {
        self.children.iter().map(|(_, child)| child.name())
    }

    /// The process id of a child, while it runs. It changes with a restart.
    ///
    /// # Errors
    /// When no child has this name.
    pub fn pid(&self, name: &str) -> Result<Option<u32>> {
        Ok(self.child(name)?.pid())
    }

    /// Sends SIGKILL to a child. Supervision restarts it.
    ///
    /// # Errors
    /// When no child has this name.
    pub fn kill(&self, name: &str) -> Result<()> {
        self.child(name)?.kill();
        Ok(())
    }

    /// Sends SIGKILL to a child, which is not restarted until [`DevStack::resume`].
    ///
    /// # Errors
    /// When no child has this name.
    pub async fn pause(&mut self, name: &str) -> Result<()> {
        self.child_mut(name)?.pause().await;
        Ok(())
    }

    /// Restarts a paused child. Returns when its process runs, which is before it responds.
    ///
    /// # Errors
    /// When no child has this name, or it cannot be started.
    pub async fn resume(&mut self, name: &str) -> Result<()> {
        self.child_mut(name)?.resume().await
    }

    /// Returns the name of a child that has exited and is not restarted. The system cannot work
    /// without it.
    pub async fn wait_for_failure(&self) -> &str {
        let ends = self.children.iter().map(|(_, child)| {
            Box::pin(async move {
                child.finished().await;
                child.name()
            })
        });
        select_all(ends).await.0
    }

    fn child(&self, name: &str) -> Result<&Child> {
        let mut children = self.children.iter().map(|(_, child)| child);
        children.find(|child| child.name() == name).with_context(|| format!("no child {name}"))
    }

    fn child_mut(&mut self, name: &str) -> Result<&mut Child> {
        let mut children = self.children.iter_mut().map(|(_, child)| child);
        children.find(|child| child.name() == name).with_context(|| format!("no child {name}"))
    }
}

/// Addresses, settings and folders.
impl DevStack {
    /// The ports of this devstack.
    #[must_use]
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// The base URL of the REST API, without a trailing slash.
    #[must_use]
    pub fn rest_url(&self) -> String {
        endpoint::url(self.ports.rest)
    }

    /// The URL of the AWS endpoint.
    #[must_use]
    pub fn endpoint_url(&self) -> String {
        let default_address = || endpoint::url(self.ports.endpoint);
        self.options.endpoint_url.clone().unwrap_or_else(default_address)
    }

    /// The MQTT broker as `HOST:PORT`, without TLS.
    #[must_use]
    pub fn broker(&self) -> String {
        let default_address = || format!("127.0.0.1:{}", self.ports.mqtt);
        self.options.broker.clone().unwrap_or_else(default_address)
    }

    /// The URL of the iot-data API of the IoT Core emulator.
    #[must_use]
    pub fn iot_data_url(&self) -> String {
        endpoint::url(self.ports.iot_data)
    }

    /// The URL of the Timestream emulator, which runs if it is the metric store.
    #[must_use]
    pub fn timestream_url(&self) -> String {
        endpoint::url(self.ports.timestream)
    }

    /// The base URL of the Lambda API: `POST {}/2015-03-31/functions/NAME/invocations` invokes
    /// ingest or watchdog.
    #[must_use]
    pub fn functions_url(&self) -> String {
        endpoint::url(self.ports.functions)
    }

    /// The outputs of infra/stores/template.yaml.
    #[must_use]
    pub fn outputs(&self) -> &BTreeMap<String, String> {
        &self.outputs
    }

    /// The environment variables of the functions, for example `DEVICES_TABLE` and
    /// `AWS_ENDPOINT_URL`.
    #[must_use]
    pub fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.data_directory.root()
    }

    /// The folder of the logs, one per child.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.data_directory.logs()
    }
}

impl Stage {
    fn description(self) -> &'static str {
        match self {
            Self::Stores => "the broker and the stores, which write their data to disk",
            Self::Routers => "the routers",
            Self::Functions => "the functions",
            Self::IotCore => "the IoT Core emulator",
            Self::Simulator => "the simulator",
        }
    }
}

impl Drop for DevStack {
    fn drop(&mut self) {
        while let Some(child) = self.children.pop() {
            drop(child); // users of a service before the service
        }
        self.reaper.stop();
        if std::thread::panicking() {
            self.data_directory.disable_cleanup();
            eprintln!("the logs of the devstack of this test are in {}", self.logs().display());
        }
    }
}
