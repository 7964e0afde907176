//! Checks and ingests large packs and packs with deltas. Git indexes a pack in a folder of its own, under limits of
//! memory and time. Only then are pack and index moved into the repository, the pack first.
//!
//! A pack in a file is written once: it gets a second name in that folder, git writes its index beside it, and it is
//! kept byte for byte as it came.
//!
//! `index-pack --check-self-contained-and-connected` checks hashes, that git can walk every object, and that every
//! object that is pointed to is in the pack or in the repository. It does not apply the rules of `fsck`. The repository
//! is an alternate of the quarantine folder, unless the pack must do without it.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lockstep_proto::{Oid, ProjectName};
use tempfile::TempDir;

use super::child::{self, Ended, Limits};
use super::early_end::EarlyEnd;
use super::layout::{Layout, failed};
use super::loose::{loose_path, make_room};
use super::{Flaw, GitError, Settings};
use crate::seams::blob::Payload;

const OP: &str = "ingest a pack";

/// The check that every receiver makes.
const CONNECTED: &str = "--check-self-contained-and-connected";

/// A pack of this size, in bytes, is indexed by several threads, and scanned meanwhile.
pub(super) const LARGE: u64 = 16 << 20;
/// That many threads. Each has a cache of up to 96 MiB.
const THREADS: usize = 2;
/// How often a pack is indexed again after damaged loose objects were taken out of its way.
const ROOMS: usize = 16;

/// Where a pack may find the objects that it points to and does not bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// In the repository that takes the pack.
    Repository,
    /// Nowhere: the pack is complete. At the origin this is faster, too, because git compares an object that the
    /// repository has with the one of the pack.
    Nothing,
}

/// Ingests the packs of one project through git.
pub(super) struct Quarantine<'a> {
    pub(super) settings: &'a Settings,
    pub(super) layout: &'a Layout,
    pub(super) project: &'a ProjectName,
    pub(super) git_dir: &'a Path,
}

