//! The data folder: what outlives a run, and the logs.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// The file of a data folder with the functions' settings, for programs that are to decide as they do.
pub const SETTINGS_FILE: &str = "settings.json";

/// A data folder that this process alone uses while this lives.
///
/// The lock is the kernel's: it goes with the process, so a killed run leaves no stale one.
pub(crate) struct DataDirectory {
    root: PathBuf,
    temporary: Option<TempDir>,
    _lock: File,
}

/// Removes a data folder, with all that is in it.
///
/// # Errors
/// When the system runs in it.
pub fn remove_data(root: &Path) -> Result<()> {
    let folder = DataDirectory::open(root)?;
    std::fs::remove_dir_all(&folder.root)
        .with_context(|| format!("cannot remove {}", folder.root.display()))
}

impl DataDirectory {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        std::fs::create_dir_all(root)
            .with_context(|| format!("cannot create the data folder {}", root.display()))?;
        // Children run in other folders.
        let root = root.canonicalize()?;
        let lock = lock(&root)?;
        let folder = Self { root, temporary: None, _lock: lock };
        folder.create_subdirectories()?;
        Ok(folder)
    }

    pub(crate) fn temporary() -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("iot-meter-").tempdir()?;
        let mut folder = Self::open(temporary.path())?;
        folder.temporary = Some(temporary);
        Ok(folder)
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

    /// Tables, queues and whatever else the AWS endpoint keeps, but for the objects of buckets.
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

    /// The outputs of the stores' stack, as a flat JSON object.
    pub(crate) fn outputs(&self) -> PathBuf {
        self.root.join("outputs.json")
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.root.join(SETTINGS_FILE)
    }

    /// A temporary folder stays: something went wrong, and the logs say what.
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
                "the system runs already in {} (process {pid}): stop it first, by Ctrl-C or `kill {pid}`",
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
    fn a_folder_in_use_is_refused_with_the_process_that_uses_it() {
        let place = tempfile::tempdir().unwrap();
        let _first = DataDirectory::open(place.path()).unwrap();
        let error = DataDirectory::open(place.path()).err().unwrap().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
    }

    #[test]
    fn a_folder_can_be_used_again_after_its_user_is_gone() {
        let place = tempfile::tempdir().unwrap();
        drop(DataDirectory::open(place.path()).unwrap());
        assert!(DataDirectory::open(place.path()).is_ok());
    }
}
