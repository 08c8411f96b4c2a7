//! The edge, and the devices on the other side of the broker.

use std::path::Path;
use std::time::Duration;

use crate::aws;
use crate::child::Program;
use crate::endpoint;
use crate::folder::Folder;
use crate::options::Options;
use crate::ports::Ports;

/// The edge's name as a child.
pub(crate) const EDGE: &str = "edge";
/// The simulator's name as a child.
pub(crate) const SIMULATOR: &str = "simulator";

/// `broker` may hold a password, so it is not among the arguments, which everybody sees.
pub(crate) fn edge(
    options: &Options,
    broker: String,
    aws_endpoint: &str,
    ports: Ports,
    folder: &Folder,
) -> Program {
    let mut arguments = vec![
        "--template".to_owned(),
        options.checkout.join("template.yaml").display().to_string(),
        "--outputs".to_owned(),
        folder.outputs().display().to_string(),
        "--functions".to_owned(),
        endpoint::url(ports.functions),
        "--iot-data".to_owned(),
        format!("127.0.0.1:{}", ports.iot_data),
    ];
    if let Some(redelivery) = options.redelivery {
        arguments.extend(["--visibility-timeout".to_owned(), redelivery.as_secs().to_string()]);
    }
    Program {
        name: EDGE.to_owned(),
        executable: options.binaries.join(EDGE),
        arguments,
        environment: [("EDGE_MQTT".to_owned(), broker)]
            .into_iter()
            .chain(aws::environment(aws_endpoint))
            .collect(),
        folder: folder.root().to_owned(),
        // It hands over what it holds; what it cannot hand over stays in the broker or the queue.
        stop_within: Duration::from_secs(20),
        restarts: true,
    }
}

/// With `identities`, a folder, each device connects as itself, with TLS.
pub(crate) fn simulator(
    binaries: &Path,
    devices: u32,
    broker: String,
    identities: Option<&Path>,
    folder: &Folder,
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
        folder: folder.root().to_owned(),
        stop_within: Duration::from_secs(10),
        restarts: true,
    }
}
