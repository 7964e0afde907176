//! Log lines: JSON for machines, text for people.

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
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

/// Whether a line may carry parts of a signed request. The SDK of AWS writes whole requests at the level of traces, and
/// no filter of an operator may bring these into a log.
fn may_be_secret(line: &Metadata<'_>) -> bool {
    *line.level() == Level::TRACE && line.target().starts_with("aws_")
}

/// Builds the layer that writes those lines that the filter lets through. Lines that may be secret are left out under
/// every filter.
pub(super) fn layer(format: LogFormat, filter: &str, writer: BoxMakeWriter) -> Result<AnyLayer, TelemetryError> {
    let filter =
        EnvFilter::builder().parse(filter).map_err(|why| TelemetryError::Filter { value: filter.to_owned(), why })?;
    let without_secrets = filter_fn(|line| !may_be_secret(line)).with_max_level_hint(LevelFilter::TRACE);
    let filter = FilterExt::<Registry>::and(filter, without_secrets);
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
    Ok(match format {
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
        LogFormat::Text => lines.with_filter(filter).boxed(),
    })
}
