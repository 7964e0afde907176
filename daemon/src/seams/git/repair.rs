//! Makes the volume durable, and repairs it at start-up.
//!
//! [`sync`] makes the volume durable and leaves a mark in each of its folders. A file that is older than the mark is
//! durable. [`repair`] runs while the sidecar holds the volume's lock, before the sidecar uses the volume in any other
//! way. Child processes inherit the lock, so no git that a sidecar started is alive by then.
//!
//! These locks are stale:
//! - After an unclean boot, all of them: no process that could hold one is alive.
//! - Otherwise, those that our sessions had recorded ([`super::intent`]). A lock of another program that packs refs at
//!   this moment is never touched, however old it looks.
//!
//! A base path that was restored to another time was copied from a running machine, without the record of its locks. It
//! is repaired as after an unclean boot, and its mark is ignored.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::files::{children, has_extension, indexes, is_fan_out, is_pack_sealed};
use super::layout::{Layout, Own, failed};
use super::loose::is_intact;
use super::salvage::{Salvage, is_full};
use super::{GitError, RepairReport, Settings, base_path_stamp, intent, ref_files};
use crate::base::clock::{Entropy, SeededEntropy};

/// Makes durable everything that was done before the call. Blocks.
pub(super) fn sync(layout: &Layout) -> Result<(), GitError> {
    let whole_volume = |root: &Path| Ok(rustix::fs::syncfs(File::open(root)?)?);
    marked(layout, whole_volume).map_err(|error| failed("(all)", "sync the volume", error))
}

/// Makes every file system of the volume durable. The mark of each folder records when that began: a file that is
/// younger than the mark may be lost.
///
/// Each sync writes a random word of its own, the same into all folders. A folder that was restored to another time is
/// recognised by its word ([`super::stamp`]).
///
/// The marks are renamed into place only afterwards. Any other program's fsync can bring a new mark to the disk at
/// once, ahead of the content of files that are older than it. Those files would then pass for durable.
fn marked(layout: &Layout, make_durable: impl Fn(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    layout.check_in_place()?;
    let owns = layout.owns();
    let mut file_systems = BTreeMap::new();
    let entropy = SeededEntropy::from_machine();
    let word = format!("{:016x}{:016x}", entropy.next(), entropy.next());
    for own in &owns {
        std::fs::write(own.sync_begun(), &word)?;
        file_systems.entry(own.root.metadata()?.dev()).or_insert(own.root);
    }
    file_systems.into_values().try_for_each(make_durable)?;
    layout.check_in_place()?;
    // The root's mark is last: until then, the root's `sync_begun` file says which mark the other folders may have
    // already.
    owns.iter().rev().try_for_each(|own| std::fs::rename(own.sync_begun(), own.sync_mark()))
}

/// Repairs the traces of a crash. Blocks.
pub(super) fn repair(settings: &Settings, layout: &Layout, unclean_boot: bool) -> Result<RepairReport, GitError> {
    let mut repair = Repair { settings, layout, is_unclean: unclean_boot, report: RepairReport::default() };
    repair.run(unclean_boot).map_err(|error| failed("(all)", "repair the volume", error))?;
    Ok(repair.report)
}

struct Repair<'a> {
    settings: &'a Settings,
    layout: &'a Layout,
    /// Whether the current folder was left by a stopped machine, so that every lock in it is stale.
    is_unclean: bool,
    report: RepairReport,
}

