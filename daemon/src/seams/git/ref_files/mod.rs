//! Reads refs from disk (git's files backend) without a cache.
//!
//! Loose files are read before `packed-refs`. A program that packs refs writes the packed file first and removes the
//! loose file afterwards, so at any moment a ref is found in one of the two. `packed-refs` is sorted by name, and a
//! single ref is found in it by bisection: about 14 small reads among a million refs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::path::Path;

use lockstep_proto::Oid;

const BLOCK: u64 = 4096;

/// Reads a ref; `None` when it does not exist. A garbled or symbolic ref is an error.
pub(super) fn read(git_dir: &Path, name: &str) -> Result<Option<Oid>> {
    match std::fs::read(git_dir.join(name)) {
        Ok(content) => parse_loose(name, &content).map(Some),
        Err(error) if is_absent(&error) => read_packed(git_dir, name),
        Err(error) => Err(error),
    }
}

/// Lists every direct ref whose name begins with `prefix`, which is the name of a folder and ends with '/'.
pub(super) fn list(git_dir: &Path, prefix: &str) -> Result<BTreeMap<String, Oid>> {
    let mut loose = BTreeMap::new();
    let mut folders = vec![prefix.trim_end_matches('/').to_owned()];
    while let Some(folder) = folders.pop() {
        list_folder(git_dir, &folder, &mut folders, &mut loose)?;
    }
    let mut refs = list_packed(git_dir, prefix)?;
    refs.append(&mut loose);
    Ok(refs)
}

fn list_folder(
    git_dir: &Path,
    folder: &str,
    folders: &mut Vec<String>,
    loose: &mut BTreeMap<String, Oid>,
) -> Result<()> {
    let entries = match std::fs::read_dir(git_dir.join(folder)) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(file) = entry.file_name().into_string() else { continue };
        let name = format!("{folder}/{file}");
        if entry.file_type()?.is_dir() {
            folders.push(name);
        } else if !file.ends_with(".lock") {
            match std::fs::read(entry.path()) {
                Ok(content) if content.starts_with(b"ref:") => {}
                Ok(content) => _ = loose.insert(name.clone(), parse_loose(&name, &content)?),
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory)
}

/// Parses the object id in the file of a loose ref.
pub(super) fn parse_loose(name: &str, content: &[u8]) -> Result<Oid> {
    let digits = content.strip_suffix(b"\n").unwrap_or(content);
    let oid = std::str::from_utf8(digits).ok().filter(|text| text.len() == 40).and_then(|text| text.parse().ok());
    oid.ok_or_else(|| {
        let shown = String::from_utf8_lossy(&content[..content.len().min(60)]).into_owned();
        std::io::Error::other(format!("the file of {name} is garbled: {shown:?} ({} bytes)", content.len()))
    })
}

/// An open `packed-refs` file: its length, and whether its lines are sorted.
struct Packed {
    file: File,
    length: u64,
    sorted: bool,
}

/// A line of `packed-refs`, and the offset of the next one.
struct Line {
    text: String,
    next: u64,
}

impl Packed {
    fn open(git_dir: &Path) -> Result<Option<Self>> {
        let file = match File::open(git_dir.join("packed-refs")) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        let mut packed = Self { file, length, sorted: false };
        let header = packed.line(0)?.map(|line| line.text).unwrap_or_default();
        packed.sorted = header.starts_with("# pack-refs with:") && header.split(' ').any(|word| word == "sorted");
        Ok(Some(packed))
    }

    /// Reads the line that begins at `at`; `None` at the end of the file.
    fn line(&self, at: u64) -> Result<Option<Line>> {
        let mut bytes = Vec::new();
        let mut block = [0; BLOCK as usize];
        while at + (bytes.len() as u64) < self.length {
            let count = self.file.read_at(&mut block, at + bytes.len() as u64)?;
            let end = block[..count].iter().position(|byte| *byte == b'\n');
            bytes.extend_from_slice(&block[..end.unwrap_or(count)]);
            if end.is_some() || count == 0 {
                break;
            }
        }
        if at >= self.length {
            return Ok(None);
        }
        let next = at + bytes.len() as u64 + 1;
        Ok(Some(Line { text: String::from_utf8_lossy(&bytes).into_owned(), next }))
    }

    /// Returns the start of the first line at or after `at`.
    fn line_start(&self, at: u64) -> Result<u64> {
        if at == 0 {
            return Ok(0);
        }
        Ok(self.line(at - 1)?.map_or(self.length, |line| line.next.min(self.length)))
    }

    /// Returns the offset of the first entry whose name is not less than `name`; 0 if the file is not sorted.
    fn lower_bound(&self, name: &str) -> Result<u64> {
        let (mut low, mut high) = (0, if self.sorted { self.length } else { 0 });
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry_from(self.line_start(middle)?)? {
                Some((start, found, _, next)) if found.as_str() < name => low = next.max(start + 1),
                _ => high = middle,
            }
        }
        self.line_start(low)
    }

    /// Returns the first entry at or after the line that begins at `at`: its offset, name and value, and the offset of
    /// the next line.
    fn entry_from(&self, mut at: u64) -> Result<Option<(u64, String, Oid, u64)>> {
        while let Some(line) = self.line(at)? {
            if !line.text.is_empty() && !line.text.starts_with(['#', '^']) {
                let (oid, name) = parse_packed(&line.text)?;
                return Ok(Some((at, name, oid, line.next)));
            }
            at = line.next;
        }
        Ok(None)
    }
}

fn parse_packed(line: &str) -> Result<(Oid, String)> {
    let garbled = || std::io::Error::other(format!("packed-refs has a garbled line: {line:?}"));
    let (oid, name) = line.split_once(' ').ok_or_else(garbled)?;
    Ok((oid.parse().map_err(|_| garbled())?, name.to_owned()))
}

fn read_packed(git_dir: &Path, name: &str) -> Result<Option<Oid>> {
    let Some(packed) = Packed::open(git_dir)? else { return Ok(None) };
    let mut at = packed.lower_bound(name)?;
    while let Some((_, found, oid, next)) = packed.entry_from(at)? {
        if found == name {
            return Ok(Some(oid));
        }
        if packed.sorted {
            break;
        }
        at = next;
    }
    Ok(None)
}

fn list_packed(git_dir: &Path, prefix: &str) -> Result<BTreeMap<String, Oid>> {
    let mut refs = BTreeMap::new();
    let Some(packed) = Packed::open(git_dir)? else { return Ok(refs) };
    let start = packed.lower_bound(prefix)?;
    let mut reader = std::io::BufReader::with_capacity(1 << 16, &packed.file);
    std::io::Seek::seek(&mut reader, std::io::SeekFrom::Start(start))?;
    for line in std::io::BufRead::split(reader, b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if line.is_empty() || line.starts_with(['#', '^']) {
            continue;
        }
        let (oid, name) = parse_packed(&line)?;
        if name.starts_with(prefix) {
            refs.insert(name, oid);
        } else if packed.sorted {
            break;
        }
    }
    Ok(refs)
}

#[cfg(test)]
mod tests;
