//! A span for each AWS call.

use std::time::Instant;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextRef, Error, FinalizerInterceptorContextRef, Output,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::{Metadata, OrchestratorError};
use aws_smithy_runtime_api::client::retries::RequestAttempts;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use meter_store::TRACE_TARGET;
use tracing::Span;
use tracing::field::Empty;

/// Creates the spans; every client of [`Clients`](super::Clients) has it.
///
/// A span has the service, the operation, the number of attempts and the outcome. It never has a
/// key, a payload or an error message, which may contain them. It ends with the response: the body
/// of an object is read afterwards.
#[derive(Debug)]
pub(super) struct TracingInterceptor;

/// A call in progress. Dropping it ends the span, also if the call was cancelled.
#[derive(Debug)]
struct CallSpan {
    span: Span,
    started: Instant,
}

impl Storable for CallSpan {
    type Storer = StoreReplace<Self>;
}

#[dyn_dispatch_hint]
impl Intercept for TracingInterceptor {
    fn name(&self) -> &'static str {
        "TracingInterceptor"
    }

    // Before the execution the name of the operation is not available yet.
    fn read_before_serialization(
        &self,
        _context: &BeforeSerializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let (service, operation) = operation_name(config);
        // X-Ray recognizes an AWS call by these field names of OpenTelemetry.
        let span = tracing::debug_span!(
            target: TRACE_TARGET,
            "aws call",
            otel.kind = "client",
            otel.status_code = Empty,
            rpc.system = "aws-api",
            rpc.service = service,
            rpc.method = operation,
            http.response.status_code = Empty,
            attempts = Empty,
            outcome = Empty,
        );
        config.interceptor_state().store_put(CallSpan { span, started: Instant::now() });
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(CallSpan { span, started }) = config.load::<CallSpan>() else {
            return Ok(()); // failed before serialization
        };
        let attempts = config.load::<RequestAttempts>().map_or(0, RequestAttempts::attempts);
        let status = context.response().map(|response| response.status().as_u16());
        let outcome = outcome(context.output_or_error());
        // Unsigned integers would become texts: integers of OpenTelemetry are signed.
        span.record("attempts", i64::from(attempts));
        span.record("outcome", outcome);
        if let Some(status) = status {
            span.record("http.response.status_code", i64::from(status));
        }
        // A 4xx response at the first attempt, such as a failed condition, is no error of the call.
        let is_regular_response =
            outcome == SERVICE_ERROR && attempts <= 1 && status.is_some_and(|s| s < 500);
        if outcome != OK && !is_regular_response {
            span.record("otel.status_code", "ERROR");
        }
        let (service, operation) = operation_name(config);
        tracing::debug!(
            target: TRACE_TARGET,
            service,
            operation,
            outcome,
            status,
            attempts,
            duration_ms = started.elapsed().as_secs_f64() * 1e3,
            "aws call"
        );
        Ok(())
    }
}

const OK: &str = "ok";
const SERVICE_ERROR: &str = "service_error";

fn operation_name(config: &ConfigBag) -> (&str, &str) {
    config.load::<Metadata>().map_or(("", ""), |call| (call.service(), call.name()))
}

/// Returns the outcome of a call after all attempts.
fn outcome(result: Option<Result<&Output, &OrchestratorError<Error>>>) -> &'static str {
    match result {
        Some(Ok(_)) => OK,
        Some(Err(error)) if error.is_operation_error() => SERVICE_ERROR,
        Some(Err(error)) if error.is_timeout_error() => "timeout",
        Some(Err(error)) if error.is_connector_error() => "connection_error",
        Some(Err(_)) | None => "failed",
    }
}
