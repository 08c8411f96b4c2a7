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
use crate::guard::Guard;

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
    pub(crate) folder: PathBuf,
    /// How long after SIGTERM it may take to end before it is killed.
    pub(crate) stop_within: Duration,
    /// Whether it is started again when it dies.
    pub(crate) restarts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Running,
    Paused,
    Ended,
}

/// A supervised process. Dropping it kills it.
pub(crate) struct Child {
    name: String,
    log: PathBuf,
    wanted: watch::Sender<Wanted>,
    pid: watch::Receiver<Option<u32>>,
    supervision: JoinHandle<()>,
}

impl Child {
    /// Starts the program; its output goes to `NAME.log` in `logs`, that of the run before is kept as
    /// `NAME.log.1`.
    pub(crate) async fn start(program: Program, logs: &Path, guard: Guard) -> Result<Self> {
        if !program.executable.is_file() {
            bail!("{} is missing", program.executable.display());
        }
        let name = program.name.clone();
        let log = logs.join(format!("{name}.log"));
        let file = fresh_log(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let (wanted, orders) = watch::channel(Wanted::Running);
        let (report, mut pid) = watch::channel(None);
        let supervision =
            Supervision { program, log: log.clone(), output: file, guard, orders, report };
        let supervision = tokio::spawn(supervision.run());
        if pid.wait_for(Option::is_some).await.is_err() {
            bail!("{name} cannot be started");
        }
        Ok(Self { name, log, wanted, pid, supervision })
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
    pub(crate) fn has_ended(&self) -> bool {
        self.supervision.is_finished()
    }

    /// SIGKILL for the whole group; supervision then does what it does when a child dies.
    pub(crate) fn kill(&self) {
        if let Some(group) = self.pid() {
            signal(group, Signal::SIGKILL);
        }
    }

    /// SIGKILL, and no new start until [`Child::resume`].
    pub(crate) async fn pause(&mut self) {
        self.wanted.send_replace(Wanted::Paused);
        self.kill();
        // An error means that supervision has ended, and then nothing runs either.
        let _ended = self.pid.wait_for(Option::is_none).await;
    }

    /// Starts a paused child again.
    pub(crate) async fn resume(&mut self) -> Result<()> {
        self.wanted.send_replace(Wanted::Running);
        self.pid.wait_for(Option::is_some).await.with_context(|| {
            format!("{} could not be started; its log: {}", self.name, self.log.display())
        })?;
        Ok(())
    }

    /// Resolves when [`Child::has_ended`].
    pub(crate) async fn ended(&self) {
        let mut pid = self.pid.clone();
        while pid.changed().await.is_ok() {}
    }

    /// SIGTERM, then SIGKILL when that takes too long.
    pub(crate) async fn stop(mut self) {
        self.wanted.send_replace(Wanted::Ended);
        let _panicked_or_done = (&mut self.supervision).await;
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        self.supervision.abort();
    }
}

/// What keeps one child running.
struct Supervision {
    program: Program,
    log: PathBuf,
    output: File,
    guard: Guard,
    orders: watch::Receiver<Wanted>,
    report: watch::Sender<Option<u32>>,
}

impl Supervision {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            match self.wanted().await {
                Wanted::Ended => return,
                Wanted::Paused => continue,
                Wanted::Running => {}
            }
            let started = Instant::now();
            let ending = self.live_once().await;
            let (name, log) = (&self.program.name, self.log.display());
            let status = match ending {
                Ok(Some(status)) if *self.orders.borrow() == Wanted::Running => status,
                Ok(_) => continue, // as ordered
                Err(error) => {
                    tracing::error!("{name} cannot be started: {error}");
                    return;
                }
            };
            if !self.program.restarts {
                tracing::error!("{name} ended with {status}; its log: {log}");
                return;
            }
            let (pause, in_a_row) = backoff.after_a_life_of(started.elapsed());
            if in_a_row < 3 {
                tracing::warn!("{name} ended with {status}; it is started again");
            } else {
                tracing::warn!("{name} ended with {status}, {in_a_row} times in a row; see {log}");
            }
            tokio::select! {
                () = sleep(pause) => {}
                _ = self.orders.changed() => {}
            }
        }
    }

    /// The order in force; waits while it says to pause.
    async fn wanted(&mut self) -> Wanted {
        match self.orders.wait_for(|order| *order != Wanted::Paused).await {
            Ok(order) => *order,
            Err(_owner_is_gone) => Wanted::Ended,
        }
    }

    /// Runs the program until it dies (its exit status) or is told to end (`None`).
    async fn live_once(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let mut process = self.spawn()?;
        let Some(group) = process.id() else {
            return Ok(Some(process.wait().await?));
        };
        self.guard.started(group);
        self.report.send_replace(Some(group));
        let died = tokio::select! {
            status = process.wait() => Some(status),
            () = another_order(&mut self.orders) => None,
        };
        let ending = match died {
            Some(status) => status.map(Some),
            None => end(&mut process, group, &self.program).await.map(|()| None),
        };
        self.guard.ended(group);
        self.report.send_replace(None);
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
            .current_dir(&self.program.folder)
            .stdin(Stdio::null())
            .stdout(self.output.try_clone()?)
            .stderr(self.output.try_clone()?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

async fn another_order(orders: &mut watch::Receiver<Wanted>) {
    // An error means that the owner is gone: also a reason to end.
    let _owner_is_gone = orders.wait_for(|order| *order != Wanted::Running).await;
}

async fn end(process: &mut Process, group: u32, program: &Program) -> std::io::Result<()> {
    signal(group, Signal::SIGTERM);
    if timeout(program.stop_within, process.wait()).await.is_err() {
        let (name, seconds) = (&program.name, program.stop_within.as_secs());
        tracing::warn!("{name} did not stop within {seconds} s and is killed");
    }
    signal(group, Signal::SIGKILL); // what is left of the group
    process.wait().await?;
    Ok(())
}

fn signal(group: u32, signal: Signal) {
    let Ok(group) = i32::try_from(group) else {
        return;
    };
    // The one error that can happen is that the group has ended already.
    let _already_ended = killpg(Pid::from_raw(group), signal);
}

fn fresh_log(path: &Path) -> std::io::Result<File> {
    if path.exists() {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests;
