//! The trace segments that the functions send to the X-Ray daemon.

use std::net::UdpSocket;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
use blackbox::expect::expect_fields;
use blackbox::system::System;
use devstack::Options;
use serde_json::{Value, json};

#[tokio::test]
async fn batch_and_request_are_traced_with_store_calls() -> Result<()> {
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
                let mut documents = documents.lock().expect("no panic while locked");
                receive(&daemon, &mut documents)?;
                let call = documents
                    .iter()
                    .find(|document| document["aws"]["operation"] == operation)
                    .context("no segment of the call")?;
                let parent = documents
                    .iter()
                    .find(|document| document["id"] == call["parent_id"])
                    .context("the call has no parent segment")?;
                let expected = [
                    ("/name", json!(service)),
                    ("/annotations/outcome", json!("ok")),
                    ("/trace_id", parent["trace_id"].clone()),
                ];
                expect_fields("segment of the call", call, expected)?;
                expect_fields("parent segment", parent, [("/name", json!(invocation))])
            })
            .await?;
    }
    let text = json!(*documents.lock().expect("no panic while locked")).to_string();
    ensure!(!text.contains("traced"), "segments contain a device id: {text}");
    Ok(())
}

/// Reads all received datagrams.
fn receive(daemon: &UdpSocket, documents: &mut Vec<Value>) -> Result<()> {
    let mut datagram = [0; 65_536];
    while let Ok(length) = daemon.recv(&mut datagram) {
        let text = std::str::from_utf8(&datagram[..length])?;
        let (_, document) = text.split_once('\n').context("the datagram has no header")?;
        documents.push(serde_json::from_str(document)?);
    }
    Ok(())
}
