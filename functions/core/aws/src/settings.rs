//! Names of the AWS resources that the adapters use. `meter-runtime` reads them from the environment.

/// Names of the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// `DEVICES_TABLE`: the registry.
    pub devices: String,
    /// `STATE_TABLE`: what is known of each device from what it said.
    pub state: String,
    /// `MESSAGES_TABLE`: the archive's index and the measurements.
    pub messages: String,
    /// `ALERTS_TABLE`.
    pub alerts: String,
    /// `COMMANDS_TABLE`.
    pub commands: String,
    /// `RULES_TABLE`: the alert rules.
    pub rules: String,
}

/// Where messages are archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveBucket {
    /// `ARCHIVE_BUCKET`: the bucket's name.
    pub name: String,
}

/// Where messages wait for ingest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestQueue {
    /// `INGEST_QUEUE_URL`: the queue's URL.
    pub url: String,
}
