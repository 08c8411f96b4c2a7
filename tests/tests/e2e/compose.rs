//! The system of local/compose.yaml with an external AWS endpoint and an external broker, without
//! containers. The configuration of the broker and the settings of the functions are those of the
//! file.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use blackbox::device::Device;
use blackbox::expect::{expect_fields, expect_len};
use blackbox::system::System;
use devstack::Options;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A process that is killed at the end of the test.
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

/// Mosquitto with the configuration of local/compose.yaml and other folders.
fn broker(folder: &Path, port: u16) -> Result<ChildProcess> {
    let root = folder.join("mosquitto");
    std::fs::create_dir_all(root.join("config/shared"))?;
    std::fs::create_dir_all(root.join("data"))?;
    let shared = include_str!("../../../local/mosquitto.conf");
    std::fs::write(root.join("config/shared/mosquitto.conf"), shared)?;
    let listener = compose()?["configs"]["listener"]["content"].clone();
    let listener = listener.as_str().context("the configuration of the listener is missing")?;
    ensure!(listener.contains("listener 1883\n"), "{listener}");
    let listener = listener
        .replace("/mosquitto/", &format!("{}/", root.display()))
        .replace("listener 1883\n", &format!("listener {port} 127.0.0.1\n"));
    let path = root.join("config/listener.conf");
    std::fs::write(&path, listener)?;
    // Debian installs daemons in /usr/sbin, which may not be in PATH.
    let path_of_daemons = format!("{}:/usr/sbin", std::env::var("PATH")?);
    ChildProcess::start(Command::new("mosquitto").arg("-c").arg(path).env("PATH", path_of_daemons))
}

/// MiniStack without data.
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
async fn external_endpoint_and_broker_are_used_and_not_stopped() -> Result<()> {
    let folder = TempDir::new()?;
    let (mqtt, aws) = (free_port()?, free_port()?);
    let mut external = [broker(folder.path(), mqtt)?, endpoint(folder.path(), aws)?];
    let system = System::start_with(Options {
        endpoint_url: Some(format!("http://127.0.0.1:{aws}")),
        broker: Some(format!("127.0.0.1:{mqtt}")),
        data: Some(folder.path().join("data")),
        ..Options::default()
    })
    .await?;
    let own: Vec<_> = system.stack.child_names().collect();
    ensure!(
        !own.contains(&"ministack") && !own.contains(&"mosquitto"),
        "the system started {own:?}"
    );

    let mut device = Device::connect(mqtt, "shed-1").await?;
    let message = json!({"device_id": "shed-1", "temperature": 23.5, "unit": "celsius"});
    device.publish("iot/shed-1/telemetry", message.to_string()).await?;
    system.register("shed-1").await?;
    system
        .eventually("the measurement", || async {
            let points = system.list("/api/devices/shed-1/metrics").await?;
            expect_len("GET /api/devices/shed-1/metrics", &points, 1)?;
            let expected = [("/value", json!(23.5))];
            expect_fields("GET /api/devices/shed-1/metrics", &points[0], expected)
        })
        .await?;

    system.stack.stop().await;
    for ChildProcess(process) in &mut external {
        ensure!(process.try_wait()?.is_none(), "process {} has exited", process.id());
    }
    Ok(())
}

#[test]
fn environment_of_the_functions_consists_of_devstack_options() -> Result<()> {
    let compose = compose()?;
    let environment = compose["services"]["functions"]["environment"].clone();
    let environment =
        environment.as_object().context("the environment of the functions is missing")?;
    let help = Command::new(Options::default().binaries.join("devstack"))
        .args(["run", "--help"])
        .output()?;
    let help = String::from_utf8(help.stdout)?;
    for variable in environment.keys() {
        ensure!(
            help.contains(&format!("[env: {variable}=")),
            "{variable} is not an option of devstack run:\n{help}"
        );
    }
    Ok(())
}

#[test]
fn ports_are_on_loopback_and_images_have_versions() -> Result<()> {
    let compose = compose()?;
    let services = compose["services"].as_object().context("there are no services")?;
    for (name, service) in services {
        for port in service["ports"].as_array().into_iter().flatten() {
            ensure!(
                port.as_str().is_some_and(|port| port.starts_with("127.0.0.1:")),
                "{name}: expected a port on 127.0.0.1, actual {port}"
            );
        }
        if let Some(image) = service["image"].as_str() {
            let (_, tag) =
                image.trim_end_matches('}').rsplit_once(':').context("the image has no tag")?;
            ensure!(
                tag.starts_with(|first: char| first.is_ascii_digit()),
                "{name}: expected a version, actual {image}"
            );
        }
    }
    let requirements = include_str!("../../../local/requirements.txt");
    let tested = requirements.lines().find_map(|line| line.strip_prefix("ministack=="));
    let image = services["endpoint"]["image"].as_str().context("the endpoint has no image")?;
    let tested = tested.context("no version of MiniStack")?;
    ensure!(image.contains(&format!("ministack:{tested}}}")), "expected {tested}, actual {image}");
    Ok(())
}
