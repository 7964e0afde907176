//! Logs, metrics and traces: an operator's view of a running sidecar.
//!
//! - Logs go to stderr, as JSON or as text, filtered by `EnvFilter` directives (`info`,
//!   `lockstep::stages::commit=debug`).
//! - Metrics are OpenTelemetry instruments with a Prometheus exporter: [`Telemetry::render`] is the body of `/metrics`.
//!   The meter is passed to the code that measures ([`metrics::Metrics`]). There is no process-wide meter, so a test or
//!   the simulator can run any number of sidecars in one process.
//! - Traces go to an OTLP collector over HTTP with protobuf when an endpoint is configured, and cost nothing otherwise.
//!   A transaction carries its push's W3C trace context, so that one push is one trace across all sites.
//!
//! [`Telemetry::build`] can fail and starts none of our tasks. [`Telemetry::install`] makes the subscriber the
//! process-wide one. [`Telemetry::shutdown`] sends the remaining spans. A loss of telemetry never stops a commit.

mod logs;
pub mod metrics;
pub mod status_board;
mod traces;

use lockstep_proto::{NodeId, SiteId};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus::{Registry, TextEncoder};
use tracing::Dispatch;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;

pub use logs::LogFormat;
#[cfg(test)]
pub(crate) use tests::Lines;
pub use traces::{current_traceparent, set_parent};

/// The name under which instruments, spans and the service appear.
const SERVICE: &str = "lockstep";

/// The settings of logs, metrics and traces.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The site, an attribute of every span and of the metric `target_info`.
    pub site: SiteId,
    /// The node, an attribute of every span and of the metric `target_info`.
    pub node: NodeId,
    /// The format of log lines.
    pub log_format: LogFormat,
    /// The log lines to write, as directives of `EnvFilter` separated by commas.
    pub log_filter: String,
    /// The address of the trace collector (`http://collector:4318/v1/traces`); none switches traces off.
    pub otlp_endpoint: Option<String>,
}

/// The reason why telemetry was not built, not installed or not rendered.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A directive of the log filter is malformed.
    #[error("telemetry.log_filter is {value:?}: {why}; write directives like `info,lockstep::stages::commit=debug`")]
    Filter {
        /// The value as configured.
        value: String,
        /// The parser's message, for people.
        why: tracing_subscriber::filter::ParseError,
    },
    /// The endpoint is not an address that the exporter supports.
    #[error(
        "telemetry.otlp_endpoint is {value:?}: {why}; write `http://HOST:4318/v1/traces`, a collector beside this node"
    )]
    Endpoint {
        /// The value as configured.
        value: String,
        /// The reason why the value is rejected.
        why: String,
    },
    /// The Prometheus exporter was not built.
    #[error("the metrics exporter was not built: {0}; a retry does not help")]
    Exporter(opentelemetry_sdk::error::OTelSdkError),
    /// The process has a subscriber already.
    #[error("the process has a log subscriber already; install telemetry once, in `main`")]
    Installed,
    /// The metrics could not be written as text.
    #[error("the metrics could not be rendered: {0}; a retry may help")]
    Render(prometheus::Error),
}

/// Logs, metrics and traces of one sidecar.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    meters: SdkMeterProvider,
    tracers: Option<SdkTracerProvider>,
    dispatch: Dispatch,
}

impl Telemetry {
    /// Builds logs, metrics and traces. Logs go to stderr.
    ///
    /// # Errors
    /// [`TelemetryError`] for a bad filter or endpoint, with the field, its value and the correct form.
    pub fn build(settings: &Settings) -> Result<Self, TelemetryError> {
        let resource = resource(settings);
        let exporter = settings.otlp_endpoint.as_deref().map(traces::exporter).transpose()?;
        let tracers = exporter.map(|exporter| traces::provider(exporter, resource.clone()));
        Self::assemble(settings, resource, tracers, BoxMakeWriter::new(std::io::stderr))
    }

    /// Builds telemetry whose log lines a test of another room reads.
    ///
    /// # Errors
    /// As [`Self::build`].
    #[cfg(test)]
    pub(crate) fn writing(settings: &Settings, lines: &Lines) -> Result<Self, TelemetryError> {
        Self::assemble(settings, resource(settings), None, lines.writer())
    }

    /// The subscriber of the log lines.
    #[cfg(test)]
    pub(crate) fn subscriber(&self) -> Dispatch {
        self.dispatch.clone()
    }

    fn assemble(
        settings: &Settings,
        resource: Resource,
        tracers: Option<SdkTracerProvider>,
        writer: BoxMakeWriter,
    ) -> Result<Self, TelemetryError> {
        let registry = Registry::new();
        let meters = meters(&registry, resource)?;
        let mut layers = vec![logs::layer(settings.log_format, &settings.log_filter, writer)?];
        layers.extend(tracers.as_ref().map(traces::layer));
        let dispatch = Dispatch::new(tracing_subscriber::registry().with(layers));
        Ok(Self { registry, meters, tracers, dispatch })
    }

    /// Makes the subscriber the process-wide one.
    ///
    /// # Errors
    /// [`TelemetryError::Installed`] when the process has a subscriber already.
    pub fn install(&self) -> Result<(), TelemetryError> {
        tracing::dispatcher::set_global_default(self.dispatch.clone()).map_err(|_| TelemetryError::Installed)
    }

    /// The meter that creates the instruments.
    #[must_use]
    pub fn meter(&self) -> Meter {
        self.meters.meter(SERVICE)
    }

    /// Every metric in Prometheus' text format: the body of `/metrics`.
    ///
    /// # Errors
    /// [`TelemetryError::Render`] when a metric cannot be written.
    pub fn render(&self) -> Result<String, TelemetryError> {
        TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(TelemetryError::Render)
    }

    /// Sends the spans that are still in memory. Blocks for at most 5 seconds. If the collector does not answer, these
    /// spans are lost and nothing else.
    pub fn shutdown(self) {
        if let Some(tracers) = self.tracers
            && let Err(error) = tracers.shutdown_with_timeout(std::time::Duration::from_secs(5))
        {
            tracing::warn!(%error, "the last spans were not sent and are lost");
        }
    }
}

/// The identity of this sidecar, as attributes of every span and of the metric `target_info`.
fn resource(settings: &Settings) -> Resource {
    Resource::builder_empty()
        .with_service_name(SERVICE)
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", settings.node.to_string()),
            KeyValue::new("lockstep.site", settings.site.to_string()),
        ])
        .build()
}

/// Builds the provider of instruments. The registry collects them when it is read. Their full names are in [`metrics`]:
/// the exporter adds no suffix and no scope label.
fn meters(registry: &Registry, resource: Resource) -> Result<SdkMeterProvider, TelemetryError> {
    let exporter = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .without_units()
        .without_counter_suffixes()
        .scope_info_enabled(false)
        .build()
        .map_err(TelemetryError::Exporter)?;
    Ok(SdkMeterProvider::builder().with_reader(exporter).with_resource(resource).build())
}

#[cfg(test)]
mod tests;
