//! The operations of both APIs.

mod database;
mod query;
mod table;
mod tags;
mod write;

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{error::ApiError, query::Queries, store::Store};

/// The response of an operation.
pub(crate) type ApiResult = Result<Value, ApiError>;

/// The state that the operations share.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) store: Arc<Store>,
    pub(crate) queries: Queries,
}

/// The time for which a client may cache an endpoint, which is always the address it requested.
const ENDPOINT_CACHE_MINUTES: u32 = 1_440;
/// The prefix of `X-Amz-Target` in both APIs.
const TARGET: &str = "Timestream_20181101.";

impl Service {
    /// Performs the operation `target` with the JSON in `body`. `host` is the address that the
    /// client uses.
    pub(crate) async fn call(&self, target: &str, host: &str, body: Vec<u8>) -> ApiResult {
        let unknown =
            || ApiError::UnknownOperation(format!("'{target}' is not a supported operation."));
        let operation = target.strip_prefix(TARGET).ok_or_else(unknown)?.to_owned();
        match operation.as_str() {
            "DescribeEndpoints" => {
                read::<Value>(&body)?;
                // botocore uses an address with a scheme unchanged, and puts https:// before
                // others. So the AWS CLI and boto3 work with the endpoint of the environment,
                // although they use endpoint discovery.
                let address = format!("http://{host}");
                return Ok(json!({ "Endpoints": [
                    { "Address": address, "CachePeriodInMinutes": ENDPOINT_CACHE_MINUTES }
                ] }));
            }
            "Query" => return query::query(self, read(&body)?).await,
            "CancelQuery" => return query::cancel(self, read(&body)?),
            "PrepareQuery" => return query::prepare(),
            _ => {}
        }
        let service = self.clone();
        let result = tokio::task::spawn_blocking(move || service.store_call(&operation, &body))
            .await
            .map_err(|panic| ApiError::Internal(Box::new(panic)))?;
        result.unwrap_or_else(|| Err(unknown()))
    }

    /// Performs an operation that accesses the disk; `None` if there is no such operation.
    fn store_call(&self, operation: &str, body: &[u8]) -> Option<ApiResult> {
        Some(match operation {
            "WriteRecords" => self.with(body, write::write_records),
            "CreateDatabase" => self.with(body, database::create),
            "DescribeDatabase" => self.with(body, database::describe),
            "ListDatabases" => self.with(body, database::list),
            "UpdateDatabase" => self.with(body, database::update),
            "DeleteDatabase" => self.with(body, database::delete),
            "CreateTable" => self.with(body, table::create),
            "DescribeTable" => self.with(body, table::describe),
            "ListTables" => self.with(body, table::list),
            "UpdateTable" => self.with(body, table::update),
            "DeleteTable" => self.with(body, table::delete),
            "ListTagsForResource" => self.with(body, tags::list),
            "TagResource" => self.with(body, tags::tag),
            "UntagResource" => self.with(body, tags::untag),
            _ => return None,
        })
    }

    fn with<T: DeserializeOwned>(
        &self,
        body: &[u8],
        operation: fn(&Self, T) -> ApiResult,
    ) -> ApiResult {
        operation(self, read(body)?)
    }
}

/// Parses the body of a request. A body that is not JSON gives another error than a missing member.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        if error.is_data() {
            ApiError::Validation(error.to_string())
        } else {
            ApiError::Serialization(format!("the body is not JSON: {error}"))
        }
    })
}

/// Converts to seconds since the epoch, with millisecond precision, as in responses.
fn seconds(nanos: i64) -> f64 {
    (nanos / 1_000_000) as f64 / 1_000.0
}
