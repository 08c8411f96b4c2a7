//! Names of the AWS resources of the adapters. `meter-runtime` reads them from the environment.

/// Names of the DynamoDB tables, all required.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// `DEVICES_TABLE`: the registered devices.
    pub devices: String,
    /// `STATE_TABLE`: the state of each device, derived from its messages.
    pub state: String,
    /// `MESSAGES_TABLE`: the index of the archive, samples, rollups and the quarantine.
    pub messages: String,
    /// `ALERTS_TABLE`: the alerts.
    pub alerts: String,
    /// `COMMANDS_TABLE`: the commands.
    pub commands: String,
    /// `RULES_TABLE`: the alert rules.
    pub rules: String,
}

/// The bucket of the message archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveBucket {
    /// `ARCHIVE_BUCKET`: its name, required.
    pub name: String,
}

/// The queue between the IoT rules and ingest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestQueue {
    /// `INGEST_QUEUE_URL`: its URL, required.
    pub url: String,
}
