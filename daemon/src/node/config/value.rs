//! Parses times and sizes.

use std::time::Duration;

/// Parses a time: `250ms`, `5s`, `10m`, `2h` or `7d`.
///
/// # Errors
/// The text is not a time, or is too large. The error names the form to write instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let wrong = || "write a whole number and a unit: 250ms, 5s, 10m, 2h or 7d".to_owned();
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(wrong)
}

/// Parses a size: `131072`, `128KiB`, `64MiB` or `2GiB`. The result is in bytes.
///
/// # Errors
/// The text is not a size, or is too large. The error names the form to write instead.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let wrong = || "write a whole number of bytes, or with a unit: 128KiB, 64MiB or 2GiB".to_owned();
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(size("128KiB"), Ok(131_072));
        assert_eq!(size("17"), Ok(17));
        for text in ["", "5", "s", "-1s", "1.5s", "99999999999999999d"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
        for text in ["", "KiB", "1KB", "-1", "99999999999GiB"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }
}
