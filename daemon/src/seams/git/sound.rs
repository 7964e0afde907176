//! Checks the objects that a repository has, slice by slice, and sets damaged copies aside.
//!
//! A walk along the history would need the ids of everything that it has seen. A slice needs nothing: it takes objects
//! in the order of their ids, reads each one, and looks whether the objects to which it points are there. If all
//! objects are sound and the values of all refs are there, everything that the refs need is there and intact.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use lockstep_proto::{Oid, ProjectName};
use tokio::time::Instant;

use super::child;
use super::early_end::EarlyEnd;
use super::files::{indexes, is_pack_sealed, is_sealed, put_away};
use super::index_pack::child_limits;
use super::layout::{Layout, failed};
use super::loose::{is_empty, is_intact, loose_path};
use super::object_ids::{Index, ids_after};
use super::objects::{Objects, native, wire};
use super::odb::ReadError;
use super::salvage::Salvage;
use super::{GitError, ObjectSlice, Settings, SliceChecked, parse};

pub(super) const OP: &str = "check objects";
/// An object of this size, in bytes, is not read into memory.
const LARGE: usize = 64 << 20;
/// The most ids of present objects that a slice remembers.
const KNOWN: usize = 100_000;
/// The bits in the exit code of `git fsck` for absent objects that are needed, and for damaged packs.
const DAMAGED: i32 = 0b110;
/// The exit code of a git that ends early.
const DIED: i32 = 128;

/// Checks a slice, as it is on the disk. Blocks.
pub(super) fn check(objects: &Objects<'_>, slice: &ObjectSlice) -> Result<SliceChecked, GitError> {
    objects.afresh(|objects| check_slice(objects, slice))
}

fn check_slice(objects: &Objects<'_>, slice: &ObjectSlice) -> Result<SliceChecked, GitError> {
    let began = Instant::now();
    let after = slice.after.as_ref().map(|oid| native(objects.project, oid)).transpose()?;
    let ids = ids_after(objects.repository.path(), after, slice.most);
    let ids = ids.map_err(|error| failed(objects.project, OP, error))?;
    let (mut checked, mut known, mut unsound) = (SliceChecked::default(), BTreeSet::new(), BTreeSet::new());
    let is_end = ids.len() < slice.most;
    let mut left = ids.into_iter().peekable();
    while let Some(id) = left.next_if(|_| checked.objects == 0 || began.elapsed() < slice.time) {
        check_one(objects, id, &mut known, &mut unsound)?;
        checked.objects += 1;
        checked.next = Some(wire(id));
    }
    if is_end && left.peek().is_none() {
        checked.next = None;
    }
    checked.unsound = unsound.into_iter().collect();
    Ok(checked)
}

fn check_one(
    objects: &Objects<'_>,
    id: git2::Oid,
    known: &mut BTreeSet<git2::Oid>,
    unsound: &mut BTreeSet<Oid>,
) -> Result<(), GitError> {
    let object = match objects.db.check(id, LARGE) {
        Ok(Some(object)) => object,
        // A large one is taken as it is.
        Ok(None) => return Ok(()),
        // It was collected since it was listed.
        Err(ReadError::Absent) if !loose_path(objects.repository.path(), id).exists() => return Ok(()),
        Err(_) => {
            unsound.insert(wire(id));
            return Ok(());
        }
    };
    // The content is that of the id. Whether git can walk it was judged before it was committed.
    let Ok(links) = parse::links(object.kind(), object.data()) else { return Ok(()) };
    if known.len() > KNOWN {
        known.clear();
    }
    for (target, _) in links {
        if known.insert(target) && is_absent(objects, target)? {
            unsound.insert(wire(target));
        }
    }
    Ok(())
}

