//! The order in which things start and stop.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use futures::future::{join_all, select_all};
use tracing::info;

use crate::child::{Child, Program};
use crate::folder::Folder;
use crate::functions::{FUNCTIONS, Router};
use crate::guard::Guard;
use crate::options::{Options, Parts};
use crate::ports::{PortBlock, Ports};
use crate::settings::{self, Outputs};
use crate::{aws, broker, edge, endpoint, ready, sample, stores};

/// A running system. [`Stack::stop`] ends it in order and keeps its data; dropping it kills it.
pub struct Stack {
    /// In the order of their start.
    children: Vec<(Stage, Child)>,
    outputs: Outputs,
    settings: BTreeMap<String, String>,
    ports: Ports,
    guard: Guard,
    options: Options,
    http: reqwest::Client,
    // After the children: they use the folder and the ports.
    folder: Folder,
    _port_block: Option<PortBlock>,
}

/// What stops together. Stopping goes backwards through these, so that each has whom it needs until its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Stores,
    Routers,
    Functions,
    Edge,
    Simulator,
}

impl Stack {
    /// Starts what `options` name and returns when it answers.
    ///
    /// # Errors
    /// Each says what to do about it: a taken port, a folder in use, a missing tool or binary, a child that
    /// does not answer (with its log).
    pub async fn start(options: Options) -> Result<Self> {
        let (ports, port_block) = match options.ports {
            Some(ports) => (ports, None),
            None => {
                let block = PortBlock::claim()?;
                (block.ports, Some(block))
            }
        };
        check_tools(&options)?;
        let folder = match &options.data {
            Some(path) => Folder::open(path)?,
            None => Folder::temporary()?,
        };
        ports.check_free()?;
        let mut stack = Self {
            children: Vec::new(),
            outputs: Outputs::new(),
            settings: BTreeMap::new(),
            ports,
            guard: Guard::start()?,
            options,
            http: reqwest::Client::builder().no_proxy().build()?,
            folder,
            _port_block: port_block,
        };
        if let Err(error) = stack.start_parts().await {
            stack.folder.keep(); // the error names a log
            stack.stop().await;
            return Err(error);
        }
        Ok(stack)
    }

    async fn start_parts(&mut self) -> Result<()> {
        info!("starting the AWS endpoint (MiniStack)");
        self.start_endpoint().await?;
        self.deploy_stores().await?;
        if self.options.parts == Parts::System {
            self.start_broker().await?;
            self.start_functions().await?;
            self.start_edge().await?;
        }
        if self.options.devices > 0 {
            self.start_devices().await?;
        }
        Ok(())
    }

    async fn start_endpoint(&mut self) -> Result<()> {
        let program = endpoint::program(&tools(&self.options), self.ports.endpoint, &self.folder);
        let child = self.start_child(program).await?;
        let health = endpoint::health_url(self.ports.endpoint);
        ready::until(&child, || ready::answers(&self.http, &health)).await?;
        self.children.push((Stage::Stores, child));
        Ok(())
    }

    async fn deploy_stores(&mut self) -> Result<()> {
        info!("deploying bucket, queues and tables into it (infra/stores)");
        let template = self.options.checkout.join("infra/stores/template.yaml");
        let deployed = stores::deploy(&self.endpoint_url(), &template).await?;
        self.outputs = deployed.outputs;
        if deployed.new && self.options.data.is_some() {
            self.persist_endpoint().await?;
        }
        let path = self.folder.outputs();
        tokio::fs::write(&path, serde_json::to_vec_pretty(&self.outputs)?)
            .await
            .with_context(|| format!("cannot write {}", path.display()))?;

        let path = self.options.checkout.join("template.yaml");
        let template = tokio::fs::read_to_string(&path)
            .await
            .with_context(|| format!("cannot read {}", path.display()))?;
        self.settings = settings::of_template(&template, &self.outputs)?;
        self.settings.extend(self.local_settings());
        self.settings.extend(self.options.settings.iter().cloned());
        Ok(())
    }

    /// The endpoint writes tables and queues to disk only when it is stopped, but objects at once. If it died in
    /// the first run, there would be a bucket and no memory of having made it, which no deployment could mend.
    async fn persist_endpoint(&mut self) -> Result<()> {
        if let Some((_, endpoint)) = self.children.pop() {
            endpoint.stop().await;
        }
        self.start_endpoint().await
    }

