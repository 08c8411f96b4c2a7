//! An emulator of AWS as a child process, on a free port of the loopback interface.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// An emulator that runs until it is dropped. It stays in the process group of the test, so that
/// killing the group ends it.
pub(crate) struct Emulator {
    pub(crate) url: String,
    _child: Child,
    _data_dir: TempDir,
}

impl Emulator {
    /// Starts MiniStack, which the local profile uses, without persistence.
    pub(crate) async fn ministack() -> Self {
        let environment = |port: u16| {
            vec![
                ("BIND_HOST", "127.0.0.1".to_owned()),
                ("MINISTACK_HOST", "127.0.0.1".to_owned()),
                ("GATEWAY_PORT", port.to_string()),
                // Both listen on every interface otherwise.
                ("IOT_MTLS_ENABLED", "0".to_owned()),
                ("SFTP_ENABLED", "0".to_owned()),
            ]
        };
        Self::start("ministack", environment, |_| Vec::new()).await
    }

    /// Starts moto, which shares no code with MiniStack.
    pub(crate) async fn moto() -> Self {
        let arguments = |port: u16| {
            let port = port.to_string();
            ["-H", "127.0.0.1", "-p", &port].map(str::to_owned).to_vec()
        };
        Self::start("moto_server", |_| Vec::new(), arguments).await
    }

    /// Deletes all data of moto.
    pub(crate) async fn reset(&self) {
        let url = format!("{}/moto-api/reset", self.url);
        let response = reqwest::Client::new().post(url).send().await.unwrap();
        response.error_for_status().unwrap();
    }

    async fn start(
        name: &str,
        environment: impl Fn(u16) -> Vec<(&'static str, String)>,
        arguments: impl Fn(u16) -> Vec<String>,
    ) -> Self {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../.venv/bin");
        let program = tools.join(name);
        assert!(program.exists(), "{name} is not installed: run `make setup` first");
        let port = free_port();
        let data_dir = tempfile::tempdir().unwrap();
        let log = data_dir.path().join("log");
        let output = std::fs::File::create(&log).unwrap();
        let mut child = Command::new(program)
            .args(arguments(port))
            .envs(environment(port))
            .current_dir(data_dir.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            let ended = child.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                let output_text = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("{name} does not respond ({ended:?}):\n{output_text}");
            }
            sleep(Duration::from_millis(50)).await;
        }
        Self { url: format!("http://127.0.0.1:{port}"), _child: child, _data_dir: data_dir }
    }
}

/// Returns a port that is free at the time of the call.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}
