//! Packs the objects that wanted values need beyond committed ones.
//!
//! An object that merely lies in the repository, for example from a refused push, is not a base: other sites have only
//! the closures of committed values. A few small objects are packed in memory, without deltas. Larger packs are made by
//! git, which reads names from a file and writes the pack to a file, so memory stays bounded for a push of any size.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, Write};
use std::sync::Arc;

use git2::{ObjectType, Oid};

use super::early_end::EarlyEnd;
use super::index_pack::{Beside, Quarantine, damaged};
use super::layout::{Layout, failed};
use super::objects::{Objects, native, wire};
use super::odb::ReadError;
use super::packfile::PackWriter;
use super::scan::{ScanError, scan};
use super::trees::{Collector, Found};
use super::walk::{Ask, NewCommits, new_commits};
use super::{GitError, Packed, Settings, child, ingest};
use crate::seams::blob::Payload;

const OP: &str = "pack objects";
/// Above this many new commits git walks their trees itself.
const WALKED_COMMITS: usize = 4096;
/// Above this many objects git packs them.
const MEMORY_OBJECTS: usize = 1000;
/// Length of the part of a name that git gets: its end, which git compares. git reads lines of some 4,000 bytes.
const NAME_BYTES: usize = 255;

/// Makes packs of one project's objects.
pub(super) struct Packer<'a> {
    pub(super) settings: &'a Settings,
    pub(super) layout: &'a Layout,
    pub(super) objects: &'a Objects<'a>,
    pub(super) quarantine: &'a Quarantine<'a>,
    /// Whether the pack is for a receiver that nobody can ask, so that its judgement must be known before.
    pub(super) rehearses: bool,
}

/// The wanted values, by type.
#[derive(Default)]
struct Wanted {
    commits: Vec<Oid>,
    trees: Vec<Oid>,
    /// The wanted tags and blobs.
    others: Vec<(Oid, ObjectType)>,
    bases: BTreeSet<Oid>,
}

