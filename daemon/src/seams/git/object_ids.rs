//! Lists the ids of all objects of a repository in their order, slice by slice, without holding all of them: from the
//! folders of loose objects, and from the sorted names in the indexes of packs.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::path::Path;

use git2::Oid;

use super::files::{children, indexes, is_fan_out};

/// The first bytes of an index of version 2.
const MAGIC: [u8; 4] = *b"\xfftOc";
/// The bytes of the table that counts the names by their first byte.
const COUNTS: usize = 1024;

/// Returns the first `most` ids behind `after`, sorted. Fewer than `most` means that there are no more.
pub(super) fn ids_after(git_dir: &Path, after: Option<Oid>, most: usize) -> Result<Vec<Oid>> {
    let objects = git_dir.join("objects");
    let mut ids = loose(&objects, after, most)?;
    for path in indexes(&objects)? {
        if let Some(index) = Index::open(&path)? {
            ids.extend(index.after(after, most)?);
        }
    }
    Ok(ids.into_iter().take(most).collect())
}

/// Returns at least the first `most` loose ids behind `after`, if there are that many.
fn loose(objects: &Path, after: Option<Oid>, most: usize) -> Result<BTreeSet<Oid>> {
    let mut ids = BTreeSet::new();
    for folder in children(objects)?.into_iter().filter(|path| is_fan_out(path)) {
        let first = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if after.is_some_and(|after| after.to_string()[..2] > first[..]) {
            continue;
        }
        for path in children(&folder)? {
            let rest = path.file_name().unwrap_or_default().to_string_lossy();
            let id = (rest.len() == 38).then(|| Oid::from_str(&format!("{first}{rest}")).ok()).flatten();
            ids.extend(id.filter(|id| !id.is_zero() && after.is_none_or(|after| *id > after)));
        }
        if ids.len() >= most {
            break;
        }
    }
    Ok(ids)
}

/// The sorted names of a pack's objects, in its index on the disk.
pub(super) struct Index {
    file: File,
    /// The position of the first entry.
    entries: u64,
    /// The bytes of an entry, and where its name begins in it.
    entry: (u64, usize),
    counts: [u8; COUNTS],
}

impl Index {
    /// Opens an index. `None` if it is gone, or is none that git reads: its objects are absent then.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        match Self::try_open(path) {
            Ok(index) => Ok(Some(index)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn try_open(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let mut magic = [0; 4];
        file.read_exact_at(&mut magic, 0)?;
        // An entry of version 1 has the object's position before its name.
        let (head, entry) = if magic == MAGIC { (8, (20, 0)) } else { (0, (24, 4)) };
        let mut counts = [0; COUNTS];
        file.read_exact_at(&mut counts, head)?;
        let index = Self { file, entries: head + COUNTS as u64, entry, counts };
        let end = index.entries + index.count(255) * index.entry.0;
        if end > index.file.metadata()?.len() {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
        Ok(index)
    }

    /// The number of names whose first byte is at most this one.
    fn count(&self, first: u8) -> u64 {
        let at = usize::from(first) * 4;
        self.counts[at..at + 4].iter().fold(0, |count, byte| (count << 8) | u64::from(*byte))
    }

    fn names(&self, from: u64, count: u64) -> Result<Vec<Oid>> {
        let (size, name) = self.entry;
        let mut raw = vec![0; usize::try_from(count * size).map_err(Error::other)?];
        self.file.read_exact_at(&mut raw, self.entries + from * size)?;
        let entries = raw.chunks_exact(usize::try_from(size).map_err(Error::other)?);
        Ok(entries.filter_map(|entry| Oid::from_bytes(&entry[name..name + 20]).ok()).collect())
    }

    /// The number of names that `is_before` holds for. They are the first ones.
    fn count_before(&self, first: u8, is_before: impl Fn(Oid) -> bool) -> Result<u64> {
        let mut low = if first == 0 { 0 } else { self.count(first - 1) };
        let mut high = self.count(first).min(self.count(255));
        while low < high {
            let middle = low + (high - low) / 2;
            match self.names(middle, 1)?.first() {
                Some(name) if is_before(*name) => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// The first `most` ids behind `after`.
    fn after(&self, after: Option<Oid>, most: usize) -> Result<Vec<Oid>> {
        let from = match after {
            Some(after) => self.count_before(after.as_bytes()[0], |name| name <= after)?,
            None => 0,
        };
        let mut names = self.names(from, self.count(255).saturating_sub(from).min(most as u64))?;
        names.retain(|name| !name.is_zero());
        Ok(names)
    }

    /// Whether the pack has an object.
    pub(super) fn has(&self, id: Oid) -> Result<bool> {
        let at = self.count_before(id.as_bytes()[0], |name| name < id)?;
        Ok(at < self.count(255) && self.names(at, 1)?.contains(&id))
    }
}
