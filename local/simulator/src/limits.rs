//! What the operating system allows: each connection is an open file.

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that a process has open beside its connections, generously.
const RESERVED_FILES: u64 = 64;

/// Raises the limit of open files as far as this many connections need.
///
/// # Errors
///
/// When the hard limit is too low; the text says how to raise it.
pub fn raise_open_file_limit(connections: usize) -> Result<()> {
    let needed = connections as u64 + RESERVED_FILES;
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).context("reading the limit of open files")?;
    if soft >= needed {
        return Ok(());
    }
    ensure!(
        hard >= needed,
        "{connections} connections need {needed} open files, but only {hard} are allowed: raise it with \
         `ulimit -n {needed}` as root, or simulate fewer devices"
    );
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard).context("raising the limit of open files")
}
