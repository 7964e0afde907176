//! Reads the section `[eventlog.autoscale]`: the number of shards of this site's stream follows the load.

use std::time::Duration;

use figment::value::Value;

use super::fields::{percent, time};
use super::raw::{self, Leaf};
use super::report::{Problems, number, parsed, scalar};
use crate::stages::capacity::{AutoscaleSettings, Limits, Peak};

/// The shortest interval of the looks. The nodes tell their writes every ten seconds.
const SHORTEST: Duration = Duration::from_secs(30);
/// The most known peaks.
const MOST_PEAKS: usize = 50;

/// Reads the section. `shards` is the number of shards of a new stream.
pub(super) fn read(raw: &raw::Autoscale, shards: u32, to: &mut Problems) -> Option<AutoscaleSettings> {
    let mode = to.or("eventlog.autoscale.mode", &raw.mode, "off".to_owned(), mode);
    let least = to.or("eventlog.autoscale.least_shards", &raw.least_shards, shards, number(1..=10_000));
    let usual = least.max(16);
    let most = to.or("eventlog.autoscale.most_shards", &raw.most_shards, usual, number(1..=10_000));
    if most < least {
        let why = format!("write at least eventlog.autoscale.least_shards, which is {least}");
        to.wrong("eventlog.autoscale.most_shards", &raw.most_shards, why);
    }
    let settle = to.or("eventlog.autoscale.settle", &raw.settle, Duration::from_secs(3_600), time);
    let interval = to.or("eventlog.autoscale.interval", &raw.interval, Duration::from_secs(60), interval);
    if settle < interval {
        to.wrong("eventlog.autoscale.settle", &raw.settle, "write at least eventlog.autoscale.interval");
    }
    let target = to.or("eventlog.autoscale.target", &raw.target, 60, percent);
    let peaks = peaks(&raw.peaks, most, to);
    let limits = Limits { target, least, most, settle_ms: milliseconds(settle), interval_ms: milliseconds(interval) };
    (mode != "off").then(|| AutoscaleSettings { dry_run: mode == "dry-run", limits, peaks })
}

fn mode(text: &str) -> Result<String, String> {
    match text {
        "off" | "dry-run" | "on" => Ok(text.to_owned()),
        _ => Err("write \"off\", \"dry-run\" or \"on\"".to_owned()),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = time(text)?;
    if interval >= SHORTEST { Ok(interval) } else { Err(format!("write at least {SHORTEST:?}")) }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn peaks(leaf: &Leaf, most: u32, to: &mut Problems) -> Vec<Peak> {
    let items = match leaf {
        None => return Vec::new(),
        Some(Value::Array(_, items)) if items.len() <= MOST_PEAKS => items.as_slice(),
        Some(_) => {
            let why = format!("list at most {MOST_PEAKS} peaks: [\"mon-fri 06:30-10:00 8\"]");
            to.wrong("eventlog.autoscale.peaks", leaf, why);
            return Vec::new();
        }
    };
    let mut read = |item: &Value| {
        let text = scalar(item).ok_or_else(|| "write texts".to_owned());
        let peak = text.and_then(|text| parsed::<Peak>(&text)).and_then(|peak| {
            let fits = peak.shards <= most;
            if fits { Ok(peak) } else { Err(format!("a peak has at most eventlog.autoscale.most_shards, {most}")) }
        });
        peak.map_err(|why| to.wrong("eventlog.autoscale.peaks", leaf, why)).ok()
    };
    items.iter().filter_map(&mut read).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{EXAMPLE, parse};
    use super::*;

    fn with(section: &str) -> Result<Option<AutoscaleSettings>, String> {
        let text = EXAMPLE.replacen("[eventlog.autoscale] ", &format!("[eventlog.autoscale]\n{section}\n#"), 1);
        parse(&text).map(|settings| settings.eventlog.autoscale).map_err(|error| error.to_string())
    }

    #[test]
    fn it_is_off_unless_it_is_switched_on_and_keeps_the_shards_of_a_new_stream() {
        assert_eq!(with(""), Ok(None));
        let on = with("mode = \"on\"").unwrap().unwrap();
        let limits = Limits { target: 60, least: 1, most: 16, settle_ms: 3_600_000, interval_ms: 60_000 };
        assert_eq!(on, AutoscaleSettings { dry_run: false, limits, peaks: Vec::new() });
        let section = "mode = \"dry-run\"\nleast_shards = 20\npeaks = [\"mon-fri 06:30-10:00 20\"]";
        let dry = with(section).unwrap().unwrap();
        assert_eq!((dry.dry_run, dry.limits.least, dry.limits.most, dry.peaks.len()), (true, 20, 20, 1));
    }

    #[test]
    fn a_stream_that_may_shrink_below_its_first_shards_is_as_wanted() {
        let text = EXAMPLE.replacen("# shards = 1 ", "shards = 4 ", 1);
        let least = |section: &str| {
            let text = text.replacen("[eventlog.autoscale] ", &format!("[eventlog.autoscale]\n{section}\n#"), 1);
            parse(&text).map(|settings| settings.eventlog.least_shards()).map_err(|error| error.to_string())
        };
        assert_eq!(least("least_shards = 2"), Ok(4));
        assert_eq!(least("least_shards = 2\nmode = \"dry-run\""), Ok(4));
        assert_eq!(least("least_shards = 2\nmode = \"on\""), Ok(2));
        assert_eq!(least("mode = \"on\""), Ok(4));
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_field() {
        for (section, part) in [
            ("mode = \"auto\"", "eventlog.autoscale.mode = \"auto\": write \"off\""),
            ("least_shards = 9\nmost_shards = 8", "write at least eventlog.autoscale.least_shards, which is 9"),
            ("target = 0", "eventlog.autoscale.target = 0"),
            ("interval = \"1s\"", "write at least 30s"),
            ("settle = \"40s\"", "write at least eventlog.autoscale.interval"),
            ("peaks = \"mon\"", "list at most 50 peaks"),
            ("peaks = [\"mon 8\"]", "write days, times of one day in UTC"),
            ("peaks = [\"mon 06:30-10:00 17\"]", "a peak has at most eventlog.autoscale.most_shards, 16"),
            ("modes = \"on\"", "did you mean eventlog.autoscale.mode?"),
        ] {
            let error = with(section).unwrap_err();
            assert!(error.contains(part), "{section}: {error}");
        }
    }
}
