//! The limit of open files: each connection is one.

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Open files of the process besides connections, with a reserve.
const RESERVED_FILES: u64 = 64;

/// Raises the limit of open files to what this number of connections requires.
///
/// # Errors
///
/// When the hard limit is too low; the error contains the command that raises it.
pub fn raise_open_file_limit(connections: usize) -> Result<()> {
    let needed = connections as u64 + RESERVED_FILES;
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit of open files")?;
    if soft >= needed {
        return Ok(());
    }
    ensure!(
        hard >= needed,
        "{connections} connections need {needed} open files, but only {hard} are allowed: raise it with \
         `ulimit -n {needed}` as root, or simulate fewer devices"
    );
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard).context("cannot raise the limit of open files")
}
