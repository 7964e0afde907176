//! Reads the refs of a repository that other programs write, for shadow mode. Nothing here writes.
//!
//! A fingerprint tells whether refs may have changed, without reading them. It covers the place, the time and the size
//! of every file of refs. git and JGit write a ref by renaming a new file into its place, so a changed ref is another
//! file.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Result};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use lockstep_proto::{Oid, RefName};
use sha2::{Digest, Sha256};

use super::ref_files;
use crate::base::ref_names::{self, RefClass};

/// The state of the files of refs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// The fingerprint of the refs of a repository. An error if it is not there.
///
/// # Errors
/// The files cannot be looked at.
pub fn fingerprint(git_dir: &Path) -> Result<Fingerprint> {
    let mut hash = Sha256::new();
    file(&mut hash, &git_dir.join("HEAD"), true)?;
    file(&mut hash, &git_dir.join("packed-refs"), false)?;
    folder(&mut hash, &git_dir.join("refs"))?;
    Ok(Fingerprint(hash.finalize().into()))
}

fn folder(hash: &mut Sha256, path: &Path) -> Result<()> {
    let mut entries = match std::fs::read_dir(path) {
        Ok(entries) => entries.collect::<Result<Vec<_>>>()?,
        // Another program has removed the empty folder meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        match kind.is_dir() {
            true => folder(hash, &path)?,
            false if path.extension().is_some_and(|end| end == "lock") => {}
            false => file(hash, &path, false)?,
        }
    }
    Ok(())
}

fn file(hash: &mut Sha256, path: &Path, must_be: bool) -> Result<()> {
    match path.symlink_metadata() {
        Ok(meta) => {
            hash.update(path.as_os_str().as_encoded_bytes());
            for number in [meta.ino(), meta.size(), meta.mtime() as u64, meta.mtime_nsec() as u64] {
                hash.update(number.to_le_bytes());
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound && !must_be => Ok(()),
        Err(error) => Err(error),
    }
}

/// The direct refs that Lockstep would replicate, or refuse for their names, and `HEAD` if it names a branch.
///
/// # Errors
/// The refs cannot be read.
pub fn refs(git_dir: &Path) -> Result<BTreeMap<String, String>> {
    let listed = ref_files::list(git_dir, "refs/")?;
    let counts = |name: &str| match name.parse::<RefName>() {
        Ok(name) => !matches!(ref_names::classify(&name), Ok(RefClass::Local)),
        Err(_) => true,
    };
    let mut refs: BTreeMap<String, String> = listed
        .into_iter()
        .filter(|(name, _)| counts(name) && !name.starts_with("refs/lockstep/"))
        .map(|(name, oid): (String, Oid)| (name, oid.to_string()))
        .collect();
    if let Some(target) = ref_files::symbolic(git_dir, "HEAD")? {
        refs.insert("HEAD".to_owned(), String::from_utf8_lossy(&target).into_owned());
    }
    Ok(refs)
}

/// When the file of a loose ref was written, in nanoseconds since 1970. None if the ref is packed or gone.
#[must_use]
pub fn written_ns(git_dir: &Path, name: &str) -> Option<i128> {
    let meta = git_dir.join(name).symlink_metadata().ok()?;
    Some(i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()))
}
