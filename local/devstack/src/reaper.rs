//! The process reaper: a small process that ends the children when the supervisor is killed.
//!
//! A killed test or supervisor (`kill -9`) must leave no process behind. Linux can tie a child to
//! its parent (`PR_SET_PDEATHSIG`), but this depends on the *thread* that started the child, which
//! an async runtime may end at any time, and does not include grandchildren. A pipe, which the
//! kernel closes with its last writer, has neither problem.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};

const SCRIPT: &str = include_str!("reaper.sh");

/// A handle of the reaper process, which has a list of the running process groups. Clones share the
/// process.
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
            // Its own group: it must not receive signals to the group of the terminal or test
            // runner.
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

    /// Ends the reaper after all children have ended.
    pub(crate) fn stop(&self) {
        self.send_line("done\n");
        if let Ok(mut process) = self.process.lock() {
            process.input = None;
            // Returns at once. Without it a zombie would stay.
            let _exit_status = process.child.wait();
        }
    }

    fn send_line(&self, line: &str) {
        let Ok(mut process) = self.process.lock() else {
            return;
        };
        let Some(input) = process.input.as_mut() else {
            return;
        };
        // A write of a few bytes to an empty pipe does not block.
        if let Err(error) = input.write_all(line.as_bytes()) {
            tracing::warn!(
                "the reaper has ended ({error}): if this process is killed, its children keep running"
            );
            process.input = None;
        }
    }
}
