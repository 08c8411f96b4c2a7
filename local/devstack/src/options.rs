//! What a devstack consists of, and where.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::checkout;
use crate::ports::Ports;

/// How a devstack is started. The default is for tests: free ports, a temporary data directory, no
/// simulated devices.
#[derive(Clone, Debug)]
pub struct Options {
    /// The parts that are started.
    pub components: Components,
    /// The ports; `None` claims free ones.
    pub ports: Option<Ports>,
    /// The address that the REST API listens on. Only a container uses another than loopback: its
    /// published port limits access.
    pub rest_address: IpAddr,
    /// An AWS endpoint that runs already and is used instead of an own one. It keeps running at the
    /// end.
    pub endpoint_url: Option<String>,
    /// An MQTT broker that runs already, as `HOST:PORT`, likewise. Cannot be combined with
    /// `tls_port`.
    pub broker: Option<String>,
    /// The port where devices connect with TLS and a certificate each, with the permissions of the
    /// IoT policy; only the IoT Core emulator can use the plain MQTT port then. `None`: plain
    /// connections without authentication.
    pub tls_port: Option<u16>,
    /// The folder of tables, objects, queued messages and logs; `None` uses a temporary folder,
    /// which is removed with the devstack.
    pub data: Option<PathBuf>,
    /// The folder of the functions' binaries, the emulators and the simulator.
    pub binaries: PathBuf,
    /// The checkout: templates, routes and `.venv`.
    pub checkout: PathBuf,
    /// The store of metrics.
    pub metric_store: MetricStore,
    /// Processes of each function. A process handles one request at a time, as on Lambda.
    pub instances: usize,
    /// Number of simulated devices. With 0 there is no simulator, and no devices are registered.
    pub devices: u32,
    /// Visibility timeout of a message whose processing failed, in whole seconds; `None` is the
    /// default of the IoT Core emulator.
    pub visibility_timeout: Option<Duration>,
    /// Settings of the functions that differ from template.yaml and from the local defaults, for
    /// example the address of a proxy instead of a store's.
    pub settings: Vec<(String, String)>,
}

/// The parts of the system that a devstack contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Components {
    /// The AWS endpoint with the stores: enough for the tests of an adapter.
    Endpoint,
    /// The endpoint, the broker, the functions behind their routers, the IoT Core emulator.
    System,
}

/// The store of metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum MetricStore {
    /// The messages table of the AWS endpoint.
    #[default]
    Dynamodb,
    /// The Timestream emulator, which is started for it.
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
            checkout: checkout::find(),
            metric_store: MetricStore::default(),
            instances: 2,
            devices: 0,
            visibility_timeout: None,
            settings: Vec::new(),
        }
    }
}

impl Options {
    /// A devstack that consists of the AWS endpoint with the stores only.
    #[must_use]
    pub fn endpoint_only() -> Self {
        Self { components: Components::Endpoint, ..Self::default() }
    }
}

/// The folder where cargo writes binaries: that of this one, or its parent for a test
/// (`target/debug/deps`).
fn default_binary_directory() -> PathBuf {
    let executable = std::env::current_exe().unwrap_or_default();
    let folder = executable.parent().unwrap_or(Path::new("."));
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    folder.to_owned()
}
