//! Devices with certificates over TLS: `make run SECURE=1`. tests/devices verifies their
//! permissions.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Result;
use blackbox::expect::expect_fields;
use blackbox::system::System;
use devstack::Options;
use serde_json::json;

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[tokio::test]
async fn device_with_certificate_comes_online_and_acknowledges() -> Result<()> {
    let options = Options { devices: 1, tls_port: Some(free_port()?), ..Options::default() };
    let system = System::start_with(options).await?;
    system
        .eventually("the device is online", || async {
            let path = "/api/devices/sim-dc-001";
            let online = [("/connection_status", json!("online"))];
            expect_fields(&format!("GET {path}"), &system.get(path).await?, online)
        })
        .await?;
    let commands = "/api/devices/sim-dc-001/commands";
    system.post(commands, json!({"cmd": "request_status"})).await?;
    system
        .eventually("the acknowledgement", || async {
            let newest = system.get(commands).await?;
            expect_fields(commands, &newest, [("/0/status", json!("accepted"))])
        })
        .await
}
