//! The Timestream emulator, and the database and table that the functions use.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::child::Program;
use crate::data_directory::DataDirectory;
use crate::endpoint::url;

/// The name of the child and of its binary.
pub(crate) const NAME: &str = "timestream";
const DATABASE: &str = "iot-meter";
const TABLE: &str = "telemetry";

pub(crate) fn program(binaries: &Path, port: u16, data_directory: &DataDirectory) -> Program {
    let arguments = [
        "--data".to_owned(),
        data_directory.timestream().display().to_string(),
        "--port".to_owned(),
        port.to_string(),
    ];
    Program {
        name: NAME.to_owned(),
        executable: binaries.join(NAME),
        arguments: arguments.to_vec(),
        environment: Vec::new(),
        working_directory: data_directory.root().to_owned(),
        stop_timeout: Duration::from_secs(10),
        // Acknowledged writes are on disk.
        restart_on_exit: true,
    }
}

pub(crate) fn health_url(port: u16) -> String {
    format!("{}/ping", url(port))
}

/// The settings of functions that use it.
pub(crate) fn settings(port: u16) -> Vec<(String, String)> {
    [
        ("METRIC_STORE", "timestream".to_owned()),
        ("TIMESTREAM_DATABASE", DATABASE.to_owned()),
        ("TIMESTREAM_TABLE", TABLE.to_owned()),
        ("AWS_ENDPOINT_URL_TIMESTREAM_WRITE", url(port)),
        ("AWS_ENDPOINT_URL_TIMESTREAM_QUERY", url(port)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// Creates database and table, with the default retention of Timestream, unless they exist.
pub(crate) async fn deploy(http: &reqwest::Client, port: u16) -> Result<()> {
    let database = json!({ "DatabaseName": DATABASE });
    create(http, port, "CreateDatabase", &database).await?;
    let table = json!({
        "DatabaseName": DATABASE,
        "TableName": TABLE,
        "MagneticStoreWriteProperties": { "EnableMagneticStoreWrites": true },
    });
    create(http, port, "CreateTable", &table).await
}

/// Calls the API without its SDK, whose build is long for two calls.
async fn create(http: &reqwest::Client, port: u16, operation: &str, request: &Value) -> Result<()> {
    let answer = http
        .post(url(port))
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", format!("Timestream_20181101.{operation}"))
        .json(request)
        .send()
        .await
        .with_context(|| format!("Timestream {operation} failed"))?;
    if answer.status().is_success() {
        return Ok(());
    }
    let refusal = answer.text().await?;
    if refusal.contains("ConflictException") {
        return Ok(()); // it exists
    }
    bail!("Timestream {operation} failed: {refusal}");
}
