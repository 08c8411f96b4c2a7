//! The order in which things start and stop.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use futures::future::{join_all, select_all};
use tracing::info;

use crate::child::{Child, Program};
use crate::folder::Folder;
use crate::guard::Guard;
use crate::options::{Options, Parts};
use crate::ports::{PortBlock, Ports};
use crate::{broker, endpoint, ready, stores};

/// A running system. [`Stack::stop`] ends it in order and keeps its data; dropping it kills it.
pub struct Stack {
    /// In the order of their start.
    children: Vec<(Stage, Child)>,
    outputs: BTreeMap<String, String>,
    ports: Ports,
    guard: Guard,
    options: Options,
    http: reqwest::Client,
    // After the children: they use the folder and the ports.
    folder: Folder,
    _port_block: Option<PortBlock>,
}

/// What starts together and stops together. Stopping goes backwards, so that each has whom it needs until its end.
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
        let folder = match &options.data {
            Some(path) => Folder::open(path)?,
            None => Folder::temporary()?,
        };
        ports.check_free()?;
        let mut stack = Self {
            children: Vec::new(),
            outputs: BTreeMap::new(),
            ports,
            guard: Guard::start()?,
            options,
            http: reqwest::Client::new(),
            folder,
            _port_block: port_block,
        };
        stack.start_parts().await?;
        Ok(stack)
    }

    async fn start_parts(&mut self) -> Result<()> {
        self.start_stores().await?;
        if self.options.parts == Parts::System {
            self.start_broker().await?;
        }
        Ok(())
    }

    async fn start_stores(&mut self) -> Result<()> {
        info!("starting the AWS endpoint (MiniStack)");
        let program = endpoint::program(&self.tools(), self.ports.endpoint, &self.folder);
        let child = self.start_child(program).await?;
        let health = endpoint::health_url(self.ports.endpoint);
        ready::until(&child, || ready::answers(&self.http, &health)).await?;
        self.children.push((Stage::Stores, child));

        info!("deploying the stores (infra/stores) into it");
        let template = self.options.checkout.join("infra/stores/template.yaml");
        self.outputs = stores::deploy(&self.endpoint_url(), &template).await?;
        let outputs = serde_json::to_vec_pretty(&self.outputs)?;
        let path = self.folder.outputs();
        tokio::fs::write(&path, outputs)
            .await
            .with_context(|| format!("cannot write {}", path.display()))
    }

    async fn start_broker(&mut self) -> Result<()> {
        info!("starting the MQTT broker (Mosquitto)");
        let program = broker::program(self.ports.mqtt, &self.folder)?;
        let child = self.start_child(program).await?;
        ready::until(&child, || ready::listens(self.ports.mqtt)).await?;
        self.children.push((Stage::Stores, child));
        Ok(())
    }

    async fn start_child(&self, program: Program) -> Result<Child> {
        Child::start(program, &self.folder.logs(), self.guard.clone()).await
    }

    /// Stops everything, in order: who sends before who receives, the stores last. Their data is on disk afterwards.
    pub async fn stop(mut self) {
        while let Some(stage) = self.children.iter().map(|(stage, _)| *stage).max() {
            let (now, later) = std::mem::take(&mut self.children)
                .into_iter()
                .partition(|(of, _)| *of == stage);
            self.children = later;
            join_all(now.into_iter().map(|(_, child): (_, Child)| child.stop())).await;
        }
    }

    /// Resolves with a name when a child has died that is not started again: the system is of no use then.
    pub async fn broken(&self) -> String {
        let ends = self.children.iter().map(|(_, child)| {
            Box::pin(async move {
                child.ended().await;
                child.name().to_owned()
            })
        });
        select_all(ends).await.0
    }

    fn tools(&self) -> PathBuf {
        self.options.checkout.join(".venv/bin")
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

impl Drop for Stack {
    fn drop(&mut self) {
        self.children.clear();
        self.guard.dismiss();
    }
}
