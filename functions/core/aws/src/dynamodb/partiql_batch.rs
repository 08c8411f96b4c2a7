//! Many writes with a condition each in one call, as PartiQL statements: the only batch of DynamoDB that
//! takes conditions. Each succeeds or fails alone.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    BatchStatementError, BatchStatementErrorCodeEnum as Code, BatchStatementRequest,
};
use futures::{StreamExt, stream};
use meter_store::StoreError;
use meter_store::retry;

use super::batch::CONCURRENCY;
use super::conditional::ConditionalWriteError;
use crate::error::{class_of_code, classify};

/// Statements that one call takes.
const MAX_STATEMENTS: usize = 25;

const OPERATION: &str = "dynamodb:BatchExecuteStatement";

/// Executes statements on different items; an answer each, in order.
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
    let mut answers: Vec<Option<Result<(), ConditionalWriteError>>> =
        statements.iter().map(|_| None).collect();
    for attempt in 0..retry::MAX_ATTEMPTS {
        let open: Vec<usize> = (0..answers.len()).filter(|i| answers[*i].is_none()).collect();
        if open.is_empty() {
            break;
        }
        if attempt > 0 {
            retry::wait(attempt - 1).await;
        }
        let again = open.iter().map(|i| statements[*i].clone()).collect();
        let sent = client.batch_execute_statement().set_statements(Some(again)).send().await;
        let responses = match sent {
            Ok(answer) => answer.responses.unwrap_or_default(),
            Err(error) => {
                let error = classify(OPERATION)(error).share();
                let failed = |answer: Option<_>| {
                    answer.unwrap_or_else(|| Err(ConditionalWriteError::Store(error())))
                };
                return answers.into_iter().map(failed).collect();
            }
        };
        let is_last = attempt + 1 == retry::MAX_ATTEMPTS;
        let mut responses = responses.into_iter().map(|response| response.error);
        for i in open {
            answers[i] = match responses.next() {
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
    answers.into_iter().flatten().collect()
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

/// Whether the statement may be taken the next time.
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
