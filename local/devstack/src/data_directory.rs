//! The data directory: what is kept between runs, and the logs.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// The settings of the functions, as a JSON object of strings. `iot-meter --local` reads it.
const SETTINGS_FILE: &str = "settings.json";
/// The outputs of the stores' CloudFormation stack, likewise.
const OUTPUTS_FILE: &str = "outputs.json";

/// A data directory that this process has locked.
///
/// The kernel releases the lock when the process ends, so a killed run leaves no stale lock.
pub(crate) struct DataDirectory {
    root: PathBuf,
    temporary: Option<TempDir>,
    _lock: File,
}

/// Removes a data directory with its content.
///
/// # Errors
/// When a system is running in it.
pub fn remove_data(root: &Path) -> Result<()> {
    let directory = DataDirectory::open(root)?;
    std::fs::remove_dir_all(&directory.root)
        .with_context(|| format!("cannot remove {}", directory.root.display()))
}

/// Reads the outputs of the stores from a data directory.
pub(crate) fn read_outputs(root: &Path) -> Result<BTreeMap<String, String>> {
    read_json(&root.join(OUTPUTS_FILE))
        .with_context(|| format!("no system has run in {}", root.display()))
}

fn read_json(path: &Path) -> Result<BTreeMap<String, String>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not a JSON object of strings", path.display()))
}

impl DataDirectory {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        std::fs::create_dir_all(root)
            .with_context(|| format!("cannot create the data directory {}", root.display()))?;
        // Children have other working directories.
        let root = root.canonicalize()?;
        let lock = lock(&root)?;
        let directory = Self { root, temporary: None, _lock: lock };
        directory.create_subdirectories()?;
        Ok(directory)
    }

    pub(crate) fn temporary() -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("iot-meter-").tempdir()?;
        let mut directory = Self::open(temporary.path())?;
        directory.temporary = Some(temporary);
        Ok(directory)
    }

    fn create_subdirectories(&self) -> Result<()> {
        for path in [self.logs(), self.endpoint_state(), self.buckets(), self.broker()] {
            std::fs::create_dir_all(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
        }
        Ok(())
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The state of the AWS endpoint, except the objects of its buckets.
    pub(crate) fn endpoint_state(&self) -> PathBuf {
        self.root.join("state")
    }

    pub(crate) fn buckets(&self) -> PathBuf {
        self.root.join("s3")
    }

    pub(crate) fn timestream(&self) -> PathBuf {
        self.root.join("timestream")
    }

    pub(crate) fn broker(&self) -> PathBuf {
        self.root.join("mosquitto")
    }

    pub(crate) fn outputs(&self) -> PathBuf {
        self.root.join(OUTPUTS_FILE)
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.root.join(SETTINGS_FILE)
    }

    /// The metric store of the last run; `None` before the first.
    pub(crate) fn last_metric_store(&self) -> Option<String> {
        read_json(&self.settings()).ok()?.remove("METRIC_STORE")
    }

    /// Keeps a temporary directory, whose logs contain the reason of a failure.
    pub(crate) fn disable_cleanup(&mut self) {
        if let Some(temporary) = &mut self.temporary {
            temporary.disable_cleanup(true);
        }
    }
}

fn lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            write!(file, "{}", std::process::id())?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid)?;
            bail!(
                "a system is already running in {} (process {pid}): stop it with Ctrl-C or `kill {pid}`",
                root.display()
            )
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locked_directory_is_refused_with_the_process_id() {
        let place = tempfile::tempdir().unwrap();
        let _first = DataDirectory::open(place.path()).unwrap();
        let error = DataDirectory::open(place.path()).err().unwrap().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
    }

    #[test]
    fn dropped_directory_can_be_opened_again() {
        let place = tempfile::tempdir().unwrap();
        drop(DataDirectory::open(place.path()).unwrap());
        assert!(DataDirectory::open(place.path()).is_ok());
    }

    #[test]
    fn last_metric_store_is_read_from_the_settings_of_the_last_run() {
        let directory = DataDirectory::temporary().unwrap();
        assert_eq!(directory.last_metric_store(), None);
        std::fs::write(directory.settings(), r#"{"METRIC_STORE": "timestream"}"#).unwrap();
        assert_eq!(directory.last_metric_store().as_deref(), Some("timestream"));
    }
}
