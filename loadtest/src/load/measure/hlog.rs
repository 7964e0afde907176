//! Histograms as an interval log of HdrHistogram (`.hlog`), which its own tools read. Each class is a tag, and so is
//! the lag of each site, `lag:NAME`, over the whole run. Values are microseconds, the column of the longest value is in
//! milliseconds.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::recorder::Recording;
use super::watch::Watched;
use crate::Fallible;

/// Writes the log of a run that began at `start`.
pub fn write(path: &Path, recording: &Recording, watched: &Watched, start: SystemTime) -> Fallible<()> {
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
    let whole = Duration::from_secs(recording.seconds.len() as u64);
    for site in watched.sites.iter().filter(|site| !site.lag.is_empty()) {
        let written = log.write_histogram(&site.lag, Duration::ZERO, whole, Tag::new(&format!("lag:{}", site.name)));
        written.map_err(|error| format!("{}: {error:?}", path.display()))?;
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::measure::{Finished, Outcome, Recorder};
    use crate::load::model::Class;

    #[test]
    fn the_log_has_a_tag_for_each_class_and_for_the_lag_of_each_site() {
        let recorder = Recorder::new(Duration::ZERO, Duration::from_secs(10), Duration::from_millis(100));
        let mut one = Finished::begun(Class::Draft, 0, 1_000_000);
        (one.ended_us, one.result) = (1_020_000, Outcome::Done);
        recorder.finished(&one);
        let (folder, mut watched) = (tempfile::tempdir().unwrap(), Watched::of_backlog(Vec::new()));
        let (path, start) = (folder.path().join("latency.hlog"), SystemTime::UNIX_EPOCH);
        let tags = |watched: &Watched| -> Vec<String> {
            write(&path, &recorder.take(), watched, start).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            let tagged = text.lines().filter_map(|line| line.strip_prefix("Tag=")?.split(',').next());
            tagged.map(str::to_owned).collect()
        };
        assert_eq!(tags(&watched), ["draft"], "a site without lags has none");
        watched.sites[0].lag.record(70_000).unwrap();
        assert_eq!(tags(&watched), ["draft", "lag:a"]);
    }
}
