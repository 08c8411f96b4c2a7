//! The main loop of a function: receives invocations from the Lambda runtime and returns responses.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use meter_domain::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::{Instrument, Span};

use crate::observability;

/// Serves invocations until the process ends.
///
/// `span` returns the span of an invocation for its request id; `handler` receives the event, the
/// request id and the clock.
///
/// # Errors
///
/// The Lambda runtime is not available.
pub async fn serve<E, R>(
    span: impl Fn(&str) -> Span,
    handler: impl AsyncFn(E, &str, Timestamp) -> Result<R, Error>,
) -> Result<(), Error>
where
    E: DeserializeOwned,
    R: Serialize,
{
    lambda_runtime::run(service_fn(async |event: LambdaEvent<E>| {
        let LambdaEvent { payload, context } = event;
        let span = span(&context.request_id);
        observability::continue_trace(&span, &context);
        // The one boundary between the futures of the Lambda runtime, which moves this one through
        // several layers, and those of the handler, the stores and the SDK. Without it both are one
        // type, which is larger and deeper than the default recursion limit.
        let response = Box::pin(handler(payload, &context.request_id, Timestamp::now()));
        response.instrument(span).await
    }))
    .await
}