impl Quarantine<'_> {
    /// Checks a pack that was scanned before, and adds it to the repository.
    pub(super) fn ingest(&self, pack: &Payload) -> Result<(), GitError> {
        self.add(&self.receive(pack, &EarlyEnd::default())?)
    }

    /// Checks a pack, and adds nothing. Another thread may end that early. Returns the folder with the pack.
    pub(super) fn receive(&self, pack: &Payload, early: &EarlyEnd) -> Result<TempDir, GitError> {
        self.check(pack, CONNECTED, Beside::Repository, early)
    }

    /// Adds a pack that was checked and scanned to the repository.
    pub(super) fn add(&self, folder: &TempDir) -> Result<(), GitError> {
        join(self.git_dir, folder).map_err(|error| self.failed(error))
    }

    /// Checks a pack as every receiver will, and adds nothing.
    pub(super) fn rehearse(&self, pack: &Payload, beside: Beside) -> Result<(), GitError> {
        self.check(pack, CONNECTED, beside, &EarlyEnd::default()).map(drop)
    }

    /// Holds a pack against the rules of `fsck`, and adds nothing. `strict` is the option of `index-pack` that has
    /// them.
    pub(super) fn judge(&self, pack: &Payload, strict: &str) -> Result<(), GitError> {
        self.check(pack, strict, Beside::Repository, &EarlyEnd::default()).map(drop)
    }

    /// Has git index a pack in a temporary folder, and returns the folder.
    fn check(&self, pack: &Payload, option: &str, beside: Beside, early: &EarlyEnd) -> Result<TempDir, GitError> {
        let folder = tempfile::tempdir_in(self.layout.own(self.project).tmp()).map_err(|error| self.failed(error))?;
        let index = || self.try_index(pack, folder.path(), option, beside, early).map_err(|error| self.failed(error));
        let mut ended = index()?;
        for _ in 0..ROOMS {
            if is_indexed(&ended, &folder) || !self.make_room(&ended.stderr) {
                break;
            }
            ended = index()?;
        }
        if is_indexed(&ended, &folder) { Ok(folder) } else { Err(self.translate(&ended)) }
    }

    fn try_index(
        &self,
        pack: &Payload,
        folder: &Path,
        option: &str,
        beside: Beside,
        early: &EarlyEnd,
    ) -> std::io::Result<Ended> {
        let objects = self.git_dir.join("objects");
        std::fs::create_dir_all(folder.join("pack"))?;
        let limits = child_limits(self.settings, self.git_dir)?;
        let mut command = child::git(self.settings, self.git_dir);
        command.args(["index-pack", option]).env("GIT_OBJECT_DIRECTORY", folder);
        // Threads share one arena: each further one would take 128 MiB of the address space.
        let threads = if pack.len() < LARGE { 1 } else { THREADS };
        command.arg(format!("--threads={threads}")).env("MALLOC_ARENA_MAX", "1");
        if beside == Beside::Repository {
            command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &objects);
        }
        let input = self.hand_over(pack, folder, &mut command)?;
        child::run(command, Some(limits), early, input, tempfile::tempfile_in(folder)?, folder)
    }

    /// Hands a pack to git: a pack in a file as that file, under a second name in the folder; a pack in memory as the
    /// input, which is returned.
    fn hand_over(&self, pack: &Payload, folder: &Path, command: &mut Command) -> std::io::Result<File> {
        match pack {
            Payload::File(path, _) => {
                command.arg(self.link(path, &folder.join("pack"))?);
                File::open("/dev/null")
            }
            Payload::Memory(bytes) => {
                command.arg("--stdin");
                let mut file = tempfile::tempfile_in(folder)?;
                file.write_all(bytes)?;
                file.rewind()?;
                Ok(file)
            }
        }
    }

    /// Gives a pack its final name in a folder. Only a pack on another file system than its repository is copied.
    fn link(&self, pack: &Path, folder: &Path) -> std::io::Result<PathBuf> {
        let mut checksum = [0; 20];
        let mut file = File::open(pack)?;
        file.seek(SeekFrom::End(-20))?;
        file.read_exact(&mut checksum)?;
        let linked = folder.join(format!("pack-{}.pack", hex::encode(checksum)));
        match std::fs::hard_link(pack, &linked) {
            Err(error) if error.kind() == ErrorKind::CrossesDevices => drop(std::fs::copy(pack, &linked)?),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            linked => linked?,
        }
        // As git does: readable for those who may read the repository's objects, and writable for nobody.
        let readable = self.git_dir.join("objects").metadata()?.permissions().mode() & 0o444;
        std::fs::set_permissions(&linked, Permissions::from_mode(readable))?;
        Ok(linked)
    }

    /// Takes the empty and damaged loose objects away that git's message names. Git reads an existing object before it
    /// accepts another copy of it, and stops at the first one that it cannot read. Returns whether there was any.
    fn make_room(&self, message: &str) -> bool {
        ids(message).filter(|oid| make_room(&loose_path(self.git_dir, *oid))).count() > 0
    }

    /// Translates git's error message into an error.
    fn translate(&self, ended: &Ended) -> GitError {
        let message = &ended.stderr;
        let project = self.project.clone();
        if let Some(flaw) = flaw(message) {
            return GitError::Flawed { project, flaw };
        }
        if let Some(object) = damaged(message) {
            return GitError::Damaged { project, object: super::objects::wire(object), why: message.clone() };
        }
        let missing = ["did not receive expected object", "Could not read", "missing blob", "unresolved delta"];
        if missing.iter().any(|sign| message.contains(sign)) {
            let oids: Vec<Oid> = ids(message).map(super::objects::wire).collect();
            if !oids.is_empty() {
                return GitError::Missing { project, oids };
            }
        }
        let content = [
            "fsck error",
            "not all child objects",
            "expected type",
            "type mismatch",
            "object corrupt",
            "invalid",
            "bad ",
            "collision",
            "inconsisten",
            "error in object",
            "apply delta",
        ];
        let lower = message.to_lowercase();
        let ours =
            ["local object", "no space", "input/output", "permission denied", "unable to", "cannot open", "read-only"];
        let exhausted = ["out of memory", "mmap failed", "memory"];
        if ended.status.code().is_some() && !ours.iter().any(|sign| lower.contains(sign)) {
            if exhausted.iter().any(|sign| lower.contains(sign)) {
                let limit = self.settings.child_memory >> 20;
                return GitError::Bad { project, why: format!("git needs over {limit} MiB to check it: {message}") };
            }
            if content.iter().any(|sign| lower.contains(sign)) {
                return GitError::Bad { project, why: message.clone() };
            }
        }
        self.failed(format!("{}: {message}", ended.status))
    }

    fn failed(&self, why: impl ToString) -> GitError {
        failed(self.project, OP, why)
    }
}

