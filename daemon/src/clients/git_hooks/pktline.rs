//! git's pkt-line framing: four hexadecimal digits with the length of the packet, themselves included, then the bytes.
//! `0000` is a flush and ends a section.

use std::io::{self, Read, Write};

/// Length of the longest line that fits into one packet, in bytes, its newline included.
const LONGEST: usize = 65_516;

/// Reads lines up to the next flush, and removes the newline at the end of each.
///
/// # Errors
/// The stream ends early, a length is malformed, or there are more than `most` lines.
pub(super) fn read_section(from: &mut impl Read, most: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    while let Some(line) = read_line(from)? {
        if lines.len() == most {
            return Err(bad(format!("more than {most} lines in one section")));
        }
        lines.push(line);
    }
    Ok(lines)
}

/// Writes one line, with a newline, as one packet.
///
/// # Errors
/// The line is too long, or the stream fails.
pub(super) fn write_line(to: &mut impl Write, line: &[u8]) -> io::Result<()> {
    if line.len() + 1 > LONGEST {
        return Err(bad(format!("a line of {} bytes does not fit a packet", line.len())));
    }
    write!(to, "{:04x}", line.len() + 5)?;
    to.write_all(line)?;
    to.write_all(b"\n")
}

/// Writes the flush packet that ends a section, and flushes the stream.
///
/// # Errors
/// The stream fails.
pub(super) fn flush(to: &mut impl Write) -> io::Result<()> {
    to.write_all(b"0000")?;
    to.flush()
}

fn read_line(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0u8; 4];
    from.read_exact(&mut head)?;
    let head = std::str::from_utf8(&head).map_err(|_| bad("a packet length is not text".to_owned()))?;
    let length = usize::from_str_radix(head, 16).map_err(|_| bad(format!("{head:?} is not a packet length")))?;
    if length == 0 {
        return Ok(None);
    }
    let length = length.checked_sub(4).filter(|length| *length <= LONGEST);
    let mut line = vec![0; length.ok_or_else(|| bad(format!("{head:?} is not the length of a data packet")))?];
    from.read_exact(&mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(Some(line))
}

fn bad(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_section_is_read_back() {
        let mut wire = Vec::new();
        write_line(&mut wire, b"ok refs/heads/a\xff").expect("a vector takes it");
        flush(&mut wire).expect("a vector takes it");
        assert_eq!(wire, b"0015ok refs/heads/a\xff\n0000");
        assert_eq!(read_section(&mut wire.as_slice(), 1).expect("it is whole"), [b"ok refs/heads/a\xff"]);
    }

    #[test]
    fn malformed_input_is_an_error() {
        for wire in [&b"zzzz"[..], b"0001", b"0003", b"ffff", b"0009ab", b""] {
            assert!(read_section(&mut &*wire, 9).is_err(), "{wire:?}");
        }
        assert!(read_section(&mut &b"0005a0005b0000"[..], 1).is_err(), "a section with too many lines must be refused");
    }
}
