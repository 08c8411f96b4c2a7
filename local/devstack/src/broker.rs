//! The MQTT broker: Mosquitto, with a generated configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::child::Program;
use crate::data_directory::DataDirectory;

/// The name of the child.
pub(crate) const NAME: &str = "mosquitto";

const BASE_CONFIG: &str = include_str!("../../mosquitto.conf");

/// A listener without authentication.
pub(crate) fn anonymous_listener(port: u16) -> String {
    format!("allow_anonymous true\nlistener {port} 127.0.0.1\n")
}

/// Writes the configuration with these listeners into the data directory.
pub(crate) fn program(listeners: &str, data_directory: &DataDirectory) -> Result<Program> {
    let configuration = data_directory.root().join("mosquitto.conf");
    let store = data_directory.broker();
    let text = format!("{BASE_CONFIG}\npersistence_location {}/\n\n{listeners}", store.display());
    std::fs::write(&configuration, text)
        .with_context(|| format!("cannot write {}", configuration.display()))?;
    Ok(Program {
        name: NAME.to_owned(),
        executable: find_in_path("mosquitto")
            .context("Mosquitto is missing: `make setup` installs it")?,
        arguments: vec!["-c".to_owned(), configuration.display().to_string()],
        environment: Vec::new(),
        working_directory: data_directory.root().to_owned(),
        stop_timeout: Duration::from_secs(20),
        restart_on_exit: true,
    })
}

/// Debian installs daemons in /usr/sbin, which is not in the PATH of every user.
fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([Path::new("/usr/sbin").to_owned(), Path::new("/usr/local/sbin").to_owned()])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}