/// Moves the pack and the files that belong to it into the repository. The index is last, because git reads a pack once
/// its index exists.
pub(super) fn join(git_dir: &Path, folder: &TempDir) -> std::io::Result<()> {
    let target = git_dir.join("objects/pack");
    let mut files = std::fs::read_dir(folder.path().join("pack"))?.collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| file.file_name().to_string_lossy().starts_with("pack-"));
    files.sort_by_key(|file| {
        let path = file.path();
        let extension = path.extension().unwrap_or_default().to_owned();
        (extension == "idx", extension != "pack")
    });
    for file in files {
        std::fs::rename(file.path(), target.join(file.file_name()))?;
        crate::base::faults::failpoint::reach("git.pack_file");
    }
    Ok(())
}

/// Whether git has indexed the pack. It ends with 1 when all is well and the pack builds on objects outside of it.
fn is_indexed(ended: &Ended, folder: &TempDir) -> bool {
    let has_index = || {
        let mut files = std::fs::read_dir(folder.path().join("pack")).into_iter().flatten().flatten();
        files.any(|file| file.path().extension().is_some_and(|extension| extension == "idx"))
    };
    ended.status.success() || (ended.status.code() == Some(1) && has_index())
}

/// Finds the first flaw that git names: `error: object <id>: <message id>: <text>`.
fn flaw(message: &str) -> Option<Flaw> {
    message.lines().find_map(|line| {
        let (object, why) = line.strip_prefix("error: object ")?.split_once(": ")?;
        Some(Flaw { object: object.parse().ok()?, why: why.to_owned() })
    })
}

/// Finds the object of a repository that git cannot read: `loose object <id> (stored in <file>) is corrupt`. git ends
/// at the first one.
pub(super) fn damaged(message: &str) -> Option<git2::Oid> {
    let mut lines = message.lines();
    let line = lines.find(|line| line.contains(" object ") && line.ends_with(") is corrupt"))?;
    ids(line.split_once(" (stored in ")?.0).next()
}

/// Returns the object ids in a message of git.
fn ids(message: &str) -> impl Iterator<Item = git2::Oid> {
    message
        .split(|letter: char| !letter.is_ascii_hexdigit())
        .filter(|word| word.len() == 40)
        .filter_map(|word| git2::Oid::from_str(word).ok())
        .filter(|oid| !oid.is_zero())
}

/// The limits of a git that reads the objects of a repository beside content from outside.
pub(super) fn child_limits(settings: &Settings, git_dir: &Path) -> std::io::Result<Limits> {
    let address_space = settings.child_memory + mapped_bytes(&git_dir.join("objects/pack"))?;
    Ok(Limits { address_space, seconds: settings.child_seconds })
}

/// Returns the bytes of the indexes that git maps as a whole. They count as its address space, but not as its memory.
fn mapped_bytes(packs: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(packs)? {
        let entry = entry?;
        // Neither a pack nor a file that was put away is mapped as a whole.
        if entry.path().extension().is_none_or(|extension| extension != "pack" && extension != "garbled") {
            bytes += entry.metadata().map_or(0, |meta| meta.len());
        }
    }
    Ok(bytes)
}
