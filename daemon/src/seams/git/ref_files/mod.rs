//! Reads refs from disk (git's files backend) without a cache.
//!
//! Loose files are read before `packed-refs`. A program that packs refs writes the packed file first and removes the
//! loose file afterwards, so at any moment a ref is found in one of the two. `packed-refs` is sorted by name, and a
//! single ref is found in it by bisection: about 14 small reads among a million refs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Result};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::Path;

use lockstep_proto::Oid;

const BLOCK: u64 = 4096;
/// How many symbolic refs git follows, one after the other.
const DEPTH: u32 = 5;

/// The content of a ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// The ref has a value of its own.
    Direct(Oid),
    /// The ref is an alias of the ref with this name.
    Symbolic(Vec<u8>),
}

/// Reads a ref; `None` when it does not exist. The value of a symbolic ref is that of its target, as git shows it. A
/// garbled ref is an error.
pub(super) fn read(git_dir: &Path, name: &str) -> Result<Option<Oid>> {
    let mut name = name.as_bytes().to_vec();
    for _ in 0..=DEPTH {
        match look(git_dir, &name)? {
            Some(Shown::Direct(oid)) => return Ok(Some(oid)),
            Some(Shown::Symbolic(target)) => name = target,
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// The target of a symbolic ref, which is always loose; `None` if the ref is direct or absent.
pub(super) fn symbolic(git_dir: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    match look_at_file(&git_dir.join(name), name.as_bytes())? {
        Some(Shown::Symbolic(target)) => Ok(Some(target)),
        Some(Shown::Direct(_)) | None => Ok(None),
    }
}

fn look(git_dir: &Path, name: &[u8]) -> Result<Option<Shown>> {
    match look_at_file(&git_dir.join(OsStr::from_bytes(name)), name) {
        Ok(None) => Ok(read_packed(git_dir, name)?.map(Shown::Direct)),
        found => found,
    }
}

/// Reads the file of a loose ref; `None` when there is none. A file that links to another ref is an alias, too.
fn look_at_file(file: &Path, name: &[u8]) -> Result<Option<Shown>> {
    if let Ok(target) = std::fs::read_link(file) {
        let target = target.into_os_string().into_vec();
        if target.starts_with(b"refs/") {
            return Ok(Some(Shown::Symbolic(target)));
        }
    }
    let content = match std::fs::read(file) {
        Ok(content) => content,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    match content.strip_prefix(b"ref:") {
        Some(target) => Ok(Some(Shown::Symbolic(target.trim_ascii().to_vec()))),
        None => parse_loose(&String::from_utf8_lossy(name), &content).map(|oid| Some(Shown::Direct(oid))),
    }
}

/// Lists every direct ref whose name is UTF-8 and begins with `prefix`, which is the name of a folder and ends with
/// '/'.
pub(super) fn list(git_dir: &Path, prefix: &str) -> Result<BTreeMap<String, Oid>> {
    let direct = |(name, shown): (Vec<u8>, Shown)| match shown {
        Shown::Direct(oid) => Some((String::from_utf8(name).ok()?, oid)),
        Shown::Symbolic(_) => None,
    };
    Ok(list_all(git_dir, prefix)?.into_iter().filter_map(direct).collect())
}

/// Lists every ref whose name begins with `prefix`, which is the name of a folder and ends with '/'.
pub(super) fn list_all(git_dir: &Path, prefix: &str) -> Result<BTreeMap<Vec<u8>, Shown>> {
    let mut loose = list_loose(git_dir, prefix)?;
    let packed = list_packed(git_dir, prefix.as_bytes())?;
    let mut refs: BTreeMap<_, _> = packed.into_iter().map(|(name, oid)| (name, Shown::Direct(oid))).collect();
    refs.append(&mut loose);
    Ok(refs)
}

/// The names of all loose refs that are UTF-8.
pub(super) fn loose(git_dir: &Path) -> Result<Vec<String>> {
    Ok(list_loose(git_dir, "refs/")?.into_keys().filter_map(|name| String::from_utf8(name).ok()).collect())
}

fn list_loose(git_dir: &Path, prefix: &str) -> Result<BTreeMap<Vec<u8>, Shown>> {
    let mut loose = BTreeMap::new();
    let mut folders = vec![prefix.trim_end_matches('/').as_bytes().to_vec()];
    while let Some(folder) = folders.pop() {
        list_folder(git_dir, &folder, &mut folders, &mut loose)?;
    }
    Ok(loose)
}

fn list_folder(
    git_dir: &Path,
    folder: &[u8],
    folders: &mut Vec<Vec<u8>>,
    loose: &mut BTreeMap<Vec<u8>, Shown>,
) -> Result<()> {
    let entries = match std::fs::read_dir(git_dir.join(OsStr::from_bytes(folder))) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let file = entry.file_name();
        let name = [folder, b"/", file.as_bytes()].concat();
        if entry.file_type()?.is_dir() {
            folders.push(name);
        } else if !file.as_bytes().ends_with(b".lock")
            && let Some(shown) = look_at_file(&entry.path(), &name)?
        {
            loose.insert(name, shown);
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

/// An entry of `packed-refs`: its offset, its name and value, and the offset of the next line.
type Entry = (u64, Vec<u8>, Oid, u64);

/// A line of `packed-refs`, and the offset of the next one.
struct Line {
    text: Vec<u8>,
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
        packed.sorted = header.starts_with(b"# pack-refs with:")
            && header.split(|byte| *byte == b' ').any(|word| word == b"sorted");
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
        Ok(Some(Line { text: bytes, next }))
    }

    /// Returns the start of the first line at or after `at`.
    fn line_start(&self, at: u64) -> Result<u64> {
        if at == 0 {
            return Ok(0);
        }
        Ok(self.line(at - 1)?.map_or(self.length, |line| line.next.min(self.length)))
    }

    /// Returns the offset of the first entry whose name is not less than `name`; 0 if the file is not sorted.
    fn lower_bound(&self, name: &[u8]) -> Result<u64> {
        let (mut low, mut high) = (0, if self.sorted { self.length } else { 0 });
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry_from(self.line_start(middle)?)? {
                Some((start, found, _, next)) if found.as_slice() < name => low = next.max(start + 1),
                _ => high = middle,
            }
        }
        self.line_start(low)
    }

    /// Returns the first entry at or after the line that begins at `at`: its offset, name and value, and the offset of
    /// the next line.
    fn entry_from(&self, mut at: u64) -> Result<Option<Entry>> {
        while let Some(line) = self.line(at)? {
            if is_entry(&line.text) {
                let (oid, name) = parse_packed(&line.text)?;
                return Ok(Some((at, name, oid, line.next)));
            }
            at = line.next;
        }
        Ok(None)
    }
}

fn is_entry(line: &[u8]) -> bool {
    !matches!(line.first(), None | Some(b'#' | b'^'))
}

fn parse_packed(line: &[u8]) -> Result<(Oid, Vec<u8>)> {
    let garbled =
        || std::io::Error::other(format!("packed-refs has a garbled line: {:?}", String::from_utf8_lossy(line)));
    let space = line.iter().position(|byte| *byte == b' ').ok_or_else(garbled)?;
    let oid = std::str::from_utf8(&line[..space]).ok().and_then(|oid| oid.parse().ok()).ok_or_else(garbled)?;
    Ok((oid, line[space + 1..].to_vec()))
}

fn read_packed(git_dir: &Path, name: &[u8]) -> Result<Option<Oid>> {
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

fn list_packed(git_dir: &Path, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, Oid>> {
    let mut refs = BTreeMap::new();
    let Some(packed) = Packed::open(git_dir)? else { return Ok(refs) };
    let start = packed.lower_bound(prefix)?;
    let mut reader = std::io::BufReader::with_capacity(1 << 16, &packed.file);
    std::io::Seek::seek(&mut reader, std::io::SeekFrom::Start(start))?;
    for line in std::io::BufRead::split(reader, b'\n') {
        let line = line?;
        if !is_entry(&line) {
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
