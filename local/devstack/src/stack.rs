//! A running system: stopping it, its children by name, and where things are.

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

/// A running system. [`DevStack::stop`] ends it in order and keeps its data; dropping it kills it.
pub struct DevStack {
    /// In the order of their start.
    children: Vec<(Stage, Child)>,
    outputs: Outputs,
    settings: BTreeMap<String, String>,
    ports: Ports,
    reaper: Reaper,
    options: Options,
    http: reqwest::Client,
    // After the children: they use the folder and the ports.
    data_directory: DataDirectory,
    _port_block: Option<PortBlock>,
}

/// What stops together. Stopping goes backwards through these, so that each has whom it needs until its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Stores,
    Routers,
    Functions,
    IotCore,
    Simulator,
}

impl DevStack {
    /// Starts what `options` name and returns when it answers.
    ///
    /// # Errors
    /// Each says what to do about it: a taken port, a folder in use, a missing tool or binary, a child that
    /// does not answer (with its log, where it has one).
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
        let mut stack = Self {
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
        if let Err(error) = stack.start_components().await {
            stack.data_directory.disable_cleanup(); // the error names a log
            stack.stop().await;
            return Err(error);
        }
        Ok(stack)
    }

    /// Stops everything, in order: who sends before who receives, the stores last. Their data is on disk afterwards.
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

/// Children, by name: `ministack`, `timestream` (where it keeps the measurements), `mosquitto`, `rest-router`, `invocation-router`, `edge`, `simulator`, and a
/// function with the number of its instance (`ingest-1`).
impl DevStack {
    /// The names of the children, in the order of their start.
    pub fn child_names(&self) -> impl Iterator<Item = &str> {
        self.children.iter().map(|(_, child)| child.name())
    }

    /// The process of a child, if it runs now; it changes when the child is started again.
    ///
    /// # Errors
    /// When there is no such child.
    pub fn pid(&self, name: &str) -> Result<Option<u32>> {
        Ok(self.child(name)?.pid())
    }

    /// `kill -9`. Supervision starts it again.
    ///
    /// # Errors
    /// When there is no such child.
    pub fn kill(&self, name: &str) -> Result<()> {
        self.child(name)?.kill();
        Ok(())
    }

    /// `kill -9`, and it stays away until [`DevStack::resume`].
    ///
    /// # Errors
    /// When there is no such child.
    pub async fn pause(&mut self, name: &str) -> Result<()> {
        self.child_mut(name)?.pause().await;
        Ok(())
    }

    /// Starts a paused child again. Returns when its process runs, which is before it answers.
    ///
    /// # Errors
    /// When there is no such child, or it cannot be started.
    pub async fn resume(&mut self, name: &str) -> Result<()> {
        self.child_mut(name)?.resume().await
    }

    /// Resolves with a name when a child has died that is not started again: the system is of no use then.
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
        children
            .find(|child| child.name() == name)
            .with_context(|| format!("this stack has no child {name}"))
    }

    fn child_mut(&mut self, name: &str) -> Result<&mut Child> {
        let mut children = self.children.iter_mut().map(|(_, child)| child);
        children
            .find(|child| child.name() == name)
            .with_context(|| format!("this stack has no child {name}"))
    }
}

/// Where things are.
impl DevStack {
    /// The ports it listens on.
    #[must_use]
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// The base of the REST API, without a slash at its end.
    #[must_use]
    pub fn rest_url(&self) -> String {
        endpoint::url(self.ports.rest)
    }

    /// The AWS endpoint.
    #[must_use]
    pub fn endpoint_url(&self) -> String {
        let default_address = || endpoint::url(self.ports.endpoint);
        self.options.endpoint_url.clone().unwrap_or_else(default_address)
    }

    /// The MQTT broker as `HOST:PORT`, in the clear.
    #[must_use]
    pub fn broker(&self) -> String {
        let default_address = || format!("127.0.0.1:{}", self.ports.mqtt);
        self.options.broker.clone().unwrap_or_else(default_address)
    }

    /// The edge's iot-data API.
    #[must_use]
    pub fn iot_data_url(&self) -> String {
        endpoint::url(self.ports.iot_data)
    }

    /// Timestream, which answers there if measurements are kept in it.
    #[must_use]
    pub fn timestream_url(&self) -> String {
        endpoint::url(self.ports.timestream)
    }

    /// Where ingest and watchdog are invoked: `POST {}/2015-03-31/functions/NAME/invocations`.
    #[must_use]
    pub fn functions_url(&self) -> String {
        endpoint::url(self.ports.functions)
    }

    /// The outputs of infra/stores/template.yaml.
    #[must_use]
    pub fn outputs(&self) -> &BTreeMap<String, String> {
        &self.outputs
    }

    /// The environment that the functions have: `DEVICES_TABLE`, `AWS_ENDPOINT_URL` and so on.
    #[must_use]
    pub fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.data_directory.root()
    }

    /// The folder of the logs, one a child.
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
            drop(child); // who uses another first
        }
        self.reaper.stop();
        if std::thread::panicking() {
            self.data_directory.disable_cleanup();
            eprintln!("the logs of this test's stack are in {}", self.logs().display());
        }
    }
}
