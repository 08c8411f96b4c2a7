//! The AWS endpoint: MiniStack, which emulates S3, DynamoDB, SQS, SNS and CloudFormation.

use std::path::Path;
use std::time::Duration;

use crate::child::Program;
use crate::data_directory::DataDirectory;

/// The name of the child.
pub(crate) const NAME: &str = "ministack";

/// On SIGTERM it writes tables and queues to disk. What is not written when it is killed is lost.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn program(tools: &Path, port: u16, data_directory: &DataDirectory) -> Program {
    let environment = [
        ("BIND_HOST", "127.0.0.1".to_owned()),
        ("GATEWAY_PORT", port.to_string()),
        ("MINISTACK_HOST", "127.0.0.1".to_owned()),
        // Each of these listens on all interfaces.
        ("IOT_MTLS_ENABLED", "0".to_owned()),
        ("SFTP_ENABLED", "0".to_owned()),
        ("PERSIST_STATE", "1".to_owned()),
        ("STATE_DIR", data_directory.endpoint_state().display().to_string()),
        ("S3_PERSIST", "1".to_owned()),
        ("S3_DATA_DIR", data_directory.buckets().display().to_string()),
    ];
    Program {
        name: NAME.to_owned(),
        executable: tools.join("ministack"),
        arguments: Vec::new(),
        environment: environment.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        working_directory: data_directory.root().to_owned(),
        stop_timeout: STOP_TIMEOUT,
        // A restarted endpoint has no tables: the whole system restarts.
        restart_on_exit: false,
    }
}

pub(crate) fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

pub(crate) fn health_url(port: u16) -> String {
    format!("{}/_ministack/health", url(port))
}
