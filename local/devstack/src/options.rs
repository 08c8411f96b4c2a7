//! What to start, and where.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ports::Ports;

/// How a stack is started. The default is what a test wants: free ports, a temporary data folder, no
/// simulated devices.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is started.
    pub components: Components,
    /// Where it listens; `None` takes free ports.
    pub ports: Option<Ports>,
    /// The address that the REST API listens on: another than loopback's only inside of a container, whose published
    /// port decides who reaches it.
    pub rest_address: IpAddr,
    /// An AWS endpoint that runs already and is used instead of one of the stack's own; it is left as it is at the end.
    pub endpoint_url: Option<String>,
    /// An MQTT broker that runs already, as `HOST:PORT`, likewise. Not with `tls_port`.
    pub broker: Option<String>,
    /// Where devices connect with TLS and certificates of their own, under the rights of the IoT policy; the port of
    /// MQTT is the edge's alone then. `None`: in the clear, and everybody may everything.
    pub tls_port: Option<u16>,
    /// Where tables, objects, queued messages and logs are kept; `None` makes a temporary folder that goes
    /// with the stack.
    pub data: Option<PathBuf>,
    /// The folder with the binaries of the functions, the edge and the simulator.
    pub binaries: PathBuf,
    /// The checkout: its templates, routes and `.venv`.
    pub checkout: PathBuf,
    /// Where measurements are kept.
    pub metric_store: MetricStore,
    /// How many processes of each function run; one works on one request at a time, as on Lambda.
    pub instances: usize,
    /// How many devices are simulated. Zero: no simulator, and no sample devices in the registry.
    pub devices: u32,
    /// After how long a message that could not be handled comes again, in whole seconds; `None` is the edge's default.
    pub visibility_timeout: Option<Duration>,
    /// Settings of the functions that differ from those of template.yaml and of the local system, as the address of a
    /// proxy in place of a store's.
    pub settings: Vec<(String, String)>,
}

/// Which part of the system a stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Components {
    /// The AWS endpoint with the stores in it: enough for the tests of an adapter.
    Endpoint,
    /// The endpoint, the broker, the functions behind their routers, the edge.
    System,
}

/// Where measurements are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum MetricStore {
    /// In the messages table of the AWS endpoint.
    #[default]
    Dynamodb,
    /// In the stand-in of Timestream, which is started for it.
    Timestream,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            components: Components::System,
            ports: None,
            rest_address: Ipv4Addr::LOCALHOST.into(),
            endpoint_url: None,
            broker: None,
            tls_port: None,
            data: None,
            binaries: default_binary_directory(),
            checkout: checkout(),
            metric_store: MetricStore::default(),
            instances: 2,
            devices: 0,
            visibility_timeout: None,
            settings: Vec::new(),
        }
    }
}

impl Options {
    /// A stack that is the AWS endpoint with the stores in it, and nothing else.
    #[must_use]
    pub fn endpoint_only() -> Self {
        Self { components: Components::Endpoint, ..Self::default() }
    }
}

/// Where cargo puts binaries: beside this one, or one folder up for a test (`target/debug/deps`).
fn default_binary_directory() -> PathBuf {
    let executable = std::env::current_exe().unwrap_or_default();
    let folder = executable.parent().unwrap_or(Path::new("."));
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    folder.to_owned()
}

fn checkout() -> PathBuf {
    // This crate is local/devstack.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}
