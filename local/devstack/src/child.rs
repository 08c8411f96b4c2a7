//! One child process: started in a process group of its own with its output in a log file, started again
//! when it dies, stopped by SIGTERM.
//!
//! Its own group, because a terminal's Ctrl-C reaches the whole foreground group at once, and the order in
//! which things stop matters.

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

/// What to run, and how.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) executable: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// On top of this process's own environment, of which nothing that begins with `AWS_` is passed on:
    /// somebody's real credentials have no business here.
    pub(crate) environment: Vec<(String, String)>,
    /// The working directory.
    pub(crate) working_directory: PathBuf,
    /// How long after SIGTERM it may take to end before it is killed.
    pub(crate) stop_timeout: Duration,
    /// Whether it is started again when it dies.
    pub(crate) restart_on_exit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DesiredState {
    Running,
    Paused,
    Stopped,
}

/// A supervised process. Dropping it kills it.
pub(crate) struct Child {
    name: String,
    log: PathBuf,
    desired_state: watch::Sender<DesiredState>,
    pid: watch::Receiver<Option<u32>>,
    supervisor: JoinHandle<()>,
}

impl Child {
    /// Starts the program; its output goes to `NAME.log` in `logs`, that of the run before is kept as
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

    /// The process that runs now, if one does.
    pub(crate) fn pid(&self) -> Option<u32> {
        *self.pid.borrow()
    }

    /// Whether supervision has ended: a program that is not restarted has died.
    pub(crate) fn is_finished(&self) -> bool {
        self.supervisor.is_finished()
    }

    /// SIGKILL for the whole group; supervision then does what it does when a child dies.
    pub(crate) fn kill(&self) {
        if let Some(group) = self.pid() {
            signal_group(group, Signal::SIGKILL);
        }
    }

    /// SIGKILL, and no new start until [`Child::resume`].
    pub(crate) async fn pause(&mut self) {
        self.desired_state.send_replace(DesiredState::Paused);
        self.kill();
        // An error means that supervision has ended, and then nothing runs either.
        let _ended = self.pid.wait_for(Option::is_none).await;
    }

    /// Starts a paused child again.
    pub(crate) async fn resume(&mut self) -> Result<()> {
        self.desired_state.send_replace(DesiredState::Running);
        self.pid.wait_for(Option::is_some).await.with_context(|| {
            format!("{} could not be started; its log: {}", self.name, self.log.display())
        })?;
        Ok(())
    }

    /// Resolves when [`Child::is_finished`].
    pub(crate) async fn finished(&self) {
        let mut pid = self.pid.clone();
        while pid.changed().await.is_ok() {}
    }

    /// SIGTERM, then SIGKILL when that takes too long.
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

/// What keeps one child running.
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
                Ok(_) => continue, // as ordered
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
                tracing::warn!("{name} ended with {status}; it is started again");
            } else {
                tracing::warn!(
                    "{name} ended with {status}, {consecutive_failures} times in a row; see {log}"
                );
            }
            tokio::select! {
                () = sleep(pause) => {}
                _ = self.desired.changed() => {}
            }
        }
    }

    /// The order in force; waits while it says to pause.
    async fn desired_state(&mut self) -> DesiredState {
        match self.desired.wait_for(|state| *state != DesiredState::Paused).await {
            Ok(state) => *state,
            Err(_owner_is_gone) => DesiredState::Stopped,
        }
    }

    /// Runs the program until it dies (its exit status) or is told to end (`None`).
    async fn run_once(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let mut process = self.spawn()?;
        let Some(group) = process.id() else {
            return Ok(Some(process.wait().await?));
        };
        self.reaper.register(group);
        self.pid_sender.send_replace(Some(group));
        let died = tokio::select! {
            status = process.wait() => Some(status),
            () = wait_until_not_running(&mut self.desired) => None,
        };
        let ending = match died {
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
    // An error means that the owner is gone: also a reason to end.
    let _owner_is_gone = desired.wait_for(|state| *state != DesiredState::Running).await;
}

async fn terminate(process: &mut Process, group: u32, program: &Program) -> std::io::Result<()> {
    signal_group(group, Signal::SIGTERM);
    if timeout(program.stop_timeout, process.wait()).await.is_err() {
        let (name, seconds) = (&program.name, program.stop_timeout.as_secs());
        tracing::warn!("{name} did not stop within {seconds} s and is killed");
    }
    signal_group(group, Signal::SIGKILL); // what is left of the group
    process.wait().await?;
    Ok(())
}

fn signal_group(group: u32, signal: Signal) {
    let Ok(group) = i32::try_from(group) else {
        return;
    };
    // The one error that can happen is that the group has ended already.
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
