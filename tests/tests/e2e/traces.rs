//! What X-Ray's daemon gets of the functions that run.

use std::net::UdpSocket;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
use blackbox::system::System;
use devstack::Options;
use serde_json::{Value, json};

#[tokio::test]
async fn a_batch_and_a_request_are_traced_with_their_calls_of_stores() -> Result<()> {
    let daemon = UdpSocket::bind("127.0.0.1:0")?;
    daemon.set_nonblocking(true)?;
    let address = daemon.local_addr()?.to_string();
    let system = System::start_with(Options {
        settings: vec![("AWS_XRAY_DAEMON_ADDRESS".to_owned(), address)],
        ..Options::default()
    })
    .await?;
    let mut device = Device::connect(system.mqtt_port(), "traced").await?;
    device.publish("iot/traced/telemetry", r#"{"device_id":"traced","temperature":1}"#).await?;
    system.register("traced").await?;

    let documents = Mutex::new(Vec::new());
    for (invocation, service, operation) in
        [("batch", "S3", "PutObject"), ("request", "DynamoDB", "TransactWriteItems")]
    {
        system
            .eventually(&format!("{operation} in a {invocation}"), || async {
                let mut documents = documents.lock().expect("nobody panics with it");
                receive(&daemon, &mut documents)?;
                let call = documents
                    .iter()
                    .find(|document| document["aws"]["operation"] == operation)
                    .context("no call")?;
                let above = documents
                    .iter()
                    .find(|document| document["id"] == call["parent_id"])
                    .context("nothing above it")?;
                ensure!(call["name"] == service, "{call}");
                ensure!(call["annotations"]["outcome"] == "ok", "{call}");
                ensure!(above["name"] == invocation, "{above}");
                ensure!(above["trace_id"] == call["trace_id"], "{above} {call}");
                Ok(())
            })
            .await?;
    }
    let text = json!(*documents.lock().expect("nobody panics with it")).to_string();
    ensure!(!text.contains("traced"), "a device, or a key with it, is in {text}");
    Ok(())
}

/// All datagrams that have come.
fn receive(daemon: &UdpSocket, documents: &mut Vec<Value>) -> Result<()> {
    let mut datagram = [0; 65_536];
    while let Ok(length) = daemon.recv(&mut datagram) {
        let text = std::str::from_utf8(&datagram[..length])?;
        let (_, document) = text.split_once('\n').context("no header")?;
        documents.push(serde_json::from_str(document)?);
    }
    Ok(())
}
