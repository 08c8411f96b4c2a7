//! Export of spans to X-Ray, as subsegments of the segment that Lambda creates for an invocation.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use lambda_runtime::Context;
use meter_store::TRACE_TARGET;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_aws::trace::XrayPropagator;
use opentelemetry_aws::xray_exporter::daemon_client::XrayDaemonClient;
use opentelemetry_aws::xray_exporter::{SegmentTranslator, XrayExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// Address of the X-Ray daemon, set by Lambda.
const DAEMON_ADDRESS_ENV: &str = "AWS_XRAY_DAEMON_ADDRESS";

/// Header from which the propagator reads the trace.
const TRACE_HEADER: &str = "x-amzn-trace-id";

/// Span fields that X-Ray indexes for search.
const INDEXED_ATTRIBUTES: [&str; 3] = ["attempts", "outcome", "request_id"];

/// Creates the layer for the daemon of the environment; `None` without a daemon, as on a
/// workstation.
pub(crate) fn layer_from_environment<S>() -> Option<impl Layer<S>>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    let address = std::env::var(DAEMON_ADDRESS_ENV).ok()?.parse().ok()?;
    layer(address).ok()
}

/// Creates a layer that sends spans to the daemon at an address.
///
/// Each span is sent when it ends, because Lambda may freeze the process afterwards. It is one
/// datagram, and a lost one is not reported.
///
/// # Errors
/// If no socket can be opened.
pub fn layer<S>(daemon: SocketAddr) -> io::Result<impl Layer<S>>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    let translator =
        SegmentTranslator::new().with_indexed_attrs(INDEXED_ATTRIBUTES.map(str::to_owned));
    let exporter = XrayExporter::new(XrayDaemonClient::new(daemon)?).with_translator(translator);
    let tracer = SdkTracerProvider::builder()
        .with_simple_exporter(exporter)
        // Lambda decides which invocations are traced. Calls outside of invocations are not traced.
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)))
        .with_resource(Resource::builder_empty().build())
        .build()
        .tracer("iot-meter");
    let spans = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false);
    // Only the spans of this project: those of the SDK and its libraries would repeat them.
    let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == TRACE_TARGET)
        .with_max_level_hint(LevelFilter::DEBUG);
    Ok(spans.with_filter(ours))
}

/// Sets the segment of Lambda as the parent of the span of an invocation, before the span is
/// entered. Has no effect without a trace or without a layer.
pub(crate) fn continue_trace(span: &Span, context: &Context) {
    if let Some(trace) = &context.xray_trace_id {
        let header = HashMap::from([(TRACE_HEADER.to_owned(), trace.clone())]);
        // Fails without a layer that exports spans.
        let _ = span.set_parent(XrayPropagator::new().extract(&header));
    }
}
