//! The MQTT broker: Mosquitto, with a configuration of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::child::Program;
use crate::folder::Folder;

/// The child's name.
pub(crate) const NAME: &str = "mosquitto";

const SETTINGS: &str = include_str!("../../mosquitto.conf");

/// The listener of a broker that asks nobody who he is.
pub(crate) fn open_listener(port: u16) -> String {
    format!("allow_anonymous true\nlistener {port} 127.0.0.1\n")
}

/// Writes the configuration, with these listeners, into the data folder.
pub(crate) fn program(listeners: &str, folder: &Folder) -> Result<Program> {
    let configuration = folder.root().join("mosquitto.conf");
    let store = folder.broker();
    let text = format!("{SETTINGS}\npersistence_location {}/\n\n{listeners}", store.display());
    std::fs::write(&configuration, text)
        .with_context(|| format!("cannot write {}", configuration.display()))?;
    Ok(Program {
        name: NAME.to_owned(),
        executable: find_in_path("mosquitto")
            .context("Mosquitto is missing: `make setup` installs it")?,
        arguments: vec!["-c".to_owned(), configuration.display().to_string()],
        environment: Vec::new(),
        folder: folder.root().to_owned(),
        stop_within: Duration::from_secs(20),
        restarts: true,
    })
}

/// Debian keeps daemons in /usr/sbin, which is not in everybody's PATH.
fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([Path::new("/usr/sbin").to_owned(), Path::new("/usr/local/sbin").to_owned()])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}