/// Whether an object is absent. A damaged one is not: its own turn finds it.
fn is_absent(objects: &Objects<'_>, id: git2::Oid) -> Result<bool, GitError> {
    let path = loose_path(objects.repository.path(), id);
    if path.exists() {
        return Ok(is_empty(&path));
    }
    match objects.header(id) {
        Ok(header) => Ok(header.is_none()),
        Err(_) if objects.db.exists(id) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns those of the objects that are absent on the disk, or cannot be read. Blocks.
pub(super) fn unsound(objects: &Objects<'_>, oids: &[Oid]) -> Result<Vec<Oid>, GitError> {
    unsound_beside(objects, oids, LARGE)
}

/// As [`unsound`], where an object of `large` bytes or more is not read into memory.
fn unsound_beside(objects: &Objects<'_>, oids: &[Oid], large: usize) -> Result<Vec<Oid>, GitError> {
    objects.afresh(|objects| {
        let mut found = Vec::new();
        for oid in oids {
            let id = native(objects.project, oid)?;
            if is_absent(objects, id)? || is_damaged(objects, id, large)? {
                found.push(*oid);
            }
        }
        Ok(found)
    })
}

/// Whether an object cannot be read. A large one in a pack is as sound as that pack: an operation may have met damage
/// that a slice does not look for.
fn is_damaged(objects: &Objects<'_>, id: git2::Oid, large: usize) -> Result<bool, GitError> {
    match objects.db.check(id, large) {
        Ok(Some(_)) => Ok(false),
        Ok(None) => {
            let found = is_in_damaged_pack(objects.repository.path(), id);
            found.map_err(|error| failed(objects.project, OP, error))
        }
        Err(_) => Ok(true),
    }
}

fn is_in_damaged_pack(git_dir: &Path, id: git2::Oid) -> std::io::Result<bool> {
    for path in indexes(&git_dir.join("objects"))? {
        let Some(index) = Index::open(&path)? else { continue };
        if index.has(id)? && !is_pack_sealed(&path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Renames the files with damaged copies of these objects. Blocks.
pub(super) fn set_aside(salvage: &Salvage<'_>, project: &ProjectName, oids: &[Oid]) -> Result<u64, GitError> {
    let ids = oids.iter().map(|oid| native(project, oid)).collect::<Result<Vec<_>, _>>()?;
    rename_damaged(salvage, &ids).map_err(|error| failed(project, "set damaged objects aside", error))
}

fn rename_damaged(salvage: &Salvage<'_>, ids: &[git2::Oid]) -> std::io::Result<u64> {
    let (git_dir, mut renamed) = (salvage.git_dir, 0);
    for path in ids.iter().map(|id| loose_path(git_dir, *id)).filter(|path| path.exists()) {
        if !is_intact(&path)? {
            renamed += put_away(&path)?;
        }
    }
    for index in indexes(&git_dir.join("objects"))? {
        if !has_any(&index, ids)? || is_pack_sealed(&index)? {
            continue;
        }
        renamed += salvage.put_pack_away(&index)?;
    }
    // A damaged index over several packs leads to wrong places in intact packs. Each pack has an index of its own.
    let over_packs = git_dir.join("objects/pack/multi-pack-index");
    if over_packs.exists() && !is_sealed(&over_packs)? {
        renamed += put_away(&over_packs)?;
    }
    Ok(renamed)
}

/// Whether a pack has one of these objects. One without a readable index may have each of them.
fn has_any(index: &Path, ids: &[git2::Oid]) -> std::io::Result<bool> {
    let Some(index) = Index::open(index)? else { return Ok(true) };
    for id in ids {
        if index.has(*id)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Runs `git fsck`. Blocks.
pub(super) fn fsck(settings: &Settings, layout: &Layout, project: &ProjectName) -> Result<Option<String>, GitError> {
    let (git_dir, _) = layout.locate(project)?;
    let run = || -> std::io::Result<(child::Ended, String)> {
        let scratch = tempfile::tempdir_in(layout.own(project).tmp())?;
        let limits = child_limits(settings, &git_dir)?;
        let mut command = child::git(settings, &git_dir);
        command.args(["fsck", "--full", "--no-dangling", "--no-progress", "--no-reflogs"]);
        let (input, output) = (File::open("/dev/null")?, tempfile::tempfile_in(&scratch)?);
        let copy = output.try_clone()?;
        let ended = child::run(command, Some(limits), &EarlyEnd::default(), input, output, scratch.path())?;
        Ok((ended, child::beginning(copy)?))
    };
    let (ended, found) = run().map_err(|error| failed(project, "run git fsck", error))?;
    match ended.status.code() {
        Some(code) if code & DAMAGED != 0 => Ok(Some(format!("{found}\n{}", ended.stderr).trim().to_owned())),
        // The rules for the content of objects, which do not count, and damaged refs, which are compared elsewhere.
        Some(code) if code < 64 => Ok(None),
        // git ends early at some damage.
        Some(DIED) if ended.stderr.contains("corrupt") => Ok(Some(ended.stderr.trim().to_owned())),
        _ => Err(failed(project, "run git fsck", format!("{}: {}", ended.status, ended.stderr))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use git2::{Repository, Signature, Time};

    use super::*;
    use crate::base::base_paths::BasePaths;
    use crate::seams::git::files::{children, has_extension};

    struct World {
        _folder: tempfile::TempDir,
        layout: Layout,
        git_dir: PathBuf,
        repository: Repository,
        blob: git2::Oid,
        tree: git2::Oid,
        commit: git2::Oid,
    }

    fn project() -> ProjectName {
        "p".parse().unwrap()
    }

    impl World {
        /// A repository with a commit, its tree and a file, all loose.
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let layout = Layout::open(&BasePaths::at(folder.path())).unwrap();
            let git_dir = folder.path().join("p.git");
            let repository = Repository::init_bare(&git_dir).unwrap();
            let blob = repository.blob(b"some content").unwrap();
            let mut builder = repository.treebuilder(None).unwrap();
            builder.insert("file", blob, 0o100_644).unwrap();
            let tree = builder.write().unwrap();
            drop(builder);
            let who = Signature::new("T", "t@x", &Time::new(1_700_000_000, 0)).unwrap();
            let root = repository.find_tree(tree).unwrap();
            let commit = repository.commit(Some("refs/heads/main"), &who, &who, "m", &root, &[]).unwrap();
            drop(root);
            Self { _folder: folder, layout, git_dir, repository, blob, tree, commit }
        }

        fn git(&self, args: &[&str]) {
            let status = child::git(&Settings::default(), &self.git_dir).args(args).status().unwrap();
            assert!(status.success(), "git {args:?}");
        }

        /// Checks all objects, `most` per slice, through a new handle. Returns their number, and the unsound ones.
        fn check(&self, most: usize) -> (u64, BTreeSet<Oid>) {
            let (project, repository) = (project(), Repository::open_bare(&self.git_dir).unwrap());
            let objects = Objects::open(&project, &repository, None).unwrap();
            let (mut count, mut unsound, mut after) = (0, BTreeSet::new(), None);
            loop {
                let slice = ObjectSlice { after, most, time: Duration::from_secs(60) };
                let checked = super::check(&objects, &slice).unwrap();
                count += checked.objects;
                unsound.extend(checked.unsound);
                let Some(next) = checked.next else { return (count, unsound) };
                assert!(after.is_none_or(|after| next > after), "the cursor goes on");
                after = Some(next);
            }
        }

        fn has(&self, oid: &Oid) -> bool {
            let repository = Repository::open_bare(&self.git_dir).unwrap();
            repository.odb().unwrap().exists(native(&project(), oid).unwrap())
        }

        fn set_aside(&self, oids: &[Oid]) -> u64 {
            let (settings, project) = (Settings::default(), project());
            let salvage = Salvage { settings: &settings, own: self.layout.own(&project), git_dir: &self.git_dir };
            set_aside(&salvage, &project, oids).unwrap()
        }

        fn damage(path: &Path) {
            let mut content = std::fs::read(path).unwrap();
            let middle = content.len() / 2;
            content[middle] ^= 0xff;
            std::fs::remove_file(path).unwrap();
            std::fs::write(path, content).unwrap();
        }

        fn pack(&self) -> PathBuf {
            let packs = children(&self.git_dir.join("objects/pack")).unwrap();
            packs.into_iter().find(|path| has_extension(path, "pack")).unwrap()
        }
    }

    #[test]
    fn slices_of_any_size_go_through_loose_and_packed_objects_once() {
        let world = World::new();
        for most in [1, 2, 3, 4] {
            assert_eq!(world.check(most), (3, BTreeSet::new()));
        }
        world.git(&["repack", "-a", "-d", "-q"]);
        let _ = world.repository.blob(b"a loose one beside the pack").unwrap();
        for most in [1, 2, 3, 4, 5] {
            assert_eq!(world.check(most), (4, BTreeSet::new()));
        }
    }

    #[test]
    fn an_absent_object_is_found_where_another_one_points_to_it() {
        let world = World::new();
        std::fs::remove_file(loose_path(&world.git_dir, world.blob)).unwrap();
        assert_eq!(world.check(100), (2, [wire(world.blob)].into()));
        std::fs::remove_file(loose_path(&world.git_dir, world.tree)).unwrap();
        assert_eq!(world.check(100), (1, [wire(world.tree)].into()));
    }

    #[test]
    fn a_damaged_loose_object_is_set_aside_and_an_intact_one_stays() {
        let world = World::new();
        let path = loose_path(&world.git_dir, world.blob);
        World::damage(&path);
        assert_eq!(world.check(1), (3, [wire(world.blob)].into()));
        let all = [world.blob, world.tree, world.commit].map(wire);
        assert_eq!(world.set_aside(&all), 1);
        assert!(!path.exists() && path.with_added_extension("garbled").exists());
        assert_eq!(world.check(1), (2, [wire(world.blob)].into()), "now it is absent");
    }

    /// Found by a test of real sidecars: a handle that had read an object before did not see that it was damaged.
    #[test]
    fn damage_is_seen_through_a_handle_that_has_read_the_object_before_and_by_fsck() {
        let (world, project) = (World::new(), project());
        let objects = Objects::open(&project, &world.repository, None).unwrap();
        let _ = world.repository.odb().unwrap().read(world.commit).unwrap();
        let path = loose_path(&world.git_dir, world.commit);
        let content = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &content[..content.len() / 2]).unwrap();
        let slice = ObjectSlice { after: None, most: 10, time: Duration::from_secs(60) };
        assert_eq!(super::check(&objects, &slice).unwrap().unsound, [wire(world.commit)]);
        assert_eq!(unsound(&objects, &[wire(world.commit), wire(world.tree)]).unwrap(), [wire(world.commit)]);
        let found = fsck(&Settings::default(), &world.layout, &project).unwrap().unwrap();
        assert!(found.contains("corrupt"), "{found}");
    }

    #[test]
    fn a_damaged_pack_is_set_aside_and_an_intact_one_stays() {
        let world = World::new();
        world.git(&["repack", "-a", "-d", "-q"]);
        let (pack, all) = (world.pack(), [world.blob, world.tree, world.commit].map(wire));
        assert_eq!(world.set_aside(&all), 0);
        World::damage(&pack);
        assert!(!world.check(100).1.is_empty());
        assert_eq!(world.set_aside(&all), 2);
        assert!(!pack.exists() && !pack.with_extension("idx").exists());
        let damaged = all.iter().filter(|oid| !world.has(oid)).count() as u64;
        assert!(damaged > 0, "one byte is in one object");
        assert_eq!(world.check(100).0, 3 - damaged, "the others are in a new pack");
    }

    #[test]
    fn a_damaged_index_over_several_packs_is_set_aside_and_the_packs_stay() {
        let world = World::new();
        world.git(&["repack", "-a", "-d", "-q"]);
        world.git(&["multi-pack-index", "write"]);
        let (over_packs, all) = (world.git_dir.join("objects/pack/multi-pack-index"), [wire(world.blob)]);
        assert_eq!((world.set_aside(&all), over_packs.exists()), (0, true));
        World::damage(&over_packs);
        assert_eq!((world.set_aside(&all), over_packs.exists()), (1, false));
        assert_eq!(world.check(100), (3, BTreeSet::new()));
    }

    /// A slice takes them as they are. The damaged byte is in another object.
    #[test]
    fn a_large_object_that_an_operation_has_met_is_as_sound_as_its_pack() {
        let (world, project) = (World::new(), project());
        world.git(&["repack", "-a", "-d", "-q"]);
        let unsound = || {
            let repository = Repository::open_bare(&world.git_dir).unwrap();
            let objects = Objects::open(&project, &repository, None).unwrap();
            unsound_beside(&objects, &[wire(world.blob)], 1).unwrap()
        };
        assert_eq!(unsound(), []);
        World::damage(&world.pack());
        assert_eq!(unsound(), [wire(world.blob)]);
    }

    #[test]
    fn fsck_finds_what_a_ref_lacks() {
        let world = World::new();
        let (settings, project) = (Settings::default(), project());
        assert_eq!(fsck(&settings, &world.layout, &project).unwrap(), None);
        std::fs::remove_file(loose_path(&world.git_dir, world.blob)).unwrap();
        let found = fsck(&settings, &world.layout, &project).unwrap().unwrap();
        assert!(found.contains(&world.blob.to_string()), "{found}");
    }
}
