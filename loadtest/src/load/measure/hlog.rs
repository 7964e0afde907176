//! Histograms as an interval log of HdrHistogram (`.hlog`), which its own tools read. Each class is a tag; values are
//! microseconds, the column of the longest value is in milliseconds.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::recorder::Recording;
use crate::Fallible;

/// Writes the log of a run that began at `start`.
pub fn write(path: &Path, recording: &Recording, start: SystemTime) -> Fallible<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("lockstep-loadtest: latency from the intended start, in microseconds");
    builder.with_start_time(start).with_base_time(start).with_max_value_divisor(1_000.0);
    let mut log = builder.begin_log_with(&mut out, &mut serializer)?;
    let length = Duration::from_secs(recording.interval_s);
    for ((interval, class), histogram) in &recording.intervals {
        let from = Duration::from_secs(interval * recording.interval_s);
        let written = log.write_histogram(histogram, from, length, Tag::new(class.name()));
        written.map_err(|error| format!("{}: {error:?}", path.display()))?;
    }
    Ok(out.flush()?)
}
