//! A supervised child process: runs in its own process group with its output in a log file,
//! restarts when it exits, and is stopped with SIGTERM.
//!
//! It has its own group because Ctrl-C in a terminal signals the whole foreground group at once,
//! and the order in which children stop matters.

mod backoff;

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child as Process, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use self::backoff::Backoff;
use crate::reaper::Reaper;

/// A program and how it is supervised.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) executable: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Added to the environment of this process, whose `AWS_` variables are not passed on: they may
    /// be the credentials of a real account.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) working_directory: PathBuf,
    /// The time between SIGTERM and SIGKILL.
    pub(crate) stop_timeout: Duration,
    /// Whether it is restarted when it exits.
    pub(crate) restart_on_exit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DesiredState {
    Running,
    Paused,
    Stopped,
}

/// A supervised process. Dropping it kills the process.
pub(crate) struct Child {
    name: String,
    log: PathBuf,
    desired_state: watch::Sender<DesiredState>,
    pid: watch::Receiver<Option<u32>>,
    supervisor: JoinHandle<()>,
}

impl Child {
    /// Starts the program with its output in `NAME.log` in `logs`; the log of the last run becomes
    /// `NAME.log.1`.
    pub(crate) async fn start(program: Program, logs: &Path, reaper: Reaper) -> Result<Self> {
        if !program.executable.is_file() {
            bail!("{} is missing", program.executable.display());
        }
        let name = program.name.clone();
        let log = logs.join(format!("{name}.log"));
        let file = rotate_log(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let (desired_state, desired) = watch::channel(DesiredState::Running);
        let (pid_sender, mut pid) = watch::channel(None);
        let supervisor =
            Supervisor { program, log: log.clone(), output: file, reaper, desired, pid_sender };
        let supervisor = tokio::spawn(supervisor.run());
        if pid.wait_for(Option::is_some).await.is_err() {
            bail!("{name} cannot be started");
        }
        Ok(Self { name, log, desired_state, pid, supervisor })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The process id, while the process runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        *self.pid.borrow()
    }

    /// Whether supervision has ended: a program that is not restarted has exited.
    pub(crate) fn is_finished(&self) -> bool {
        self.supervisor.is_finished()
    }

    /// Sends SIGKILL to the whole group; supervision reacts as to any other exit.
    pub(crate) fn kill(&self) {
        if let Some(group) = self.pid() {
            signal_group(group, Signal::SIGKILL);
        }
    }

    /// Sends SIGKILL and prevents a restart until [`Child::resume`].
    pub(crate) async fn pause(&mut self) {
        self.desired_state.send_replace(DesiredState::Paused);
        self.kill();
        // An error means that supervision has ended, so nothing runs.
        let _ended = self.pid.wait_for(Option::is_none).await;
    }

    /// Restarts a paused child.
    pub(crate) async fn resume(&mut self) -> Result<()> {
        self.desired_state.send_replace(DesiredState::Running);
        self.pid.wait_for(Option::is_some).await.with_context(|| {
            format!("cannot start {}; its log: {}", self.name, self.log.display())
        })?;
        Ok(())
    }

    /// Resolves when [`Child::is_finished`].
    pub(crate) async fn finished(&self) {
        let mut pid = self.pid.clone();
        while pid.changed().await.is_ok() {}
    }

    /// Sends SIGTERM, and SIGKILL after the stop timeout.
    pub(crate) async fn stop(mut self) {
        self.desired_state.send_replace(DesiredState::Stopped);
        let _panicked_or_done = (&mut self.supervisor).await;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        self.supervisor.abort();
    }
}

/// Runs one child and restarts it.
struct Supervisor {
    program: Program,
    log: PathBuf,
    output: File,
    reaper: Reaper,
    desired: watch::Receiver<DesiredState>,
    pid_sender: watch::Sender<Option<u32>>,
}

impl Supervisor {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            match self.desired_state().await {
                DesiredState::Stopped => return,
                DesiredState::Paused => continue,
                DesiredState::Running => {}
            }
            let started = Instant::now();
            let ending = self.run_once().await;
            let (name, log) = (&self.program.name, self.log.display());
            let status = match ending {
                Ok(Some(status)) if *self.desired.borrow() == DesiredState::Running => status,
                Ok(_) => continue, // stopped or paused on request
                Err(error) => {
                    tracing::error!("{name} cannot be started: {error}");
                    return;
                }
            };
            if !self.program.restart_on_exit {
                tracing::error!("{name} ended with {status}; its log: {log}");
                return;
            }
            let (pause, consecutive_failures) = backoff.next_delay(started.elapsed());
            if consecutive_failures < 3 {
                tracing::warn!("{name} ended with {status}; restarting");
            } else {
                tracing::warn!(
                    "{name} ended with {status}, {consecutive_failures} times in a row; its log: {log}"
                );
            }
            tokio::select! {
                () = sleep(pause) => {}
                _ = self.desired.changed() => {}
            }
        }
    }

    /// The desired state; waits while it is `Paused`.
    async fn desired_state(&mut self) -> DesiredState {
        match self.desired.wait_for(|state| *state != DesiredState::Paused).await {
            Ok(state) => *state,
            Err(_owner_is_gone) => DesiredState::Stopped,
        }
    }

    /// Runs the program until it exits (its status) or is stopped on request (`None`).
    async fn run_once(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let mut process = self.spawn()?;
        let Some(group) = process.id() else {
            return Ok(Some(process.wait().await?));
        };
        self.reaper.register(group);
        self.pid_sender.send_replace(Some(group));
        let exited = tokio::select! {
            status = process.wait() => Some(status),
            () = wait_until_not_running(&mut self.desired) => None,
        };
        let ending = match exited {
            Some(status) => status.map(Some),
            None => terminate(&mut process, group, &self.program).await.map(|()| None),
        };
        self.reaper.unregister(group);
        self.pid_sender.send_replace(None);
        ending
    }

    fn spawn(&self) -> std::io::Result<Process> {
        let mut command = Command::new(&self.program.executable);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                command.env_remove(name);
            }
        }
        command
            .args(&self.program.arguments)
            .envs(self.program.environment.iter().cloned())
            .current_dir(&self.program.working_directory)
            .stdin(Stdio::null())
            .stdout(self.output.try_clone()?)
            .stderr(self.output.try_clone()?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

async fn wait_until_not_running(desired: &mut watch::Receiver<DesiredState>) {
    // An error means that the `Child` was dropped, which also ends supervision.
    let _owner_is_gone = desired.wait_for(|state| *state != DesiredState::Running).await;
}

async fn terminate(process: &mut Process, group: u32, program: &Program) -> std::io::Result<()> {
    signal_group(group, Signal::SIGTERM);
    if timeout(program.stop_timeout, process.wait()).await.is_err() {
        let (name, seconds) = (&program.name, program.stop_timeout.as_secs());
        tracing::warn!("{name} did not stop within {seconds} s and is killed");
    }
    signal_group(group, Signal::SIGKILL); // remaining processes of the group
    process.wait().await?;
    Ok(())
}

fn signal_group(group: u32, signal: Signal) {
    let Ok(group) = i32::try_from(group) else {
        return;
    };
    // The only possible error is that the group has ended already.
    let _already_ended = killpg(Pid::from_raw(group), signal);
}

fn rotate_log(path: &Path) -> std::io::Result<File> {
    if path.exists() {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests;
