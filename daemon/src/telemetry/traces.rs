//! Traces: OTLP over HTTP with protobuf, and the W3C trace context that travels with a transaction.
//!
//! The exporter has a thread of its own and a bounded queue: when the collector is slow, spans are dropped. A malformed
//! trace context is ignored, because it comes from outside and must not fail a push.

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;

use super::logs::AnyLayer;
use super::{SERVICE, TelemetryError};

/// The name of the header, and of the only field that a transaction carries of it.
const TRACEPARENT: &str = "traceparent";

/// The trace context of a transaction, as a source for the propagator.
struct Carrier<'a>(&'a str);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

/// The W3C trace context of the current span, for the new transaction to carry. It is empty without traces.
#[must_use]
pub fn current_traceparent() -> String {
    let context = tracing::Span::current().context();
    let span = context.span();
    let of = span.span_context();
    if !of.is_valid() {
        return String::new();
    }
    format!("00-{}-{}-{:02x}", of.trace_id(), of.span_id(), of.trace_flags().to_u8())
}

/// Makes a span the child of the span that a trace context names, which may be at another site. Call it before the span
/// is entered. An empty or malformed context changes nothing.
pub fn set_parent(span: &tracing::Span, traceparent: &str) {
    let context = TraceContextPropagator::new().extract(&Carrier(traceparent));
    if context.span().span_context().is_valid()
        && let Err(error) = span.set_parent(context)
    {
        tracing::debug!(%error, "the span keeps its own trace");
    }
}

/// Builds the exporter that sends spans to a collector. TLS is not supported: the collector runs beside the node.
pub(super) fn exporter(endpoint: &str) -> Result<SpanExporter, TelemetryError> {
    let refuse = |why: String| TelemetryError::Endpoint { value: endpoint.to_owned(), why };
    let whole = match endpoint.parse::<http::Uri>() {
        Ok(uri) if uri.scheme_str() == Some("http") && uri.authority().is_some() => with_path(endpoint, uri.path()),
        Ok(_) => return Err(refuse("it is not an http:// address (https is not supported)".to_owned())),
        Err(error) => return Err(refuse(error.to_string())),
    };
    SpanExporter::builder().with_http().with_endpoint(whole).build().map_err(|error| refuse(error.to_string()))
}

/// Adds the collector's usual path to an address without a path. The exporter would otherwise post to `/` and lose
/// every span.
pub(super) fn with_path(endpoint: &str, path: &str) -> String {
    match path {
        "" | "/" => format!("{}/v1/traces", endpoint.trim_end_matches('/')),
        _ => endpoint.to_owned(),
    }
}

/// Builds the provider, which batches spans on a thread of the SDK.
pub(super) fn provider(exporter: SpanExporter, resource: Resource) -> SdkTracerProvider {
    SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()
}

/// Builds the layer that turns Lockstep's own spans into OpenTelemetry's. Spans of libraries, the exporter's own among
/// them, are left out.
pub(super) fn layer(tracers: &SdkTracerProvider) -> AnyLayer {
    tracing_opentelemetry::layer()
        .with_tracer(tracers.tracer(SERVICE))
        .with_filter(Targets::new().with_target(SERVICE, LevelFilter::INFO))
        .boxed()
}
