//! The main loop of a REST function: from the Lambda runtime to the handlers of [`meter_http`] and back.

use std::future::Future;
use std::process::ExitCode;

use lambda_runtime::{LambdaEvent, service_fn};
use meter_domain::time::Timestamp;
use meter_http::event::GatewayEvent;
use meter_http::serve::{Function, Server};
use tracing::Instrument;

use crate::observability;

/// Anything that keeps a function from starting.
pub type Error = lambda_runtime::Error;

/// A function's `main`: starts logging, makes the server and serves the Lambda runtime until the process
/// is told to end. What keeps it from starting is one line in the log.
pub async fn start<F: Function>(
    server: impl Future<Output = Result<Server<F>, Error>>,
) -> ExitCode {
    observability::init();
    let outcome = match server.await {
        Ok(server) => run(server).await,
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

async fn run<F: Function>(server: Server<F>) -> Result<(), Error> {
    let server = &server;
    lambda_runtime::run(service_fn(async |event: LambdaEvent<GatewayEvent>| {
        let span = tracing::info_span!(
            target: meter_store::TRACE_TARGET, "request", request_id = event.payload.request_id(&event.context.request_id),
        );
        observability::continue_trace(&span, &event.context);
        let reply = server.handle_event(event.payload, &event.context.request_id, now());
        Ok::<_, Error>(reply.instrument(span).await)
    }))
    .await
}

/// To the millisecond, as the broker stamps messages: what clients read back has no digits that mean
/// nothing.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millis(now.as_millis()).unwrap_or(now)
}
