//! Devices with certificates of their own, over TLS: `make run SECURE=1`. What each may do there is tried in tests/devices.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Result, ensure};
use blackbox::system::System;
use devstack::Options;
use serde_json::json;

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[tokio::test]
async fn a_simulated_device_with_a_certificate_comes_online_and_obeys() -> Result<()> {
    let options = Options { devices: 1, tls_port: Some(free_port()?), ..Options::default() };
    let system = System::start_with(options).await?;
    system
        .eventually("the device is online", || async {
            let device = system.get("/api/devices/sim-dc-001").await?;
            ensure!(device["connection_status"] == "online", "it is {device}");
            Ok(())
        })
        .await?;
    let commands = "/api/devices/sim-dc-001/commands";
    system.post(commands, json!({"cmd": "request_status"})).await?;
    system
        .eventually("its answer", || async {
            let newest = system.get(commands).await?;
            ensure!(newest[0]["status"] == "accepted", "{newest}");
            Ok(())
        })
        .await
}
