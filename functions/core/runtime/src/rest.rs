//! The `main` of a REST function.

use std::future::Future;
use std::process::ExitCode;

use meter_domain::time::Timestamp;
use meter_http::{App, event};
use serde_json::Value;
use tracing::Span;
use tracing::field::Empty;

use crate::observability;

/// An error that prevents the start of a function.
pub type Error = lambda_runtime::Error;

/// The `main` of a function: starts logging, creates the app and serves events of API Gateway until
/// the process is terminated. An error at the start is one line in the log.
pub async fn start(app: impl Future<Output = Result<App, Error>>) -> ExitCode {
    observability::init();
    let outcome = match app.await {
        Ok(app) => serve(&app).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("cannot start: {}", meter_store::error_chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn serve(app: &App) -> Result<(), Error> {
    let span = |_: &str| tracing::info_span!(target: meter_store::TRACE_TARGET, "request", request_id = Empty);
    crate::serve(span, async |event: Value, invocation_id, now| {
        Span::current().record("request_id", event::request_id(&event, invocation_id));
        Ok(app.handle(&event, invocation_id, to_millis(now)).await)
    })
    .await
}

/// A time in milliseconds, the precision in which the broker stamps messages.
fn to_millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.as_millis()).unwrap_or(time)
}
