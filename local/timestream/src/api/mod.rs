//! The operations of both APIs, by the name in `X-Amz-Target`.

mod database;
mod query;
mod table;
mod tags;
mod write;

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{error::ApiError, query::Queries, store::Store};

/// What an operation answers.
pub(crate) type ApiResult = Result<Value, ApiError>;

/// What the operations work on.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) store: Arc<Store>,
    pub(crate) queries: Queries,
}

/// How long a client may remember an endpoint. It is always the address that it requested.
const ENDPOINT_CACHE_MINUTES: u32 = 1_440;
/// The prefix of `X-Amz-Target`, of both APIs.
const TARGET: &str = "Timestream_20181101.";

impl Service {
    /// Carries out `target` with the JSON in `body`. `host` is where the client thinks that we are.
    pub(crate) async fn call(&self, target: &str, host: &str, body: Vec<u8>) -> ApiResult {
        let unknown = || {
            ApiError::UnknownOperation(format!(
                "'{target}' is no operation that this stand-in of Timestream knows."
            ))
        };
        let operation = target.strip_prefix(TARGET).ok_or_else(unknown)?.to_owned();
        match operation.as_str() {
            "DescribeEndpoints" => {
                read::<Value>(&body)?;
                // botocore takes an address with a scheme as it is, and puts https:// before any other. So the AWS CLI and
                // boto3 work with the environment's endpoint, where they insist on discovery.
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
        let answer = tokio::task::spawn_blocking(move || service.store_call(&operation, &body))
            .await
            .map_err(|panic| ApiError::Internal(Box::new(panic)))?;
        answer.unwrap_or_else(|| Err(unknown()))
    }

    /// The operations that wait for the disk; `None` is an operation that there is not.
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

/// The body of a request. What is no JSON at all is another error than what lacks a member.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        if error.is_data() {
            ApiError::Validation(error.to_string())
        } else {
            ApiError::Serialization(format!("the body is no JSON: {error}"))
        }
    })
}

/// Times in answers are seconds since the epoch, to the millisecond.
fn seconds(nanos: i64) -> f64 {
    (nanos / 1_000_000) as f64 / 1_000.0
}
