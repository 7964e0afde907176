//! Times and spans as text, for the command line and the console.

use time::OffsetDateTime;

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
    fn spans_are_short() {
        let spans = [0, 119_999, 120_000, 7_200_000, 200_000_000].map(short);
        assert_eq!(spans, ["0 s", "119 s", "2 min", "2 h", "2 d"]);
    }
}
