//! The programs that connect to the broker: the IoT Core emulator and the simulator.

use std::path::Path;
use std::time::Duration;

use crate::aws;
use crate::child::Program;
use crate::data_directory::DataDirectory;
use crate::endpoint;
use crate::options::Options;
use crate::ports::Ports;

/// The name of the IoT Core emulator as a child.
pub(crate) const IOT_CORE: &str = "iot-core";
/// The name of the simulator as a child.
pub(crate) const SIMULATOR: &str = "simulator";

/// `broker` may contain a password, so it is passed in the environment: every user can read
/// arguments.
pub(crate) fn iot_core(
    options: &Options,
    broker: String,
    aws_endpoint: &str,
    ports: Ports,
    data_directory: &DataDirectory,
) -> Program {
    let mut arguments = vec![
        "--template".to_owned(),
        options.checkout.join("template.yaml").display().to_string(),
        "--outputs".to_owned(),
        data_directory.outputs().display().to_string(),
        "--functions".to_owned(),
        endpoint::url(ports.functions),
        "--iot-data".to_owned(),
        format!("127.0.0.1:{}", ports.iot_data),
    ];
    if let Some(visibility_timeout) = options.visibility_timeout {
        arguments
            .extend(["--visibility-timeout".to_owned(), visibility_timeout.as_secs().to_string()]);
    }
    Program {
        name: IOT_CORE.to_owned(),
        executable: options.binaries.join(IOT_CORE),
        arguments,
        environment: [("IOT_CORE_MQTT".to_owned(), broker)]
            .into_iter()
            .chain(aws::environment(aws_endpoint))
            .collect(),
        working_directory: data_directory.root().to_owned(),
        // It forwards the messages in memory; others stay in the broker or the queue.
        stop_timeout: Duration::from_secs(20),
        restart_on_exit: true,
    }
}

/// With the folder `identities`, each device connects with TLS and its own certificate.
pub(crate) fn simulator(
    binaries: &Path,
    devices: u32,
    broker: String,
    identities: Option<&Path>,
    data_directory: &DataDirectory,
) -> Program {
    let mut arguments =
        vec!["--broker".to_owned(), broker, "--devices".to_owned(), devices.to_string()];
    if let Some(identities) = identities {
        arguments.extend(["--identities".to_owned(), identities.display().to_string()]);
    }
    Program {
        name: SIMULATOR.to_owned(),
        executable: binaries.join(SIMULATOR),
        arguments,
        environment: Vec::new(),
        working_directory: data_directory.root().to_owned(),
        stop_timeout: Duration::from_secs(10),
        restart_on_exit: true,
    }
}
