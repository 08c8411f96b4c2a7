//! An emulator for a test.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use timestream::{Config, Server};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const DATABASE: &str = "iot-meter";
pub(crate) const TABLE: &str = "telemetry";

/// An emulator on a free port with data in a temporary directory.
pub(crate) struct Emulator {
    pub(crate) url: String,
    http: reqwest::Client,
    shutdown: CancellationToken,
    server: JoinHandle<anyhow::Result<()>>,
    data: TempDir,
}

impl Emulator {
    /// Starts an empty emulator.
    pub(crate) async fn empty() -> Self {
        Self::on(tempfile::tempdir().unwrap()).await
    }

    /// Starts an emulator with a table that accepts records of any age.
    pub(crate) async fn with_table() -> Self {
        let emulator = Self::empty().await;
        emulator.ok("CreateDatabase", json!({ "DatabaseName": DATABASE })).await;
        let table = json!({
            "DatabaseName": DATABASE,
            "TableName": TABLE,
            "MagneticStoreWriteProperties": { "EnableMagneticStoreWrites": true },
        });
        emulator.ok("CreateTable", table).await;
        emulator
    }

    async fn on(data: TempDir) -> Self {
        let config = Config {
            data: data.path().to_owned(),
            port: 0,
            query_timeout: Duration::from_secs(10),
        };
        let server = Server::bind(&config).await.unwrap();
        let url = format!("http://{}", server.address().unwrap());
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(server.serve(shutdown.clone()));
        Self { url, http: reqwest::Client::new(), shutdown, server, data }
    }

    /// Stops the emulator and starts another one on its data.
    pub(crate) async fn restarted(self) -> Self {
        self.shutdown.cancel();
        self.server.await.unwrap().unwrap();
        Self::on(self.data).await
    }

    /// Returns the response of an operation.
    pub(crate) async fn call(&self, operation: &str, body: Value) -> (StatusCode, Value) {
        self.send(&format!("Timestream_20181101.{operation}"), body.to_string()).await
    }

    /// Returns the response, which must be JSON, to any target and body.
    pub(crate) async fn send(&self, target: &str, body: impl Into<String>) -> (StatusCode, Value) {
        let response = self
            .http
            .post(&self.url)
            .header("x-amz-target", target)
            .header("content-type", "application/x-amz-json-1.0")
            .body(body.into())
            .send()
            .await
            .unwrap();
        (response.status(), response.json().await.unwrap())
    }

    /// Returns the response of an operation that must succeed.
    pub(crate) async fn ok(&self, operation: &str, body: Value) -> Value {
        let (status, result) = self.call(operation, body).await;
        assert!(status.is_success(), "{operation}: {status} {result}");
        result
    }

    /// Returns the exception and the message of an operation that must fail.
    pub(crate) async fn expect_error(&self, operation: &str, body: Value) -> (String, String) {
        let (status, result) = self.call(operation, body).await;
        assert!(status.is_client_error(), "{operation}: {status} {result}");
        let name = result["__type"].as_str().unwrap().rsplit('#').next().unwrap();
        (name.to_owned(), result["Message"].as_str().unwrap().to_owned())
    }

    /// Writes records to the table.
    pub(crate) async fn write(&self, records: Value) -> Value {
        self.ok("WriteRecords", write_request(records)).await
    }

    /// Returns the rejected ones of these records.
    pub(crate) async fn rejected(&self, records: Value) -> Vec<Value> {
        let (status, result) = self.call("WriteRecords", write_request(records)).await;
        assert_eq!(status.as_u16(), 419, "{result}");
        result["RejectedRecords"].as_array().unwrap().clone()
    }

    /// Returns all rows of a query as texts.
    pub(crate) async fn rows(&self, query: &str) -> Vec<Vec<Option<String>>> {
        let mut rows = Vec::new();
        let mut request = json!({ "QueryString": query });
        loop {
            let result = self.ok("Query", request.clone()).await;
            rows.extend(result["Rows"].as_array().unwrap().iter().map(texts));
            match result.get("NextToken") {
                Some(token) => request["NextToken"] = token.clone(),
                None => return rows,
            }
        }
    }

    /// Returns the single value of a query.
    pub(crate) async fn value(&self, query: &str) -> Option<String> {
        let rows = self.rows(query).await;
        assert_eq!((rows.len(), rows[0].len()), (1, 1), "{query}: {rows:?}");
        rows[0][0].clone()
    }

    /// Returns the exception and the message of a query that must fail.
    pub(crate) async fn expect_query_error(&self, query: &str) -> (String, String) {
        self.expect_error("Query", json!({ "QueryString": query })).await
    }
}

pub(crate) fn write_request(records: Value) -> Value {
    json!({ "DatabaseName": DATABASE, "TableName": TABLE, "Records": records })
}

/// Returns the values of a row; `None` is NULL.
pub(crate) fn texts(row: &Value) -> Vec<Option<String>> {
    let data = row["Data"].as_array().unwrap();
    data.iter()
        .map(|datum| match datum.get("NullValue") {
            Some(null) => {
                assert_eq!(null, true);
                None
            }
            None => Some(datum["ScalarValue"].as_str().unwrap().to_owned()),
        })
        .collect()
}

/// Returns a multi-measure record with one measure.
pub(crate) fn record(device: &str, time: i64, voltage: f64) -> Value {
    multi(
        device,
        time,
        json!([{ "Name": "voltage", "Value": voltage.to_string(), "Type": "DOUBLE" }]),
    )
}

/// Returns a multi-measure record; `time` is in seconds.
pub(crate) fn multi(device: &str, time: i64, measures: Value) -> Value {
    json!({
        "Dimensions": [{ "Name": "device_id", "Value": device }],
        "MeasureName": "iot_telemetry",
        "MeasureValueType": "MULTI",
        "MeasureValues": measures,
        "Time": time.to_string(),
        "TimeUnit": "SECONDS",
    })
}

/// Returns the current time in seconds since the epoch.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}
