//! A Lambda function: the deployed binary in a process of its own, invoked directly.

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

use super::runtime::{InvocationResult, RuntimeApi};

/// Fails an invocation that takes longer. Lambda ends ingest after a minute (template.yaml); a
/// loaded machine may be ten times as slow.
const INVOCATION_TIMEOUT: Duration = Duration::from_secs(600);

/// A function and its process, if one is running.
pub(super) struct Function {
    binary: PathBuf,
    env_vars: Vec<(String, String)>,
    log: PathBuf,
    runtime: RuntimeApi,
    process: Option<Child>,
    kill_handle: KillHandle,
}

/// The process that [`KillHandle::kill`] ends.
#[derive(Clone, Default)]
pub(super) struct KillHandle(Arc<Mutex<Option<Pid>>>);

impl KillHandle {
    /// Sends SIGKILL to the process, if one is running.
    pub(super) fn kill(&self) {
        let pid = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The process id cannot be reused yet: the process is waited for only after this.
        if let Some(pid) = pid {
            let _already_exited = kill(pid, Signal::SIGKILL);
        }
    }

    fn set(&self, pid: Option<Pid>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = pid;
    }
}

/// The outcome of an invocation.
#[derive(Debug)]
pub(super) enum InvocationOutcome {
    /// The function returned a response.
    Response(Value),
    /// The function posted an error.
    Error(Value),
    /// The process exited before it returned a result.
    Exited,
}

impl Function {
    /// A function without a process. Its output is appended to `log`.
    pub(super) async fn new(
        binary: PathBuf,
        env_vars: Vec<(String, String)>,
        log: PathBuf,
    ) -> Result<Self> {
        let runtime = RuntimeApi::start().await?;
        Ok(Self {
            binary,
            env_vars,
            log,
            runtime,
            process: None,
            kill_handle: KillHandle::default(),
        })
    }

    /// A handle that kills the process of the function.
    pub(super) fn kill_handle(&self) -> KillHandle {
        self.kill_handle.clone()
    }

    /// Invokes the function, in a new process if none is running.
    ///
    /// # Errors
    ///
    /// If the process cannot be started, exits before it requests an event, or exceeds
    /// [`INVOCATION_TIMEOUT`]. The error names the log.
    pub(super) async fn invoke(&mut self, event: &Value) -> Result<InvocationOutcome> {
        let process = match &mut self.process {
            Some(process) => process,
            empty => {
                let process = spawn(&self.binary, &self.env_vars, &self.log, &self.runtime)?;
                let pid = process.id().and_then(|pid| i32::try_from(pid).ok());
                self.kill_handle.set(pid.map(Pid::from_raw));
                empty.insert(process)
            }
        };
        let posted = self.runtime.submit(event.to_string());
        let ending = async {
            tokio::select! {
                biased;
                // The sender is dropped only with its process.
                Ok(posted) = posted => Some(posted),
                _ = process.wait() => None,
            }
        };
        let log = self.log.display();
        let Ok(posted) = timeout(INVOCATION_TIMEOUT, ending).await else {
            bail!("an invocation took more than {} s; see {log}", INVOCATION_TIMEOUT.as_secs());
        };
        match posted {
            Some(InvocationResult::Response(answer)) => Ok(InvocationOutcome::Response(answer)),
            Some(InvocationResult::Error(error)) => Ok(InvocationOutcome::Error(error)),
            None if self.runtime.has_unclaimed_event() && !self.was_killed() => {
                bail!("{} exited before it requested an event; see {log}", self.binary.display())
            }
            None => {
                self.kill_handle.set(None);
                self.process = None;
                Ok(InvocationOutcome::Exited)
            }
        }
    }

    /// Kills the process, if one is running.
    pub(super) async fn stop(&mut self) {
        self.kill_handle.kill();
        if let Some(mut process) = self.process.take() {
            let _status = process.wait().await;
        }
    }

    fn was_killed(&self) -> bool {
        self.kill_handle.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

fn spawn(
    binary: &PathBuf,
    env_vars: &[(String, String)],
    log: &PathBuf,
    runtime: &RuntimeApi,
) -> Result<Child> {
    let open = || OpenOptions::new().create(true).append(true).open(log);
    let output: File = open().with_context(|| format!("cannot write {}", log.display()))?;
    let name = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut command = Command::new(binary);
    for (variable, _) in std::env::vars_os() {
        // The functions must not use real credentials.
        if variable.to_string_lossy().starts_with("AWS_") {
            command.env_remove(variable);
        }
    }
    command
        .envs(env_vars.iter().cloned())
        .env("AWS_LAMBDA_RUNTIME_API", runtime.endpoint_for_new_process())
        .env("AWS_LAMBDA_FUNCTION_NAME", name)
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .kill_on_drop(true)
        // Ctrl-C in a terminal must reach only the harness, which then stops in order.
        .process_group(0)
        .spawn()
        .with_context(|| {
            format!("cannot start {}: `cargo build --workspace --bins` builds it", binary.display())
        })
}
