//! Spans on their way to X-Ray, as subsegments of the segment that Lambda makes of an invocation.

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

/// Where the daemon listens; Lambda sets it.
const DAEMON_ADDRESS_ENV: &str = "AWS_XRAY_DAEMON_ADDRESS";

/// Where the propagator looks for a trace.
const TRACE_HEADER: &str = "x-amzn-trace-id";

/// What can be searched for in X-Ray, beside what it knows of every call.
const INDEXED_ATTRIBUTES: [&str; 3] = ["attempts", "outcome", "request_id"];

/// A layer that sends spans to the daemon of the environment; none where there is no daemon, as on a laptop.
pub(crate) fn layer_from_environment<S>() -> Option<impl Layer<S>>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    let address = std::env::var(DAEMON_ADDRESS_ENV).ok()?.parse().ok()?;
    layer(address).ok()
}

/// A layer that sends spans to the daemon at an address, each when it ends: afterwards, Lambda may freeze the process.
/// It costs a datagram, and whether it arrives is nobody's concern.
///
/// # Errors
/// When there is no socket to be had.
pub fn layer<S>(daemon: SocketAddr) -> io::Result<impl Layer<S>>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    let translator =
        SegmentTranslator::new().with_indexed_attrs(INDEXED_ATTRIBUTES.map(str::to_owned));
    let exporter = XrayExporter::new(XrayDaemonClient::new(daemon)?).with_translator(translator);
    let tracer = SdkTracerProvider::builder()
        .with_simple_exporter(exporter)
        // Lambda decides which invocations are traced. What belongs to none, as calls at the start, is not.
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
    // Log lines are in the log; the library's and the SDK's own spans say nothing more than ours.
    let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == TRACE_TARGET)
        .with_max_level_hint(LevelFilter::DEBUG);
    Ok(spans.with_filter(ours))
}

/// Puts the span of an invocation below the segment that Lambda made of it, before anybody enters it. Without a trace, or
/// without a layer, nothing happens.
pub(crate) fn continue_trace(span: &Span, context: &Context) {
    if let Some(trace) = &context.xray_trace_id {
        let header = HashMap::from([(TRACE_HEADER.to_owned(), trace.clone())]);
        // It fails where no layer sends spans anywhere.
        let _ = span.set_parent(XrayPropagator::new().extract(&header));
    }
}