impl Packer<'_> {
    /// Packs `wants` without the objects behind the committed values. Blocks the thread.
    pub(super) fn pack(
        &self,
        wants: &[lockstep_proto::Oid],
        hints: &[lockstep_proto::Oid],
        ask: &Ask<'_>,
    ) -> Result<Packed, GitError> {
        let wants = self.natives(wants)?;
        let hints = self.natives(hints)?;
        let wanted = self.sort(&wants, ask)?;
        let news = new_commits(self.objects, &wanted.commits, &hints, ask)?;
        let bases: BTreeSet<Oid> = wanted.bases.union(&news.bases).copied().collect();
        let beside = if bases.is_empty() { Beside::Nothing } else { Beside::Repository };
        let rehearsal = self.rehearses.then_some(beside);
        let payload = if news.commits.len() > WALKED_COMMITS {
            Some(self.whole_history(&wanted, &news, &hints, &revisions(&wants, &bases), rehearsal)?)
        } else {
            self.payload_of(&self.collect(&wanted, &news, &hints)?, rehearsal)?
        };
        // A pack in a file was rehearsed while it was scanned.
        if let (Some(pack @ Payload::Memory(_)), Some(beside)) = (&payload, rehearsal) {
            ingest::rehearse(self.settings, self.objects, self.quarantine, pack, beside)?;
        }
        Ok(Packed { payload, bases: bases.into_iter().map(wire).collect() })
    }

    /// Packs these objects, and nothing to which they point. Blocks the thread.
    pub(super) fn pack_alone(&self, oids: &[lockstep_proto::Oid]) -> Result<Packed, GitError> {
        let mut found = Vec::new();
        for oid in self.natives(oids)? {
            let (_, kind) = self.objects.need(oid)?;
            found.push(Found { oid, kind, name: Vec::new() });
        }
        Ok(Packed { payload: self.payload_of(&found, None)?, bases: Vec::new() })
    }

    /// Has git walk a long history. When it cannot, the flawed object is found by a walk of our own.
    fn whole_history(
        &self,
        wanted: &Wanted,
        news: &NewCommits,
        hints: &[Oid],
        revisions: &[u8],
        rehearsal: Option<Beside>,
    ) -> Result<Payload, GitError> {
        match self.by_git(revisions, &["--revs"], rehearsal) {
            Err(error @ GitError::Failed { op: OP, .. }) => {
                self.collect(wanted, news, hints)?.iter().try_for_each(|found| self.size(found).map(drop))?;
                Err(error)
            }
            packed => packed,
        }
    }

    fn natives(&self, oids: &[lockstep_proto::Oid]) -> Result<Vec<Oid>, GitError> {
        oids.iter().map(|oid| native(self.objects.project, oid)).collect()
    }

    /// Sorts the wanted values by type, and follows tags to their targets.
    fn sort(&self, wants: &[Oid], ask: &Ask<'_>) -> Result<Wanted, GitError> {
        let mut wanted = Wanted::default();
        let mut work = wants.to_vec();
        while !work.is_empty() {
            for oid in std::mem::take(&mut work) {
                if ask(oid) {
                    wanted.bases.insert(oid);
                } else if let Some(target) = self.sort_one(oid, &mut wanted)? {
                    work.push(target);
                }
            }
        }
        Ok(wanted)
    }

    fn sort_one(&self, oid: Oid, wanted: &mut Wanted) -> Result<Option<Oid>, GitError> {
        match self.objects.need(oid)?.1 {
            ObjectType::Commit => wanted.commits.push(oid),
            ObjectType::Tree => wanted.trees.push(oid),
            ObjectType::Blob | ObjectType::Any => wanted.others.push((oid, ObjectType::Blob)),
            ObjectType::Tag => {
                wanted.others.push((oid, ObjectType::Tag));
                let (target, kind) = self.objects.tag(oid)?;
                return match self.objects.need(target)?.1 {
                    is if is == kind => Ok(Some(target)),
                    is => Err(self.objects.mistyped(target, is, kind)),
                };
            }
        }
        Ok(None)
    }

    /// Returns the ids of all new objects, each with its file name where it has one.
    fn collect(&self, wanted: &Wanted, news: &NewCommits, hints: &[Oid]) -> Result<Vec<Found>, GitError> {
        let mut collector = Collector::new(self.objects);
        for (oid, kind) in &wanted.others {
            collector.add(*oid, *kind, b"")?;
        }
        for (oid, tree) in &news.commits {
            collector.add(*oid, ObjectType::Commit, b"")?;
            collector.add_tree(*tree, &news.parent_trees[oid])?;
        }
        let is_tree = |oid: &Oid| matches!(self.objects.header(*oid), Ok(Some((_, ObjectType::Tree))));
        let known: Vec<Oid> = hints.iter().copied().filter(is_tree).collect();
        for tree in &wanted.trees {
            collector.add_tree(*tree, &known)?;
        }
        Ok(collector.found)
    }

    fn payload_of(&self, found: &[Found], rehearsal: Option<Beside>) -> Result<Option<Payload>, GitError> {
        if found.is_empty() {
            return Ok(None);
        }
        if self.is_small(found)? {
            return self.in_memory(found).map(Some);
        }
        let mut lines = Vec::new();
        for Found { oid, name, .. } in found {
            lines.extend_from_slice(oid.to_string().as_bytes());
            lines.push(b' ');
            let end = &name[name.len().saturating_sub(NAME_BYTES)..];
            lines.extend(end.iter().filter(|byte| **byte != b'\n'));
            lines.push(b'\n');
        }
        self.by_git(&lines, &[], rehearsal).map(Some)
    }

    /// Returns whether the objects fit in memory. Reads their sizes and types only.
    fn is_small(&self, found: &[Found]) -> Result<bool, GitError> {
        let mut bytes = 0;
        for one in found {
            bytes += self.size(one)?;
        }
        Ok(found.len() <= MEMORY_OBJECTS && bytes <= self.settings.memory_pack_bytes)
    }

    /// The size of an object. Its absence is an error, and so is another type than that of the reference to it.
    fn size(&self, Found { oid, kind, .. }: &Found) -> Result<u64, GitError> {
        match self.objects.need(*oid)? {
            (size, is) if is == *kind => Ok(size as u64),
            (_, is) => Err(self.objects.mistyped(*oid, is, *kind)),
        }
    }

    fn in_memory(&self, found: &[Found]) -> Result<Payload, GitError> {
        let mut writer = PackWriter::new();
        for Found { oid, .. } in found {
            let object = self.objects.db.read(*oid).map_err(|error| self.objects.error(OP, *oid, error))?;
            writer.add(object.kind(), object.data()).map_err(|error| self.failed(error))?;
        }
        Ok(Payload::Memory(writer.finish()))
    }

    /// Packs with git. The first try reuses stored deltas. When other sites would refuse that pack, the second try does
    /// not.
    fn by_git(&self, input: &[u8], options: &[&str], rehearsal: Option<Beside>) -> Result<Payload, GitError> {
        match self.try_git(input, options, rehearsal)? {
            Ok(payload) => Ok(payload),
            Err(_) => {
                let options = [options, &["--no-reuse-delta"]].concat();
                self.try_git(input, &options, rehearsal)?.map_err(|why| GitError::Bad {
                    project: self.objects.project.clone(),
                    why: format!("the pack: {why}"),
                })
            }
        }
    }

    /// Runs git once, and does with the pack what other sites will do. A pack in a file is scanned and rehearsed at the
    /// same time: it comes from our own repository. The inner error says why other sites would refuse the pack.
    fn try_git(
        &self,
        input: &[u8],
        options: &[&str],
        rehearsal: Option<Beside>,
    ) -> Result<Result<Payload, String>, GitError> {
        let pack = tempfile::NamedTempFile::new_in(self.layout.spill()).map_err(|error| self.failed(error))?;
        let ended = self.run(input, options, pack.as_file()).map_err(|error| self.failed(error))?;
        if !ended.status.success() {
            return Err(match damaged(&ended.stderr) {
                Some(oid) => self.objects.error(OP, oid, ReadError::Damaged(ended.stderr)),
                None => self.failed(format!("{}: {}", ended.status, ended.stderr)),
            });
        }
        let reader = BufReader::with_capacity(1 << 16, pack.reopen().map_err(|error| self.failed(error))?);
        let length = pack.as_file().metadata().map_err(|error| self.failed(error))?.len();
        let payload = self.payload(pack, length).map_err(|error| self.failed(error))?;
        let limits = self.settings.spilled.for_length(length);
        let (scanned, rehearsed) = std::thread::scope(|scope| {
            let scanning = scope.spawn(move || scan(reader, &limits, 0));
            let rehearsed = match (&payload, rehearsal) {
                (Payload::File(..), Some(beside)) => self.quarantine.rehearse(&payload, beside),
                _ => Ok(()),
            };
            (scanning.join(), rehearsed)
        });
        match scanned {
            Ok(Ok(_)) => rehearsed.map(|()| Ok(payload)),
            Ok(Err(ScanError::Bad(why))) => Ok(Err(why)),
            Ok(Err(ScanError::Io(error))) => Err(self.failed(error)),
            Err(_) => Err(self.failed("the scan of the pack panicked")),
        }
    }

    fn run(&self, input: &[u8], options: &[&str], output: &File) -> std::io::Result<child::Ended> {
        let mut command = child::git(self.settings, self.objects.repository.path());
        command.args(["pack-objects", "--stdout", "--delta-base-offset", "-q", "--depth=50", "--threads=1"]);
        command.args(options);
        let tmp = self.layout.own(self.objects.project).tmp();
        let mut names = BufWriter::new(tempfile::tempfile_in(&tmp)?);
        names.write_all(input)?;
        let mut names = names.into_inner().map_err(|error| error.into_error())?;
        names.rewind()?;
        child::run(command, None, &EarlyEnd::default(), names, output.try_clone()?, &tmp)
    }

    /// Loads a small pack into memory after all.
    fn payload(&self, pack: tempfile::NamedTempFile, length: u64) -> std::io::Result<Payload> {
        if length <= self.settings.memory_pack_bytes {
            return Ok(Payload::Memory(std::fs::read(pack.path())?.into()));
        }
        Ok(Payload::File(Arc::new(pack.into_temp_path()), length))
    }

    fn failed(&self, why: impl ToString) -> GitError {
        failed(self.objects.project, OP, why)
    }
}

/// The input of git's `--revs`: the wanted values, and the bases to exclude.
fn revisions(wants: &[Oid], bases: &BTreeSet<Oid>) -> Vec<u8> {
    let mut lines = String::new();
    wants.iter().for_each(|oid| lines.push_str(&format!("{oid}\n")));
    bases.iter().for_each(|oid| lines.push_str(&format!("^{oid}\n")));
    lines.into_bytes()
}
