//! Looks up one ref in `packed-refs` by binary search. The file can be 60 MB long, so it is not read whole.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

/// The search reads line by line once the remaining range is at most this long, in bytes.
const WINDOW: u64 = 4096;

/// The value of `name` in the file, or `None` if the file does not exist or does not hold the name. A file whose header
/// does not say `sorted` is scanned from its beginning.
///
/// # Errors
/// The file cannot be read, or is malformed.
pub(super) fn lookup(file: &Path, name: &[u8]) -> io::Result<Option<String>> {
    let file = match File::open(file) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut end = file.metadata()?.len();
    let mut reader = BufReader::new(file);
    let mut header = Vec::new();
    reader.read_until(b'\n', &mut header)?;
    let sorted = header.starts_with(b"#") && header.split(u8::is_ascii_whitespace).any(|word| word == b"sorted");
    let mut begin = if header.starts_with(b"#") { header.len() as u64 } else { 0 };
    while sorted && end - begin > WINDOW {
        // Invariant: `begin` and `end` are at the beginning of a line, and the name can only be between them.
        let middle = begin + (end - begin) / 2;
        match record_after(&mut reader, middle, end)? {
            None => break,
            Some((at, record)) => match name_of(&record)?.cmp(name) {
                Ordering::Greater => end = at,
                Ordering::Less | Ordering::Equal if at == begin => break,
                Ordering::Less | Ordering::Equal => begin = at,
            },
        }
    }
    scan(&mut reader, begin, end, name)
}

/// The first record that begins after `from` and before `end`, with its position. Peeled lines (`^`) are skipped.
fn record_after(reader: &mut BufReader<File>, from: u64, end: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
    reader.seek(SeekFrom::Start(from))?;
    let mut line = Vec::new();
    let mut at = from + reader.read_until(b'\n', &mut line)? as u64;
    while at < end {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)? as u64;
        if length == 0 {
            return Ok(None);
        }
        if !line.starts_with(b"^") {
            return Ok(Some((at, line)));
        }
        at += length;
    }
    Ok(None)
}

fn scan(reader: &mut BufReader<File>, begin: u64, end: u64, name: &[u8]) -> io::Result<Option<String>> {
    reader.seek(SeekFrom::Start(begin))?;
    let (mut at, mut line) = (begin, Vec::new());
    while at < end {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)? as u64;
        if length == 0 {
            break;
        }
        if !line.starts_with(b"^") && !line.starts_with(b"#") && name_of(&line)? == name {
            return Ok(line.split(|byte| *byte == b' ').next().map(|oid| String::from_utf8_lossy(oid).into_owned()));
        }
        at += length;
    }
    Ok(None)
}

fn name_of(record: &[u8]) -> io::Result<&[u8]> {
    let malformed = || {
        let shown = String::from_utf8_lossy(record);
        io::Error::new(io::ErrorKind::InvalidData, format!("packed-refs has the line {shown:?}"))
    };
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    let space = record.iter().position(|byte| *byte == b' ').ok_or_else(malformed)?;
    Ok(&record[space + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("packed-refs");
        assert_eq!(lookup(&file, b"refs/heads/a").expect("absent"), None);
        for header in ["# pack-refs with: peeled fully-peeled sorted \n", "# pack-refs with: peeled \n", ""] {
            let mut text = header.to_owned();
            for n in 0..2000 {
                text.push_str(&format!("{n:040x} refs/tags/v{n:05}\n"));
                if n % 3 == 0 {
                    text.push_str(&format!("^{n:040x}\n"));
                }
            }
            std::fs::write(&file, text).expect("written");
            for n in (0..2000).step_by(7).chain([0, 1, 1998, 1999]) {
                let found = lookup(&file, format!("refs/tags/v{n:05}").as_bytes()).expect("readable");
                assert_eq!(found, Some(format!("{n:040x}")), "{header:?}");
            }
            for name in ["refs/heads/a", "refs/tags/v00001x", "refs/zzz/a"] {
                assert_eq!(lookup(&file, name.as_bytes()).expect("readable"), None, "{header:?}");
            }
        }
    }
    #[test]
    fn a_name_that_is_not_utf_8_is_a_name_like_any_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("packed-refs");
        let mut text = b"# pack-refs with: peeled fully-peeled sorted \n".to_vec();
        for n in 0..300 {
            text.extend(format!("{n:040x} refs/heads/{n:05}\n").bytes());
        }
        text.extend(format!("{:040x} ", 7).bytes().chain(*b"refs/heads/caf\xe9\n"));
        text.extend(format!("{:040x} refs/heads/z\n", 8).bytes());
        std::fs::write(&file, text).expect("written");
        let found = |name: &[u8]| lookup(&file, name).expect("readable");
        assert_eq!(found(b"refs/heads/caf\xe9"), Some(format!("{:040x}", 7)));
        assert_eq!(found(b"refs/heads/z"), Some(format!("{:040x}", 8)));
        assert_eq!(found("refs/heads/caf\u{fffd}".as_bytes()), None);
    }
}
