//! A Timestream emulator in the process of the test.

use std::time::Duration;

use aws_sdk_timestreamwrite::Client;
use aws_sdk_timestreamwrite::types::RetentionProperties;
use tempfile::TempDir;
use timestream::{Config, Server};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::tables;

pub(crate) struct Timestream {
    pub(crate) url: String,
    _data: TempDir,
    _stop: DropGuard,
}

impl Timestream {
    pub(crate) async fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let config = Config {
            data: data.path().to_owned(),
            port: 0,
            query_timeout: Duration::from_secs(60),
        };
        let server = Server::bind(&config).await.unwrap();
        let url = format!("http://{}", server.address().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(server.serve(stop.clone()));
        Self { url, _data: data, _stop: stop.drop_guard() }
    }

    /// Creates a database and an empty table, which accepts records of the last 30 days.
    pub(crate) async fn create_table(&self, number: usize) -> (String, String) {
        let names = (format!("database-{number}"), "telemetry".to_owned());
        let client = Client::new(&tables::config(&self.url).await);
        client.create_database().database_name(&names.0).send().await.unwrap();
        let retention = RetentionProperties::builder()
            .memory_store_retention_period_in_hours(24)
            .magnetic_store_retention_period_in_days(30);
        client
            .create_table()
            .database_name(&names.0)
            .table_name(&names.1)
            .retention_properties(retention.build().unwrap())
            .send()
            .await
            .unwrap();
        names
    }
}
