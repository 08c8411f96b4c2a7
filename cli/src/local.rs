//! The system of `make run`: its data directory contains the functions' settings and the outputs of
//! the stores.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

/// Written by `devstack run`.
pub(crate) const SETTINGS_FILE: &str = "settings.json";
/// Written by `devstack run`.
pub(crate) const OUTPUTS_FILE: &str = "outputs.json";

/// Set in the process that [`enter_environment`] starts.
const ENTERED: &str = "IOT_METER_LOCAL_ENVIRONMENT";

/// Replaces this process with the same command in the environment of the local functions, once.
///
/// The AWS SDK reads the endpoints of single services from the environment of its process only, and
/// a process with threads cannot change that safely.
///
/// # Errors
/// When the data directory contains no settings, or the program cannot be started again.
pub(crate) fn enter_environment(data: &Path) -> Result<()> {
    if std::env::var_os(ENTERED).is_some() {
        return Ok(());
    }
    let settings = read(&data.join(SETTINGS_FILE))?;
    let mut command = Command::new(std::env::current_exe()?);
    for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("AWS_")) {
        command.env_remove(name); // no credentials or endpoints of a real account
    }
    // RUST_LOG is the functions' log level, not that of this program.
    command.envs(settings.iter().filter(|(name, _)| *name != "RUST_LOG")).env(ENTERED, "1");
    let error = command.args(std::env::args_os().skip(1)).exec();
    Err(error).context("cannot start the program again")
}

/// Reads a JSON object of strings.
///
/// # Errors
/// When the file does not exist or contains something else.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read {}: run `make run` first", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not a JSON object of strings", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_or_invalid_file_is_an_error_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OUTPUTS_FILE);
        let missing = format!("{:#}", read(&path).unwrap_err());
        assert!(missing.contains("outputs.json") && missing.contains("make run"), "{missing}");
        for invalid in ["", "[]", r#"{"IngestQueueUrl": 1}"#] {
            std::fs::write(&path, invalid).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("outputs.json is not a JSON object"), "{error}");
        }
    }
}
