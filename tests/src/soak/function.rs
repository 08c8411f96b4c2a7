//! A function: the binary that is deployed, in a process of its own, invoked without a router between.

use std::fs::{File, OpenOptions};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::runtime::{Posted, Runtime};

/// What takes longer hangs. Lambda ends ingest after a minute (template.yaml), but a machine that plays stories beside
/// other work may be ten times as slow as Lambda.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// A function and, while it lives, its process.
pub(super) struct Function {
    binary: PathBuf,
    environment: Vec<(String, String)>,
    log: PathBuf,
    runtime: Runtime,
    process: Option<Child>,
    target: Target,
}

/// The process that [`Target::kill`] ends.
#[derive(Clone, Default)]
pub(super) struct Target(Arc<Mutex<Option<Pid>>>);

impl Target {
    /// `kill -9`, if there is a process now.
    pub(super) fn kill(&self) {
        let pid = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It cannot be somebody else's: it is waited for only after it was taken out of here.
        if let Some(pid) = pid {
            let _already_dead = kill(pid, Signal::SIGKILL);
        }
    }

    fn set(&self, pid: Option<Pid>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = pid;
    }
}

/// What became of an invocation.
#[derive(Debug)]
pub(super) enum Ended {
    /// The function answered.
    Answered(Value),
    /// The function posted an error.
    Failed(Value),
    /// The process ended before it answered.
    Died,
}

impl Function {
    /// A function, not yet started; its output is appended to `log`.
    pub(super) async fn new(
        binary: PathBuf,
        environment: Vec<(String, String)>,
        log: PathBuf,
    ) -> Result<Self> {
        let runtime = Runtime::start().await?;
        Ok(Self { binary, environment, log, runtime, process: None, target: Target::default() })
    }

    /// For whoever wants to kill its process.
    pub(super) fn target(&self) -> Target {
        self.target.clone()
    }

    /// Invokes it, in a new process if there is none.
    ///
    /// # Errors
    /// When it cannot be started or does not end within Lambda's time; the error names the log.
    pub(super) async fn invoke(&mut self, event: &Value) -> Result<Ended> {
        let process = match &mut self.process {
            Some(process) => process,
            empty => {
                let process = start(&self.binary, &self.environment, &self.log, &self.runtime)?;
                let pid = process.id().and_then(|pid| i32::try_from(pid).ok());
                self.target.set(pid.map(Pid::from_raw));
                empty.insert(process)
            }
        };
        let posted = self.runtime.hand_out(event.to_string());
        let ending = async {
            tokio::select! {
                biased;
                // The other end goes only with the desk.
                Ok(posted) = posted => Some(posted),
                _ = process.wait() => None,
            }
        };
        let log = self.log.display();
        let Ok(posted) = timeout(TIME_LIMIT, ending).await else {
            bail!("an invocation took more than {} s; see {log}", TIME_LIMIT.as_secs());
        };
        match posted {
            Some(Posted::Answer(answer)) => Ok(Ended::Answered(answer)),
            Some(Posted::Error(error)) => Ok(Ended::Failed(error)),
            None if self.runtime.is_unasked() && !self.was_killed() => {
                bail!("{} ends before it asks for work; see {log}", self.binary.display())
            }
            None => {
                self.target.set(None);
                self.process = None;
                Ok(Ended::Died)
            }
        }
    }

    /// Ends its process, if it has one.
    pub(super) async fn end(&mut self) {
        self.target.kill();
        if let Some(mut process) = self.process.take() {
            let _status = process.wait().await;
        }
    }

    fn was_killed(&self) -> bool {
        self.target.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

fn start(
    binary: &PathBuf,
    environment: &[(String, String)],
    log: &PathBuf,
    runtime: &Runtime,
) -> Result<Child> {
    let open = || OpenOptions::new().create(true).append(true).open(log);
    let output: File = open().with_context(|| format!("cannot write {}", log.display()))?;
    let name = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut command = Command::new(binary);
    for (variable, _) in std::env::vars_os() {
        // Somebody's real credentials have no business here.
        if variable.to_string_lossy().starts_with("AWS_") {
            command.env_remove(variable);
        }
    }
    command
        .envs(environment.iter().cloned())
        .env("AWS_LAMBDA_RUNTIME_API", runtime.for_a_new_process())
        .env("AWS_LAMBDA_FUNCTION_NAME", name)
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .kill_on_drop(true)
        // A terminal's Ctrl-C is for the harness alone, which ends in order.
        .process_group(0)
        .spawn()
        .with_context(|| {
            format!("cannot start {}: `cargo build --workspace --bins` builds it", binary.display())
        })
}
