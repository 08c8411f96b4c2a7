//! A span for each call of a store, whichever client makes it.

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

/// Makes the spans. Every client of [`Clients`](super::Clients) has it, so that no adapter can forget.
///
/// A span says which service was asked for what, how often, and how that ended; never a key, a payload or what the
/// service said, since its words may quote them. It ends with the answer: the body of an object is read after it.
#[derive(Debug)]
pub(super) struct TracingInterceptor;

/// A call that is under way. Who drops it, done or cancelled, ends the span.
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

    // Not before the execution, when the call does not know its name yet.
    fn read_before_serialization(
        &self,
        _context: &BeforeSerializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let (service, operation) = operation_name(config);
        // OpenTelemetry's names where it has some: X-Ray knows an AWS call by them.
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
            return Ok(()); // it ended before it began
        };
        let attempts = config.load::<RequestAttempts>().map_or(0, RequestAttempts::attempts);
        let status = context.response().map(|response| response.status().as_u16());
        let outcome = outcome(context.output_or_error());
        // OpenTelemetry's integers are signed: others become texts.
        span.record("attempts", i64::from(attempts));
        span.record("outcome", outcome);
        if let Some(status) = status {
            span.record("http.response.status_code", i64::from(status));
        }
        // A condition that did not hold is an answer like others; what was tried again was none.
        let is_answer =
            outcome == SERVICE_ERROR && attempts <= 1 && status.is_some_and(|s| s < 500);
        if outcome != OK && !is_answer {
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

/// How a call ended, after all its attempts.
fn outcome(answer: Option<Result<&Output, &OrchestratorError<Error>>>) -> &'static str {
    match answer {
        Some(Ok(_)) => OK,
        Some(Err(error)) if error.is_operation_error() => SERVICE_ERROR,
        Some(Err(error)) if error.is_timeout_error() => "timeout",
        Some(Err(error)) if error.is_connector_error() => "connection_error",
        Some(Err(_)) | None => "failed",
    }
}
