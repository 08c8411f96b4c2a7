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

use super::runtime::{InvocationResult, RuntimeApi};

/// What takes longer hangs. Lambda ends ingest after a minute (template.yaml), but a machine that plays scenarios beside
/// other work may be ten times as slow as Lambda.
const INVOCATION_TIMEOUT: Duration = Duration::from_secs(600);

/// A function and, while it lives, its process.
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
pub(super) enum InvocationOutcome {
    /// The function answered.
    Response(Value),
    /// The function posted an error.
    Error(Value),
    /// The process ended before it answered.
    Exited,
}

impl Function {
    /// A function, not yet started; its output is appended to `log`.
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

    /// For whoever wants to kill its process.
    pub(super) fn kill_handle(&self) -> KillHandle {
        self.kill_handle.clone()
    }

    /// Invokes it, in a new process if there is none.
    ///
    /// # Errors
    /// When it cannot be started or does not end within Lambda's time; the error names the log.
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
                // The other end goes only with the slot.
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
                bail!("{} ends before it asks for work; see {log}", self.binary.display())
            }
            None => {
                self.kill_handle.set(None);
                self.process = None;
                Ok(InvocationOutcome::Exited)
            }
        }
    }

    /// Ends its process, if it has one.
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
        // Somebody's real credentials have no business here.
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
        // A terminal's Ctrl-C is for the harness alone, which ends in order.
        .process_group(0)
        .spawn()
        .with_context(|| {
            format!("cannot start {}: `cargo build --workspace --bins` builds it", binary.display())
        })
}
