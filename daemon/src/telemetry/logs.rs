//! Log lines: JSON for machines, text for people.

use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::TelemetryError;

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object per line, with the fields of the spans around it.
    #[default]
    Json,
    /// Plain text without colours.
    Text,
}

/// A layer of the subscriber, of any type.
pub(super) type AnyLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Builds the layer that writes those lines that the filter lets through.
pub(super) fn layer(format: LogFormat, filter: &str, writer: BoxMakeWriter) -> Result<AnyLayer, TelemetryError> {
    let filter =
        EnvFilter::builder().parse(filter).map_err(|why| TelemetryError::Filter { value: filter.to_owned(), why })?;
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
    Ok(match format {
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => lines.with_filter(filter).boxed(),
    })
}
