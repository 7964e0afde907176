//! A bare repository that changes while it is copied.
//!
//! | git does | so the copy takes |
//! |---|---|
//! | writes objects, then the ref that needs them | refs first, then objects |
//! | packs refs: writes `packed-refs`, then removes the loose ones | loose refs first, then `packed-refs` |
//! | repacks: writes a pack, then removes loose objects and old packs | loose objects, then packs, until all stay |
//! | makes a pack visible by its index | the index last |
//!
//! Caches that name packs (multi-pack indexes, commit graphs) are left out: git works without them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use git2::Config;

use super::{Copied, CopyError, Stop, Way, file};

/// How often objects are looked at again before a repository counts as restless.
const ROUNDS: usize = 20;
/// The beginnings of the settings that a copy keeps: how the repository is stored. Everything else may call out.
const KEPT: [&str; 2] = ["extensions.", "core.repositoryformatversion"];

/// A copy that is being made.
struct Copy<'a> {
    from: &'a Path,
    to: &'a Path,
    way: Way,
    stop: &'a Stop,
    copied: Copied,
}

/// Copies the bare repository at `from` to `to`, where nothing is. `moved` maps a path of the original volume to the
/// place of its copy, for repositories that borrow objects.
///
/// Returns `None` if there is no repository any more.
///
/// # Errors
/// See [`CopyError`]. A part of the copy may be there.
pub fn copy_repository(
    from: &Path,
    to: &Path,
    way: Way,
    moved: &dyn Fn(&Path) -> PathBuf,
    stop: &Stop,
) -> Result<Option<Copied>, CopyError> {
    if !from.join("objects").is_dir() {
        return Ok(None);
    }
    let mut copy = Copy { from, to, way, stop, copied: Copied::default() };
    folder(to)?;
    folder(&to.join("refs"))?;
    copy.loose_refs(Path::new("refs"))?;
    copy.one(Path::new("packed-refs"))?;
    copy.one(Path::new("HEAD"))?;
    folder(&to.join("objects/info"))?;
    folder(&to.join("objects/pack"))?;
    copy.objects()?;
    copy.borrowed(moved)?;
    copy.settings()?;
    // A repository that was deleted meanwhile has lost its HEAD, or never showed one.
    let is_whole = from.join("HEAD").exists() && to.join("HEAD").exists();
    Ok(is_whole.then_some(copy.copied))
}

fn folder(path: &Path) -> Result<(), CopyError> {
    fs::create_dir_all(path).map_err(|error| CopyError::io(path, error))
}

/// The names in a folder. Empty if it is gone.
fn names(path: &Path) -> Result<Vec<OsString>, CopyError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(CopyError::io(path, error)),
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    names.collect::<Result<_, _>>().map_err(|error| CopyError::io(path, error))
}

