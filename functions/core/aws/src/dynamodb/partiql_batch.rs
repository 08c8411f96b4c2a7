//! Batches of conditional writes, as PartiQL statements: the only batch of DynamoDB that accepts
//! conditions. Each statement succeeds or fails alone.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    BatchStatementError, BatchStatementErrorCodeEnum as Code, BatchStatementRequest,
};
use futures::{StreamExt, stream};
use meter_store::{StoreError, retry};

use super::batch::CONCURRENCY;
use super::conditional::ConditionalWriteError;
use crate::error::{class_of_code, classify};

/// Statements in one call, a limit of DynamoDB.
const MAX_STATEMENTS: usize = 25;

const OPERATION: &str = "dynamodb:BatchExecuteStatement";

/// Executes statements on different items and returns a result for each, in order.
pub(super) async fn execute(
    client: &Client,
    statements: Vec<BatchStatementRequest>,
) -> Vec<Result<(), ConditionalWriteError>> {
    let chunks = statements.chunks(MAX_STATEMENTS).map(<[_]>::to_vec);
    stream::iter(chunks.collect::<Vec<_>>())
        .map(|chunk| execute_batch(client, chunk))
        .buffered(CONCURRENCY)
        .concat()
        .await
}

async fn execute_batch(
    client: &Client,
    statements: Vec<BatchStatementRequest>,
) -> Vec<Result<(), ConditionalWriteError>> {
    let mut results: Vec<Option<Result<(), ConditionalWriteError>>> =
        statements.iter().map(|_| None).collect();
    for attempt in 0..retry::MAX_ATTEMPTS {
        let open: Vec<usize> = (0..results.len()).filter(|i| results[*i].is_none()).collect();
        if open.is_empty() {
            break;
        }
        if attempt > 0 {
            retry::wait(attempt - 1).await;
        }
        let statements = open.iter().map(|i| statements[*i].clone()).collect();
        let sent = client.batch_execute_statement().set_statements(Some(statements)).send().await;
        let responses = match sent {
            Ok(response) => response.responses.unwrap_or_default(),
            Err(error) => {
                let error = classify(OPERATION)(error).share();
                let failed = |result: Option<_>| {
                    result.unwrap_or_else(|| Err(ConditionalWriteError::Store(error())))
                };
                return results.into_iter().map(failed).collect();
            }
        };
        let is_last = attempt + 1 == retry::MAX_ATTEMPTS;
        let mut responses = responses.into_iter().map(|response| response.error);
        for i in open {
            results[i] = match responses.next() {
                Some(None) => Some(Ok(())),
                Some(Some(error)) if !is_last && is_transient(&error) => None,
                Some(Some(error)) => Some(Err(to_error(error))),
                None => Some(Err(ConditionalWriteError::Store(StoreError::unavailable(
                    OPERATION,
                    "the statement has no response",
                )))),
            };
        }
    }
    results.into_iter().flatten().collect()
}

fn to_error(error: BatchStatementError) -> ConditionalWriteError {
    match error.code {
        Some(Code::ConditionalCheckFailed | Code::DuplicateItem) => {
            ConditionalWriteError::ConditionFailed(error.item)
        }
        code => {
            let code = code.as_ref().map_or("no code", Code::as_str);
            let message = error.message.as_deref().unwrap_or("no message");
            let class = class_of_code(code).unwrap_or(StoreError::unavailable);
            ConditionalWriteError::Store(class(OPERATION, format!("{code}: {message}").into()))
        }
    }
}

/// Returns whether the statement may succeed at the next attempt.
fn is_transient(error: &BatchStatementError) -> bool {
    matches!(
        error.code,
        Some(
            Code::InternalServerError
                | Code::ProvisionedThroughputExceeded
                | Code::RequestLimitExceeded
                | Code::ThrottlingError
                | Code::TransactionConflict
        )
    )
}
