//! The broker as devices meet it on AWS (`make run SECURE=1`): TLS, a certificate for each device, and the rights that the
//! IoT policy gives. Certificates and listeners are made by infra/provision, from the policy that AWS gets.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::data_directory::DataDirectory;
use crate::options::Options;

/// Makes what broker, edge and devices need to know each other.
pub(crate) struct TlsSetup {
    /// Where devices connect.
    pub(crate) port: u16,
    python: PathBuf,
    modules: PathBuf,
    authority: PathBuf,
    identities: PathBuf,
}

impl TlsSetup {
    /// None: devices connect in the clear, without saying who they are.
    pub(crate) fn from_options(options: &Options, data_directory: &DataDirectory) -> Option<Self> {
        Some(Self {
            port: options.tls_port?,
            python: options.checkout.join(".venv/bin/python"),
            modules: options.checkout.join("infra"),
            authority: data_directory.root().join("authority"),
            identities: data_directory.root().join("identities"),
        })
    }

    /// The listeners' lines of mosquitto.conf: one for devices, and one for the edge alone.
    pub(crate) async fn listeners(&self, iot_core_port: u16) -> Result<String> {
        let port = self.port;
        ensure!(
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok(),
            "port {port} (MQTT with TLS) is taken: free it, or choose another, as in `make run SECURE=1 TLS_PORT={}`",
            port.saturating_add(1)
        );
        let (devices, iot_core) = (port.to_string(), iot_core_port.to_string());
        let arguments = ["broker", "--devices-port", &devices, "--iot-core-port", &iot_core];
        self.provision(&arguments).await
    }

    /// The broker for the edge, with the password that it was given: [`TlsSetup::listeners`] makes it anew.
    pub(crate) fn iot_core_broker(&self, iot_core_port: u16) -> Result<String> {
        let path = self.authority.join("iot-core.password");
        let password = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(format!("iot-core:{password}@127.0.0.1:{iot_core_port}"))
    }

    /// Certificates for devices that have none yet; the folder that they are in.
    pub(crate) async fn identities(&self, devices: &[String]) -> Result<&Path> {
        let out = self.identities.display().to_string();
        let mut arguments = vec!["add", "--out", &out];
        arguments.extend(devices.iter().map(String::as_str));
        self.provision(&arguments).await?;
        Ok(&self.identities)
    }

    async fn provision(&self, arguments: &[&str]) -> Result<String> {
        let done = Command::new(&self.python)
            .args(["-m", "provision"])
            .args(arguments)
            .arg("--local")
            .arg(&self.authority)
            .env("PYTHONPATH", &self.modules)
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("cannot run {}", self.python.display()))?;
        let problem = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "infra/provision failed: {problem}");
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }
}
