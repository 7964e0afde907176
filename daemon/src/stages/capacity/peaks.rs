//! Known peaks: times of the week at which the stream has a number of shards, whatever the load is.

use std::str::FromStr;

/// The days of the week in the order of their numbers.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MINUTE_MS: u64 = 60_000;
const DAY_MINUTES: u64 = 24 * 60;
/// 1970-01-01 was a Thursday.
const FIRST_DAY: u64 = 3;

/// A time of the week in UTC, and the fewest shards in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    /// The first and the last day, from 0 (Monday).
    days: (u64, u64),
    /// From the first minute of the day up to the second one, which does not belong to it.
    minutes: (u64, u64),
    /// The fewest shards in that time.
    pub shards: u32,
}

/// The text is no peak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write days, times of one day in UTC and the fewest shards: \"mon-fri 06:30-10:00 8\", or \"sun 00:00-24:00 4\""
)]
pub struct NoPeak;

impl FromStr for Peak {
    type Err = NoPeak;

    fn from_str(text: &str) -> Result<Self, NoPeak> {
        let mut words = text.split_whitespace();
        let (Some(days), Some(times), Some(shards), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(NoPeak);
        };
        let (first, last) = days.split_once('-').unwrap_or((days, days));
        let (from, to) = times.split_once('-').ok_or(NoPeak)?;
        let peak = Self {
            days: (day(first)?, day(last)?),
            minutes: (minute(from)?, minute(to)?),
            shards: shards.parse().map_err(|_| NoPeak)?,
        };
        let fits = peak.days.0 <= peak.days.1 && peak.minutes.0 < peak.minutes.1 && peak.shards > 0;
        if fits { Ok(peak) } else { Err(NoPeak) }
    }
}

fn day(text: &str) -> Result<u64, NoPeak> {
    (0..).zip(DAYS).find(|(_, name)| text.eq_ignore_ascii_case(name)).map(|(day, _)| day).ok_or(NoPeak)
}

fn minute(text: &str) -> Result<u64, NoPeak> {
    let (hours, minutes) = text.split_once(':').ok_or(NoPeak)?;
    let number = |text: &str| -> Result<u64, NoPeak> {
        let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_plain { text.parse().map_err(|_| NoPeak) } else { Err(NoPeak) }
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let at = hours * 60 + minutes;
    if minutes < 60 && at <= DAY_MINUTES { Ok(at) } else { Err(NoPeak) }
}

/// The fewest shards at a time, in milliseconds since 1970. 0 outside of all peaks.
#[must_use]
pub fn floor(peaks: &[Peak], now_ms: u64) -> u32 {
    let minutes = now_ms / MINUTE_MS;
    let (day, minute) = ((minutes / DAY_MINUTES + FIRST_DAY) % 7, minutes % DAY_MINUTES);
    let holds =
        |peak: &&Peak| (peak.days.0..=peak.days.1).contains(&day) && (peak.minutes.0..peak.minutes.1).contains(&minute);
    peaks.iter().filter(holds).map(|peak| peak.shards).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_holds_in_its_minutes_of_its_days() {
        let peaks = ["mon-fri 06:30-10:00 8", "tue 09:00-24:00 12"].map(|text| text.parse::<Peak>().unwrap());
        // 2026-11-30 was a Monday.
        let monday = 1_795_996_800_000;
        let at = |days: u64, hours: u64, minutes: u64| {
            floor(&peaks, monday + ((days * 24 + hours) * 60 + minutes) * MINUTE_MS)
        };
        assert_eq!([at(0, 6, 29), at(0, 6, 30), at(0, 9, 59), at(0, 10, 0)], [0, 8, 8, 0]);
        assert_eq!([at(1, 9, 0), at(1, 23, 59), at(2, 0, 0)], [12, 12, 0], "the larger one counts");
        assert_eq!([at(4, 7, 0), at(5, 7, 0), at(6, 7, 0), at(7, 7, 0)], [8, 0, 0, 8]);
    }

    #[test]
    fn a_text_that_is_no_peak_is_refused() {
        let wrong = [
            "",
            "mon",
            "mon 06:30-10:00",
            "mon 06:30-10:00 0",
            "mon 6:30-10:00 8",
            "mon 10:00-06:00 8",
            "fri-mon 06:30-10:00 8",
            "mon 06:60-10:00 8",
            "mon 06:30-24:01 8",
            "mon 06:30-10:00 8 9",
            "mo 06:30-10:00 8",
        ];
        for text in wrong {
            assert_eq!(text.parse::<Peak>(), Err(NoPeak), "{text}");
        }
    }
}
