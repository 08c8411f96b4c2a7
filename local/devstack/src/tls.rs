//! A broker with the security of AWS IoT Core (`make run SECURE=1`): TLS, a certificate for each
//! device, and the permissions of the IoT policy. infra/provision creates certificates and
//! listeners from the policy that is deployed on AWS.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::data_directory::DataDirectory;
use crate::options::Options;

/// Creates the credentials of broker, IoT Core emulator and devices.
pub(crate) struct TlsSetup {
    /// The port where devices connect.
    pub(crate) port: u16,
    python: PathBuf,
    modules: PathBuf,
    authority: PathBuf,
    identities: PathBuf,
}

impl TlsSetup {
    /// `None` when devices connect without TLS.
    pub(crate) fn from_options(options: &Options, data_directory: &DataDirectory) -> Option<Self> {
        Some(Self {
            port: options.tls_port?,
            python: options.checkout.join(".venv/bin/python"),
            modules: options.checkout.join("infra"),
            authority: data_directory.root().join("authority"),
            identities: data_directory.root().join("identities"),
        })
    }

    /// The listeners of mosquitto.conf: one for devices, and one for the IoT Core emulator only.
    pub(crate) async fn listeners(&self, iot_core_port: u16) -> Result<String> {
        let port = self.port;
        ensure!(
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok(),
            "port {port} (MQTT with TLS) is in use: free it, or choose another with `make run SECURE=1 TLS_PORT={}`",
            port.saturating_add(1)
        );
        let (devices, iot_core) = (port.to_string(), iot_core_port.to_string());
        let arguments = ["broker", "--devices-port", &devices, "--iot-core-port", &iot_core];
        self.provision(&arguments).await
    }

    /// The address of the broker with the password of the IoT Core emulator, which
    /// [`TlsSetup::listeners`] generates.
    pub(crate) fn iot_core_broker(&self, iot_core_port: u16) -> Result<String> {
        let path = self.authority.join("iot-core.password");
        let password = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok(format!("iot-core:{password}@127.0.0.1:{iot_core_port}"))
    }

    /// Creates certificates for the devices that have none, and returns their folder.
    pub(crate) async fn identities(&self, devices: &[String]) -> Result<&Path> {
        let out = self.identities.display().to_string();
        let mut arguments = vec!["add", "--out", &out];
        arguments.extend(devices.iter().map(String::as_str));
        self.provision(&arguments).await?;
        Ok(&self.identities)
    }

    async fn provision(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.python)
            .args(["-m", "provision"])
            .args(arguments)
            .arg("--local")
            .arg(&self.authority)
            .env("PYTHONPATH", &self.modules)
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("cannot run {}", self.python.display()))?;
        let problem = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "infra/provision failed: {problem}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