fn is_hex(name: &OsString) -> bool {
    name.to_str().is_some_and(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl Copy<'_> {
    /// Copies one file, if it is there. Returns whether it was.
    fn one(&mut self, path: &Path) -> Result<bool, CopyError> {
        let bytes = file::copy(self.way, &self.from.join(path), &self.to.join(path), self.stop)?;
        self.copied.count(bytes);
        Ok(bytes.is_some())
    }

    fn loose_refs(&mut self, path: &Path) -> Result<(), CopyError> {
        for name in names(&self.from.join(path))? {
            let path = path.join(&name);
            if self.from.join(&path).is_dir() {
                folder(&self.to.join(&path))?;
                self.loose_refs(&path)?;
            } else if path.extension().is_none_or(|end| end != "lock") {
                self.one(&path)?;
            }
        }
        Ok(())
    }

    /// Loose objects and packs, again until no pack has come or gone between two looks. One look is not enough: the
    /// last pack may have been taken apart just before it.
    fn objects(&mut self) -> Result<(), CopyError> {
        let (mut before, mut done) = (None, BTreeSet::new());
        for _ in 0..ROUNDS {
            self.loose_objects()?;
            let packs = self.pack_stems()?;
            self.packs(&packs, &mut done)?;
            if before.as_ref() == Some(&packs) && packs.is_subset(&done) {
                return Ok(());
            }
            before = Some(packs);
        }
        Err(CopyError::Restless { path: self.from.to_owned(), rounds: ROUNDS })
    }

    fn loose_objects(&mut self) -> Result<(), CopyError> {
        let all = Path::new("objects");
        let fans = names(&self.from.join(all))?.into_iter().filter(|name| name.len() == 2 && is_hex(name));
        for fan in fans.collect::<Vec<_>>() {
            let fan = all.join(fan);
            let present: BTreeSet<OsString> = names(&self.to.join(&fan))?.into_iter().collect();
            folder(&self.to.join(&fan))?;
            for name in names(&self.from.join(&fan))? {
                // Other names are of objects that are being written.
                if is_hex(&name) && !present.contains(&name) {
                    self.one(&fan.join(name))?;
                }
            }
        }
        Ok(())
    }

    /// Copies the packs that are not done yet.
    fn packs(&mut self, packs: &BTreeSet<String>, done: &mut BTreeSet<String>) -> Result<(), CopyError> {
        for stem in packs {
            if !done.contains(stem) && self.pack(stem)? {
                done.insert(stem.clone());
            }
        }
        Ok(())
    }

    /// The packs that git sees: those that have an index, and are there. git's maintenance names some of them otherwise
    /// than `pack-*`.
    fn pack_stems(&self) -> Result<BTreeSet<String>, CopyError> {
        let names = names(&self.from.join("objects/pack"))?;
        let stems = |end: &str| -> BTreeSet<String> {
            names.iter().filter_map(|name| Some(name.to_str()?.strip_suffix(end)?.to_owned())).collect()
        };
        Ok(&stems(".idx") & &stems(".pack"))
    }

    /// Copies one pack, its index last. Returns false if it is gone.
    fn pack(&mut self, stem: &str) -> Result<bool, CopyError> {
        let part = |end: &str| PathBuf::from(format!("objects/pack/{stem}.{end}"));
        let has_pack = self.one(&part("pack"))?;
        if has_pack {
            for end in ["rev", "bitmap", "keep", "promisor", "mtimes"] {
                self.one(&part(end))?;
            }
            if self.one(&part("idx"))? {
                return Ok(true);
            }
        }
        for end in ["pack", "rev", "bitmap", "keep", "promisor", "mtimes", "idx"] {
            let _ = fs::remove_file(self.to.join(part(end)));
        }
        Ok(false)
    }

    /// Leads a repository that borrows objects to the copy of the lender.
    fn borrowed(&mut self, moved: &dyn Fn(&Path) -> PathBuf) -> Result<(), CopyError> {
        let path = self.from.join("objects/info/alternates");
        let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
        let lead = |line: &str| match Path::new(line).is_absolute() {
            true => moved(Path::new(line)).display().to_string(),
            false => line.to_owned(),
        };
        let text: String = text.lines().map(|line| lead(line) + "\n").collect();
        let to = self.to.join("objects/info/alternates");
        fs::write(&to, text).map_err(|error| CopyError::io(&to, error))
    }

    /// Writes the configuration anew, with the settings of the format alone.
    fn settings(&mut self) -> Result<(), CopyError> {
        let (from, to) = (self.from.join("config"), self.to.join("config"));
        let broken = |error: git2::Error| CopyError::io(&from, std::io::Error::other(error.message().to_owned()));
        let mut kept = Vec::new();
        if from.exists() {
            let found = Config::open(&from).map_err(broken)?;
            let each = found.entries(None).and_then(|all| {
                all.for_each(|entry| {
                    if let (true, Ok(name)) = (entry.has_value(), entry.name())
                        && let Ok(value) = entry.value()
                        && KEPT.iter().any(|one| name.starts_with(one))
                    {
                        kept.push((name.to_owned(), value.to_owned()));
                    }
                })
            });
            each.map_err(broken)?;
        }
        fs::write(&to, "[core]\n\tbare = true\n").map_err(|error| CopyError::io(&to, error))?;
        let mut config = Config::open(&to).map_err(broken)?;
        kept.iter().try_for_each(|(name, value)| config.set_str(name, value)).map_err(broken)
    }
}

#[cfg(test)]
mod tests;
