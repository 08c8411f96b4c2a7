//! The ports of the system, all on the loopback interface.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result, bail};

use crate::options::{MetricStore, Options};

/// The port of each service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The REST API.
    pub rest: u16,
    /// The MQTT broker.
    pub mqtt: u16,
    /// The AWS endpoint.
    pub endpoint: u16,
    /// The iot-data API of the IoT Core emulator.
    pub iot_data: u16,
    /// The invocation and runtime API of ingest and watchdog.
    pub functions: u16,
    /// The Timestream emulator, if it is the metric store.
    pub timestream: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            rest: 8080,
            mqtt: 1883,
            endpoint: 4566,
            iot_data: 4568,
            functions: 9000,
            timestream: 4567,
        }
    }
}

impl Ports {
    /// The ports that a devstack listens on, with their purpose and their variable in the Makefile.
    fn in_use(&self, options: &Options) -> impl Iterator<Item = (u16, &'static str, &'static str)> {
        let uses_timestream = options.metric_store == MetricStore::Timestream;
        [
            (true, self.rest, "the REST API", "PORT"),
            (options.broker.is_none(), self.mqtt, "MQTT", "MQTT_PORT"),
            (options.endpoint_url.is_none(), self.endpoint, "the AWS endpoint", "ENDPOINT_PORT"),
            (true, self.iot_data, "iot-data", "IOT_DATA_PORT"),
            (true, self.functions, "the functions' runtime API", "RUNTIME_PORT"),
            (uses_timestream, self.timestream, "Timestream", "TIMESTREAM_PORT"),
        ]
        .into_iter()
        .filter_map(|(used, port, purpose, variable)| used.then_some((port, purpose, variable)))
    }

    /// Checks that no port is in use. The error names the first one and the variable that changes
    /// it.
    pub(crate) fn check_free(&self, options: &Options) -> Result<()> {
        for (port, purpose, variable) in self.in_use(options) {
            if !is_free(port) {
                bail!(
                    "port {port} ({purpose}) is in use: free it, or choose another with `make run {variable}={}`",
                    port.saturating_add(1)
                );
            }
        }
        Ok(())
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Free ports for the devstack of a test, reserved while this value exists.
///
/// Binding port 0 and closing it is a race between devstacks that start at the same time, in one
/// process or in several. So a lock on a file claims a block of ports, outside the range that the
/// kernel uses for outgoing connections (32768 and up).
pub(crate) struct PortBlock {
    pub(crate) ports: Ports,
    _claim: File,
}

impl PortBlock {
    const FIRST_PORT: u16 = 25_000;
    const SIZE: u16 = 6;
    const BLOCKS: u16 = 1_000;

    pub(crate) fn claim() -> Result<Self> {
        let folder = std::env::temp_dir().join("iot-meter-ports");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        for block in 0..Self::BLOCKS {
            let path = folder.join(block.to_string());
            let claim =
                File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
            match claim.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
            let first = Self::FIRST_PORT + block * Self::SIZE;
            let ports = Ports {
                rest: first,
                mqtt: first + 1,
                endpoint: first + 2,
                iot_data: first + 3,
                functions: first + 4,
                timestream: first + 5,
            };
            let all = Options { metric_store: MetricStore::Timestream, ..Options::default() };
            if ports.check_free(&all).is_ok() {
                return Ok(Self { ports, _claim: claim });
            }
        }
        bail!("no free block of ports above {}", Self::FIRST_PORT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrent_blocks_share_no_port() {
        let one = PortBlock::claim().unwrap();
        let two = PortBlock::claim().unwrap();
        assert_ne!(one.ports, two.ports);
    }

    #[test]
    fn port_in_use_is_an_error_with_its_variable() {
        let block = PortBlock::claim().unwrap();
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, block.ports.mqtt)).unwrap();
        let error = block.ports.check_free(&Options::default()).unwrap_err().to_string();
        assert!(error.contains(&block.ports.mqtt.to_string()), "{error}");
        assert!(error.contains("MQTT_PORT="), "{error}");
    }

    #[test]
    fn ports_of_external_services_are_not_checked() {
        let block = PortBlock::claim().unwrap();
        let Ports { timestream, mqtt, endpoint, .. } = block.ports;
        let take = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let _taken = [timestream, mqtt, endpoint].map(take);
        let external = Options {
            broker: Some("broker:1883".to_owned()),
            endpoint_url: Some("http://endpoint:4566".to_owned()),
            ..Options::default()
        };
        block.ports.check_free(&external).unwrap();
        let all = Options { metric_store: MetricStore::Timestream, ..external };
        let error = block.ports.check_free(&all).unwrap_err().to_string();
        assert!(error.contains("TIMESTREAM_PORT="), "{error}");
    }
}
