//! Times and spans as text, for the command line and the console.

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

/// A time in milliseconds since 1970 as a date and a time of the day, in UTC.
#[must_use]
pub fn utc(at_ms: u64) -> String {
    let seconds = i64::try_from(at_ms / 1_000).unwrap_or(i64::MAX);
    let Ok(at) = OffsetDateTime::from_unix_timestamp(seconds) else { return format!("{seconds} s since 1970") };
    let (date, time) = (at.date(), at.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", time.hour(), time.minute(), time.second())
}

/// A span in milliseconds in seconds, with tenths. A dash if there is none.
#[must_use]
pub fn seconds(span_ms: Option<u64>) -> String {
    span_ms.map_or("-".to_owned(), |span_ms| format!("{:.1} s", span_ms as f64 / 1_000.0))
}

/// A span in milliseconds in its largest fitting unit.
#[must_use]
pub fn short(span_ms: u64) -> String {
    match span_ms / 1_000 {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// A text that is no time in UTC, or one that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a time to come in UTC, as 2026-12-01T20:00:00Z")]
pub struct NotToCome;

/// The seconds from now until a time in UTC, written as `2026-12-01T20:00:00Z`.
///
/// # Errors
/// The text is no such time, or the time has passed.
pub fn seconds_until(text: &str, now_ms: u64) -> Result<u64, NotToCome> {
    let at = parsed(text).ok_or(NotToCome)?;
    let now = i64::try_from(now_ms / 1_000).unwrap_or(i64::MAX);
    u64::try_from(at.unix_timestamp().saturating_sub(now)).ok().filter(|left| *left > 0).ok_or(NotToCome)
}

fn parsed(text: &str) -> Option<OffsetDateTime> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, by: char| -> Option<Vec<u16>> { text.split(by).map(|one| one.parse().ok()).collect() };
    let (date, time) = (numbers(date, '-')?, numbers(time, ':')?);
    let ([year, month, day], [hour, minute, second]) = (date.as_slice(), time.as_slice()) else { return None };
    let small = |number: &u16| u8::try_from(*number).ok();
    let month = Month::try_from(small(month)?).ok()?;
    let date = Date::from_calendar_date(i32::from(*year), month, small(day)?).ok()?;
    let time = Time::from_hms(small(hour)?, small(minute)?, small(second)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(1_795_970_313_999), "2026-11-29 16:38:33 UTC");
        assert!(utc(u64::MAX).ends_with("s since 1970"));
    }

    #[test]
    fn the_time_until_a_date_is_a_span() {
        let now = 1_795_970_313_999;
        assert_eq!(seconds_until("2026-11-29T16:38:43Z", now), Ok(10));
        assert_eq!(seconds_until("2026-11-30T16:38:33Z", now), Ok(86_400));
        for wrong in ["2026-11-29T16:38:33Z", "2026-11-29", "2026-13-01T00:00:00Z", "2026-12-01T25:00:00Z", "soon", "Z"]
        {
            assert!(seconds_until(wrong, now).is_err(), "{wrong}");
        }
    }

    #[test]
    fn spans_are_short() {
        let spans = [0, 119_999, 120_000, 7_200_000, 200_000_000].map(short);
        assert_eq!(spans, ["0 s", "119 s", "2 min", "2 h", "2 d"]);
    }
}
