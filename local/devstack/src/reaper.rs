//! The guard: a small process that ends the children when the supervisor cannot do it any more.
//!
//! A test that is killed, or a supervisor that gets `kill -9`, must leave nothing behind. Linux could tie
//! a child to its parent (`PR_SET_PDEATHSIG`), but that follows the *thread* that started the child, which
//! an async runtime may end at any time, and does not reach grandchildren. A pipe that the kernel closes
//! with its last writer has neither flaw.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};

const SCRIPT: &str = include_str!("reaper.sh");

/// Knows which process groups run. Clones talk to the same guard.
#[derive(Clone)]
pub(crate) struct Reaper {
    process: Arc<Mutex<Process>>,
}

struct Process {
    child: Child,
    input: Option<ChildStdin>,
}

impl Reaper {
    pub(crate) fn start() -> Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "iot-meter-reaper"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group: a signal to the terminal's or the test runner's group must not reach it.
            .process_group(0)
            .spawn()
            .context("cannot start the reaper (/bin/sh)")?;
        let input = child.stdin.take();
        Ok(Self { process: Arc::new(Mutex::new(Process { child, input })) })
    }

    pub(crate) fn register(&self, group: u32) {
        self.send_line(&format!("+ {group}\n"));
    }

    pub(crate) fn unregister(&self, group: u32) {
        self.send_line(&format!("- {group}\n"));
    }

    /// Everything has ended: the guard goes too.
    pub(crate) fn stop(&self) {
        self.send_line("done\n");
        if let Ok(mut process) = self.process.lock() {
            process.input = None;
            // It has nothing left to wait for, so this returns at once; without it a zombie would stay.
            let _exit_status_is_of_no_interest = process.child.wait();
        }
    }

    fn send_line(&self, line: &str) {
        let Ok(mut process) = self.process.lock() else {
            return;
        };
        let Some(input) = process.input.as_mut() else {
            return;
        };
        // A few bytes into an empty pipe: this does not block.
        if let Err(error) = input.write_all(line.as_bytes()) {
            tracing::warn!(
                "the reaper is gone ({error}): if this process is killed, its children stay"
            );
            process.input = None;
        }
    }
}
