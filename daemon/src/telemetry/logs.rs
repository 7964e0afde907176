//! Log lines: JSON for machines, text for people.

use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::TelemetryError;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line, with the fields of the spans around it.
    #[default]
    Json,
    /// Text, without colours.
    Text,
}

/// A layer of the subscriber, whatever is inside.
pub(super) type AnyLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Writes the lines that the filter lets through.
pub(super) fn layer(format: LogFormat, filter: &str, writer: BoxMakeWriter) -> Result<AnyLayer, TelemetryError> {
    let filter =
        EnvFilter::builder().parse(filter).map_err(|why| TelemetryError::Filter { value: filter.to_owned(), why })?;
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
    Ok(match format {
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => lines.with_filter(filter).boxed(),
    })
}
