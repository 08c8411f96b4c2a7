//! Names of the AWS resources.

use meter_aws::settings::{ArchiveBucket, IngestQueue, Tables};

use super::{Environment, Settings};

impl Settings for Tables {
    fn read(environment: &mut Environment<'_>) -> Self {
        Self {
            devices: environment.required("DEVICES_TABLE"),
            state: environment.required("STATE_TABLE"),
            messages: environment.required("MESSAGES_TABLE"),
            alerts: environment.required("ALERTS_TABLE"),
            commands: environment.required("COMMANDS_TABLE"),
            rules: environment.required("RULES_TABLE"),
        }
    }
}

impl Settings for ArchiveBucket {
    fn read(environment: &mut Environment<'_>) -> Self {
        Self { name: environment.required("ARCHIVE_BUCKET") }
    }
}

impl Settings for IngestQueue {
    fn read(environment: &mut Environment<'_>) -> Self {
        Self { url: environment.required("INGEST_QUEUE_URL") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::read;

    #[test]
    fn each_missing_resource_is_reported() {
        assert_eq!(
            read::<ArchiveBucket>(&[("ARCHIVE_BUCKET", "b")]),
            Ok(ArchiveBucket { name: "b".to_owned() })
        );
        let missing = read::<Tables>(&[("DEVICES_TABLE", "d"), ("ALERTS_TABLE", "a")]);
        assert_eq!(
            missing.unwrap_err().to_string(),
            "invalid settings: STATE_TABLE is missing; MESSAGES_TABLE is missing; \
             COMMANDS_TABLE is missing; RULES_TABLE is missing"
        );
    }
}
