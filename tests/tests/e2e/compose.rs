//! The system as local/compose.yaml has it: beside an AWS endpoint and a broker that are not its own. The containers are
//! missing here; the broker's configuration and the functions' settings are the file's.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
use blackbox::system::System;
use devstack::Options;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A program that ends with the test.
struct ChildProcess(Child);

impl ChildProcess {
    fn start(command: &mut Command) -> Result<Self> {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(quiet.spawn().with_context(|| format!("cannot start {command:?}"))?))
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn compose() -> Result<Value> {
    Ok(yaml_serde::from_str(include_str!("../../../local/compose.yaml"))?)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Mosquitto with the file's configuration, its folders elsewhere.
fn broker(folder: &Path, port: u16) -> Result<ChildProcess> {
    let root = folder.join("mosquitto");
    std::fs::create_dir_all(root.join("config/shared"))?;
    std::fs::create_dir_all(root.join("data"))?;
    let shared = include_str!("../../../local/mosquitto.conf");
    std::fs::write(root.join("config/shared/mosquitto.conf"), shared)?;
    let listener = compose()?["configs"]["listener"]["content"].clone();
    let listener = listener.as_str().context("the listener's configuration")?;
    ensure!(listener.contains("listener 1883\n"), "{listener}");
    let listener = listener
        .replace("/mosquitto/", &format!("{}/", root.display()))
        .replace("listener 1883\n", &format!("listener {port} 127.0.0.1\n"));
    let path = root.join("config/listener.conf");
    std::fs::write(&path, listener)?;
    // Debian keeps daemons where not everybody looks.
    let path_of_daemons = format!("{}:/usr/sbin", std::env::var("PATH")?);
    ChildProcess::start(Command::new("mosquitto").arg("-c").arg(path).env("PATH", path_of_daemons))
}

/// MiniStack, with nothing in it.
fn endpoint(folder: &Path, port: u16) -> Result<ChildProcess> {
    let program = Options::default().checkout.join(".venv/bin/ministack");
    ChildProcess::start(Command::new(program).current_dir(folder).envs([
        ("BIND_HOST", "127.0.0.1"),
        ("MINISTACK_HOST", "127.0.0.1"),
        ("GATEWAY_PORT", &port.to_string()),
        ("IOT_MTLS_ENABLED", "0"),
        ("SFTP_ENABLED", "0"),
    ]))
}

#[tokio::test]
async fn a_system_uses_an_endpoint_and_a_broker_that_run_already_and_leaves_them_running()
-> Result<()> {
    let folder = TempDir::new()?;
    let (mqtt, aws) = (free_port()?, free_port()?);
    let mut others = [broker(folder.path(), mqtt)?, endpoint(folder.path(), aws)?];
    let system = System::start_with(Options {
        endpoint_url: Some(format!("http://127.0.0.1:{aws}")),
        broker: Some(format!("127.0.0.1:{mqtt}")),
        data: Some(folder.path().join("data")),
        ..Options::default()
    })
    .await?;
    let own: Vec<_> = system.stack.child_names().collect();
    ensure!(!own.contains(&"ministack") && !own.contains(&"mosquitto"), "{own:?}");

    let mut device = Device::connect(mqtt, "shed-1").await?;
    let message = json!({"device_id": "shed-1", "temperature": 23.5, "unit": "celsius"});
    device.publish("iot/shed-1/telemetry", message.to_string()).await?;
    system.register("shed-1").await?;
    system
        .eventually("the measurement", || async {
            let points = system.list("/api/devices/shed-1/metrics").await?;
            ensure!(points.len() == 1 && points[0]["value"] == 23.5, "{points:?}");
            Ok(())
        })
        .await?;

    system.stack.stop().await;
    for ChildProcess(other) in &mut others {
        ensure!(other.try_wait()?.is_none(), "{other:?} has ended");
    }
    Ok(())
}

#[test]
fn what_the_file_tells_the_functions_is_what_the_stack_understands() -> Result<()> {
    let compose = compose()?;
    let told = compose["services"]["functions"]["environment"].clone();
    let told = told.as_object().context("the functions' environment")?;
    let help = Command::new(Options::default().binaries.join("devstack"))
        .args(["run", "--help"])
        .output()?;
    let help = String::from_utf8(help.stdout)?;
    for variable in told.keys() {
        ensure!(help.contains(&format!("[env: {variable}=")), "{variable}: {help}");
    }
    Ok(())
}

#[test]
fn nothing_is_published_beyond_loopback_and_every_image_has_a_version() -> Result<()> {
    let compose = compose()?;
    let services = compose["services"].as_object().context("services")?;
    for (name, service) in services {
        for port in service["ports"].as_array().into_iter().flatten() {
            ensure!(
                port.as_str().is_some_and(|port| port.starts_with("127.0.0.1:")),
                "{name}: {port}"
            );
        }
        if let Some(image) = service["image"].as_str() {
            let (_, tag) = image.trim_end_matches('}').rsplit_once(':').context("a tag")?;
            ensure!(tag.starts_with(|first: char| first.is_ascii_digit()), "{name}: {image}");
        }
    }
    let requirements = include_str!("../../../local/requirements.txt");
    let ours = requirements.lines().find_map(|line| line.strip_prefix("ministack=="));
    let theirs = services["endpoint"]["image"].as_str().context("an image")?;
    let ours = ours.context("a version of MiniStack")?;
    ensure!(theirs.contains(&format!("ministack:{ours}}}")), "{theirs}, and {ours} is tested");
    Ok(())
}
