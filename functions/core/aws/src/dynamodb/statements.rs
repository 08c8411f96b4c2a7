//! Many writes with a condition each in one call, as PartiQL statements: the only batch of DynamoDB that
//! takes conditions. Each succeeds or fails alone.

use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    BatchStatementError, BatchStatementErrorCodeEnum as Code, BatchStatementRequest,
};
use futures::{StreamExt, stream};
use meter_store::StoreError;
use meter_store::retry;

use super::batch::CONCURRENCY;
use super::conditional::Failure;
use crate::unavailable;

/// Statements that one call takes.
const AT_ONCE: usize = 25;

const OPERATION: &str = "dynamodb:BatchExecuteStatement";

/// Executes statements on different items; an answer each, in order.
pub(super) async fn execute(
    client: &Client,
    statements: Vec<BatchStatementRequest>,
) -> Vec<Result<(), Failure>> {
    let chunks = statements.chunks(AT_ONCE).map(<[_]>::to_vec);
    stream::iter(chunks.collect::<Vec<_>>())
        .map(|chunk| execute_chunk(client, chunk))
        .buffered(CONCURRENCY)
        .concat()
        .await
}

async fn execute_chunk(
    client: &Client,
    statements: Vec<BatchStatementRequest>,
) -> Vec<Result<(), Failure>> {
    let mut answers: Vec<Option<Result<(), Failure>>> = statements.iter().map(|_| None).collect();
    for attempt in 0..retry::ATTEMPTS {
        let open: Vec<usize> = (0..answers.len()).filter(|i| answers[*i].is_none()).collect();
        if open.is_empty() {
            break;
        }
        if attempt > 0 {
            retry::pause(attempt - 1).await;
        }
        let again = open.iter().map(|i| statements[*i].clone()).collect();
        let sent = client.batch_execute_statement().set_statements(Some(again)).send().await;
        let responses = match sent {
            Ok(answer) => answer.responses.unwrap_or_default(),
            Err(error) => {
                let error = copies(unavailable(OPERATION)(error));
                let failed =
                    |answer: Option<_>| answer.unwrap_or_else(|| Err(Failure::Failed(error())));
                return answers.into_iter().map(failed).collect();
            }
        };
        let is_last = attempt + 1 == retry::ATTEMPTS;
        let mut responses = responses.into_iter().map(|response| response.error);
        for i in open {
            answers[i] = match responses.next() {
                Some(None) => Some(Ok(())),
                Some(Some(error)) if !is_last && is_passing(&error) => None,
                Some(Some(error)) => Some(Err(failure(error))),
                None => Some(Err(Failure::Failed(unavailable(OPERATION)("has no answer")))),
            };
        }
    }
    answers.into_iter().flatten().collect()
}

fn failure(error: BatchStatementError) -> Failure {
    match error.code {
        Some(Code::ConditionalCheckFailed | Code::DuplicateItem) => Failure::Refused(error.item),
        code => {
            let code = code.as_ref().map_or("no code", Code::as_str);
            let message = error.message.as_deref().unwrap_or("no message");
            Failure::Failed(unavailable(OPERATION)(format!("{code}: {message}")))
        }
    }
}

/// Whether the statement may be taken the next time.
fn is_passing(error: &BatchStatementError) -> bool {
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

/// Copies of one failure, for everything that it stopped.
pub(super) fn copies(error: StoreError) -> impl Fn() -> StoreError {
    let operation = match &error {
        StoreError::Unavailable { operation, .. } => operation,
        StoreError::Corrupt { .. } => "dynamodb",
    };
    let error = Arc::new(error);
    move || StoreError::Unavailable { operation, source: Box::new(Arc::clone(&error)) }
}