    /// Where the local functions differ from the template.
    fn local_settings(&self) -> Vec<(String, String)> {
        let mut settings = aws::environment(&self.endpoint_url());
        settings.extend(
            [
                ("AWS_ENDPOINT_URL_IOT_DATA_PLANE", self.iot_data_url()),
                // No gateway checks tokens here, and everything listens on loopback alone.
                ("API_AUTH", "none".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        settings
    }

    async fn start_broker(&mut self) -> Result<()> {
        info!("starting the MQTT broker (Mosquitto)");
        let program = broker::program(self.ports.mqtt, &self.folder)?;
        let child = self.start_child(program).await?;
        ready::until(&child, || ready::listens(self.ports.mqtt)).await?;
        self.children.push((Stage::Stores, child));
        Ok(())
    }

    async fn start_functions(&mut self) -> Result<()> {
        let instances = self.options.instances;
        info!("starting the functions behind `cargo lambda watch`, {instances} instances each");
        for router in [Router::Rest, Router::Invocations] {
            let tools = tools(&self.options);
            let program = router.program(&tools, &self.options.checkout, self.port_of(router));
            let child = self.start_child(program).await?;
            self.children.push((Stage::Routers, child));
        }
        // Both at once: each asks cargo first.
        for (_, child) in self.children.iter().filter(|(stage, _)| *stage == Stage::Routers) {
            let port = self.port_of(if child.name() == Router::Rest.name() {
                Router::Rest
            } else {
                Router::Invocations
            });
            ready::until(child, || ready::listens(port)).await?;
        }
        let environment: Vec<_> = self.settings.clone().into_iter().collect();
        for function in &FUNCTIONS {
            let programs = function.programs(
                &self.options.binaries,
                instances,
                self.port_of(function.router),
                &environment,
                self.folder.root(),
            );
            for program in programs {
                let child = self.start_child(program).await?;
                self.children.push((Stage::Functions, child));
            }
        }
        let health = format!("{}/health", self.rest_url());
        let stats = self.child("stats-1")?;
        ready::until(stats, || ready::answers(&self.http, &health)).await
    }

    async fn start_edge(&mut self) -> Result<()> {
        info!("starting the edge between broker, queue and functions");
        let Options { binaries, checkout, .. } = &self.options;
        let program = edge::edge(binaries, checkout, self.ports, &self.folder);
        let child = self.start_child(program).await?;
        ready::until(&child, || ready::listens(self.ports.iot_data)).await?;
        self.children.push((Stage::Edge, child));
        Ok(())
    }

    async fn start_devices(&mut self) -> Result<()> {
        let devices = self.options.devices;
        info!("registering the sample devices and simulating {devices}");
        sample::register(&self.http, &self.rest_url()).await?;
        let program = edge::simulator(&self.options.binaries, devices, self.ports, &self.folder);
        let child = self.start_child(program).await?;
        self.children.push((Stage::Simulator, child));
        Ok(())
    }

    async fn start_child(&self, program: Program) -> Result<Child> {
        Child::start(program, &self.folder.logs(), self.guard.clone()).await
    }

    /// Stops everything, in order: who sends before who receives, the stores last. Their data is on disk afterwards.
    pub async fn stop(mut self) {
        while let Some(stage) = self.children.iter().map(|(stage, _)| *stage).max() {
            let (now, later) =
                std::mem::take(&mut self.children).into_iter().partition(|(of, _)| *of == stage);
            self.children = later;
            info!("stopping {}", stage.what());
            join_all(now.into_iter().map(|(_, child): (_, Child)| child.stop())).await;
        }
    }

    fn port_of(&self, router: Router) -> u16 {
        match router {
            Router::Rest => self.ports.rest,
            Router::Invocations => self.ports.functions,
        }
    }
}

/// Children, by name: `ministack`, `mosquitto`, `rest-router`, `invocation-router`, `edge`, `simulator`, and a
/// function with the number of its instance (`ingest-1`).
impl Stack {
    /// The names of the children, in the order of their start.
    pub fn names(&self) -> impl Iterator<Item = &str> {
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

    /// `kill -9`, and it stays away until [`Stack::resume`].
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
    pub async fn broken(&self) -> &str {
        let ends = self.children.iter().map(|(_, child)| {
            Box::pin(async move {
                child.ended().await;
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
impl Stack {
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
        endpoint::url(self.ports.endpoint)
    }

    /// The edge's iot-data API.
    #[must_use]
    pub fn iot_data_url(&self) -> String {
        endpoint::url(self.ports.iot_data)
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
        self.folder.root()
    }

    /// The folder of the logs, one a child.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.folder.logs()
    }
}

impl Stage {
    fn what(self) -> &'static str {
        match self {
            Self::Stores => "the broker and the AWS endpoint, which write their data to disk",
            Self::Routers => "the routers",
            Self::Functions => "the functions",
            Self::Edge => "the edge",
            Self::Simulator => "the simulator",
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        while let Some(child) = self.children.pop() {
            drop(child); // who uses another first
        }
        self.guard.dismiss();
        if std::thread::panicking() {
            self.folder.keep();
            eprintln!("the logs of this test's stack are in {}", self.logs().display());
        }
    }
}

fn tools(options: &Options) -> PathBuf {
    options.checkout.join(".venv/bin")
}

/// Everything that has to be there before anything is started.
fn check_tools(options: &Options) -> Result<()> {
    let tools = tools(options);
    for tool in ["ministack", "cargo-lambda"] {
        if !tools.join(tool).is_file() {
            bail!("{tool} is missing from {}: `make setup` installs it", tools.display());
        }
    }
    if options.parts == Parts::Endpoint {
        return Ok(());
    }
    let functions = FUNCTIONS.iter().map(|function| function.name);
    for binary in functions.chain([edge::EDGE, edge::SIMULATOR]) {
        let path = options.binaries.join(binary);
        if !path.is_file() {
            bail!("{} is missing: `cargo build --workspace --bins` builds it", path.display());
        }
    }
    Ok(())
}