impl Repair<'_> {
    fn run(&mut self, unclean_boot: bool) -> std::io::Result<()> {
        self.intended_locks()?;
        for path in children(&self.layout.spill())? {
            self.temporary(&path)?;
        }
        for own in self.layout.owns() {
            for path in [children(&own.tmp())?, children(&own.trash())?].concat() {
                self.temporary(&path)?;
            }
            let is_strange = base_path_stamp::is_of_another_time(self.layout, own)?;
            self.is_unclean = unclean_boot || is_strange;
            let since = own.sync_mark().metadata().and_then(|meta| meta.modified()).ok().filter(|_| !is_strange);
            for repository in repositories(own.root)? {
                self.repository(own, &repository, since)?;
            }
        }
        Ok(())
    }

    fn temporary(&mut self, path: &Path) -> std::io::Result<()> {
        remove(path)?;
        self.report.temporaries += 1;
        Ok(())
    }

    fn intended_locks(&mut self) -> std::io::Result<()> {
        for (project, names) in intent::left(&self.layout.intents())? {
            let git_dir = self.layout.git_dir(&project);
            for name in names.iter().map(String::as_str).chain(["HEAD", "packed-refs"]) {
                self.remove_lock(&git_dir.join(format!("{name}.lock")))?;
            }
        }
        children(&self.layout.intents())?.iter().try_for_each(|path| remove(path))
    }

    fn remove_lock(&mut self, path: &Path) -> std::io::Result<()> {
        if path.symlink_metadata().is_ok() {
            std::fs::remove_file(path)?;
            self.report.locks += 1;
        }
        Ok(())
    }

    fn repository(&mut self, own: Own<'_>, git_dir: &Path, since: Option<SystemTime>) -> std::io::Result<()> {
        if self.is_unclean {
            for name in ["HEAD.lock", "packed-refs.lock"] {
                self.remove_lock(&git_dir.join(name))?;
            }
        }
        self.refs(&git_dir.join("refs"))?;
        self.temporary_objects(&git_dir.join("objects"), "tmp_object_git2_")?;
        if self.is_unclean {
            self.temporary_objects(&git_dir.join("objects/pack"), "tmp_")?;
            self.packs(&Salvage { settings: self.settings, own, git_dir }, since)?;
            for folder in children(&git_dir.join("objects"))?.iter().filter(|path| is_fan_out(path)) {
                self.temporary_objects(folder, "tmp_")?;
                self.loose_objects(folder, since)?;
            }
        }
        Ok(())
    }

    /// Removes garbled loose refs and, after an unclean boot, locks.
    fn refs(&mut self, folder: &Path) -> std::io::Result<()> {
        for path in children(folder)? {
            if path.is_dir() {
                self.refs(&path)?;
            } else if has_extension(&path, "lock") {
                if self.is_unclean {
                    self.remove_lock(&path)?;
                }
            } else {
                let content = std::fs::read(&path)?;
                if !content.starts_with(b"ref: ") && ref_files::parse_loose("", &content).is_err() {
                    std::fs::remove_file(&path)?;
                    self.report.refs += 1;
                }
            }
        }
        Ok(())
    }

    fn temporary_objects(&mut self, folder: &Path, prefix: &str) -> std::io::Result<()> {
        for path in children(folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(prefix) {
                std::fs::remove_file(&path)?;
                self.report.temporaries += 1;
            }
        }
        Ok(())
    }

    /// Puts garbled packs away that are younger than the last sync.
    fn packs(&mut self, salvage: &Salvage<'_>, since: Option<SystemTime>) -> std::io::Result<()> {
        for index in indexes(&salvage.git_dir.join("objects"))? {
            if is_young(&index, since)? && !is_pack_sealed(&index)? {
                match salvage.put_pack_away(&index) {
                    // The other projects need not wait. The verification in the background puts it away later.
                    Err(error) if is_full(&error) => {
                        tracing::error!(index = %index.display(), %error, "a damaged pack stays: the disk is full");
                    }
                    away => {
                        away?;
                        self.report.objects += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes empty loose objects, and garbled ones that are younger than the last sync.
    fn loose_objects(&mut self, folder: &Path, since: Option<SystemTime>) -> std::io::Result<()> {
        for path in children(folder)?.into_iter().filter(|path| !has_extension(path, "garbled")) {
            if path.metadata()?.len() == 0 || (is_young(&path, since)? && !is_intact(&path)?) {
                std::fs::remove_file(&path)?;
                self.report.objects += 1;
            }
        }
        Ok(())
    }
}

/// Returns whether a file was written after the last sync. Without any sync, every file counts as young.
fn is_young(path: &Path, since: Option<SystemTime>) -> std::io::Result<bool> {
    let modified = path.metadata()?.modified()?;
    Ok(since.is_none_or(|since| modified >= since))
}

/// Finds every repository below a root. Does not follow links, and does not enter hidden folders such as `.lockstep`.
pub(super) fn repositories(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in children(&folder)? {
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if hidden || !path.symlink_metadata()?.is_dir() {
                continue;
            }
            if has_extension(&path, "git") && path.join("objects").is_dir() {
                found.push(path);
            } else {
                folders.push(path);
            }
        }
    }
    Ok(found)
}

fn remove(path: &Path) -> std::io::Result<()> {
    if path.symlink_metadata()?.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use super::*;
    use crate::base::base_paths::BasePaths;

    /// Sets a file's modification time to so many seconds after 1970.
    fn written_at(path: &Path, seconds: u64) {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
    }

    /// Simulates a power cut in the middle of a sync, after the file system's journal recorded the files' metadata.
    #[test]
    fn files_of_an_unfinished_sync_do_not_count_as_durable() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open(&BasePaths::at(folder.path())).unwrap();
        marked(&layout, |_| Ok(())).unwrap();
        written_at(&layout.owns()[0].sync_mark(), 1_000);
        let fan_out = folder.path().join("p.git/objects/00");
        std::fs::create_dir_all(&fan_out).unwrap();
        let half_written = fan_out.join("2".repeat(38));
        std::fs::write(&half_written, b"\0\0\0\0").unwrap();
        written_at(&half_written, 2_000);
        let cut = |_: &Path| Err(std::io::Error::other("the power is gone"));
        assert!(marked(&layout, cut).is_err());

        assert_eq!(repair(&Settings::default(), &layout, true).unwrap().objects, 1);
        assert!(!half_written.exists());
    }

    /// A snapshot of a file system in use: all its locks are stale, and any of its objects may be empty.
    #[test]
    fn a_folder_of_another_time_is_mended_as_after_an_unclean_boot() {
        let beside = tempfile::tempdir().unwrap();
        let (_folder, layout) = two_folders(beside.path());
        let repository = beside.path().join("big/p.git");
        let leave = |path: &str| {
            let path = repository.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, b"").unwrap();
            path
        };
        marked(&layout, |_| Ok(())).unwrap();
        let left =
            [leave("refs/heads/x.lock"), leave("packed-refs.lock"), leave(&format!("objects/00/{}", "2".repeat(38)))];
        let report = repair(&Settings::default(), &layout, false).unwrap();
        assert_eq!((report.locks, report.objects), (0, 0), "locks of other programs are not touched");
        let before = std::fs::read(layout.owns()[1].sync_mark()).unwrap();
        marked(&layout, |_| Ok(())).unwrap();
        std::fs::write(layout.owns()[1].sync_mark(), before).unwrap();
        let report = repair(&Settings::default(), &layout, false).unwrap();
        assert_eq!((report.locks, report.objects), (2, 1));
        assert!(left.iter().all(|path| !path.exists()));
    }

    /// Creates a volume of two folders; the second one may lie on another file system.
    fn two_folders(other: &Path) -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        let others = BTreeMap::from([("big/*".to_owned(), other.to_owned())]);
        let layout = Layout::open(&BasePaths::new(folder.path().to_owned(), others)).unwrap();
        (folder, layout)
    }

    #[test]
    fn every_file_system_is_made_durable_once_and_before_any_mark() {
        let beside = tempfile::tempdir().unwrap();
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        for other in [beside.path(), memory.path()] {
            let (_folder, layout) = two_folders(other);
            let marks = || layout.owns().iter().filter(|own| own.sync_mark().exists()).count();
            let synced = RefCell::new(Vec::new());
            let note = |root: &Path| {
                assert_eq!(marks(), 0);
                synced.borrow_mut().push(root.metadata()?.dev());
                Ok(())
            };
            marked(&layout, note).unwrap();
            let mut wanted: Vec<u64> = layout.owns().iter().map(|own| own.root.metadata().unwrap().dev()).collect();
            wanted.sort_unstable();
            wanted.dedup();
            assert_eq!(synced.into_inner(), wanted);
            assert_eq!(marks(), 2);
        }
    }

    /// A sync after a mount does not make durable the files that were written into the folder below it.
    #[test]
    fn nothing_passes_for_durable_in_a_folder_that_was_exchanged() {
        let beside = tempfile::tempdir().unwrap();
        let other = beside.path().join("big");
        std::fs::create_dir(&other).unwrap();
        let (_folder, layout) = two_folders(&other);
        let exchange = |_: &Path| {
            std::fs::rename(&other, beside.path().join("aside"))?;
            std::fs::create_dir_all(other.join(".lockstep"))?;
            std::fs::write(other.join(".lockstep/syncing"), "")
        };
        let why = marked(&layout, |root| if root.starts_with(&other) { Ok(()) } else { exchange(root) }).unwrap_err();
        assert!(why.to_string().contains("another folder than at the start"), "{why}");
        assert!(layout.owns().iter().all(|own| !own.sync_mark().exists()));
        assert!(marked(&layout, |_| Ok(())).is_err(), "the next sync fails too");
    }

    #[test]
    fn a_mark_speaks_for_its_own_folder() {
        let beside = tempfile::tempdir().unwrap();
        let (folder, layout) = two_folders(beside.path());
        marked(&layout, |_| Ok(())).unwrap();
        let [root, other] = layout.owns()[..] else { panic!("two folders") };
        written_at(&root.sync_mark(), 1_000);
        written_at(&other.sync_mark(), 3_000);
        let garbled = |root: &Path, project: &str| {
            let fan_out = root.join(format!("{project}.git/objects/00"));
            std::fs::create_dir_all(&fan_out).unwrap();
            let path = fan_out.join("2".repeat(38));
            std::fs::write(&path, b"\0\0\0\0").unwrap();
            written_at(&path, 2_000);
            path
        };
        let (young, old) = (garbled(folder.path(), "p"), garbled(beside.path(), "big/p"));
        assert_eq!(repair(&Settings::default(), &layout, true).unwrap().objects, 1);
        assert!(!young.exists() && old.exists(), "a file that is older than its folder's mark is not checked again");
    }
}
