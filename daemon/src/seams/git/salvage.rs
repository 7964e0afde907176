//! Puts a damaged pack away, and brings back the objects in it that can still be read.
//!
//! Peers send all that the refs need. Other objects of the pack may be here alone: strays, kept values, refs that each
//! site computes itself. So each object of the pack is read by itself, and the intact ones go into a new pack in its
//! place. If its index leads to none of them, git unpacks as much as it can. The damaged pack stays beside it, renamed.
//! If only the index is damaged, the pack stays as it is, and git makes a new index.

use std::fs::File;
use std::io::{BufWriter, Error, ErrorKind, Result, Seek, Write};
use std::path::Path;
use std::process::Command;

use git2::Oid;
use tempfile::TempDir;

use super::Settings;
use super::child::{self, Ended, Limits};
use super::early_end::EarlyEnd;
use super::files::{children, is_sealed, put_away};
use super::index_pack::{child_limits, join};
use super::layout::Own;
use super::object_ids::ids_after;
use super::odb::ObjectDb;

/// An object of this size, in bytes, is not read into memory, and not brought back.
const LARGE: usize = 64 << 20;
/// The ids that are held at a time.
const SLICE: usize = 10_000;

/// Salvages the packs of one repository.
pub(super) struct Salvage<'a> {
    pub(super) settings: &'a Settings,
    /// The sidecar's own folder on the repository's file system.
    pub(super) own: Own<'a>,
    pub(super) git_dir: &'a Path,
}

impl Salvage<'_> {
    /// Puts a pack away, index first: git reads a pack only through its index. An index over several packs would lead
    /// to the pack that is gone, so it goes too. The intact objects of the pack are there again at the end. Of a pack
    /// that is intact, only the index is replaced. Returns the number of files that were put away. Blocks.
    ///
    /// # Errors
    /// The disk failed, or has no room for the intact objects ([`is_full`]): the pack is in its place then.
    pub(super) fn put_pack_away(&self, index: &Path) -> Result<u64> {
        let pack = index.with_extension("pack");
        match self.reindexed(&pack) {
            Ok(Some(folder)) => return self.put_index_away(index, &folder),
            Ok(None) => {}
            Err(error) if is_full(&error) => return Err(error),
            Err(error) => tracing::warn!(pack = %pack.display(), %error, "a pack gets no new index"),
        }
        let intact = match self.intact(index, &pack) {
            Ok(intact) => intact,
            // The pack stays until there is room: most of its objects may be intact.
            Err(error) if is_full(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(pack = %pack.display(), %error, "no object of a damaged pack is brought back");
                None
            }
        };
        let paths = [index, &pack, &index.with_file_name("multi-pack-index")];
        let put_all_away = || paths.into_iter().map(put_away).sum::<Result<u64>>();
        let Some((folder, objects)) = intact else { return put_all_away() };
        // The new pack joins first, so that its objects are there at any moment, and after a crash. Only one that has
        // the name of the old pack must wait until that is gone.
        let new = children(&folder.path().join("pack"))?;
        let renamed = if new.iter().any(|path| path.file_name() == pack.file_name()) {
            let renamed = put_all_away()?;
            join(self.git_dir, &folder)?;
            renamed
        } else {
            join(self.git_dir, &folder)?;
            put_all_away()?
        };
        tracing::warn!(pack = %pack.display(), objects, "a damaged pack was put away, and its intact objects kept");
        Ok(renamed)
    }

    /// Puts a new index in the place of a damaged one, which stays beside it, renamed. Returns the number of files that
    /// were put away.
    fn put_index_away(&self, index: &Path, folder: &TempDir) -> Result<u64> {
        let aside = index.with_added_extension("garbled");
        put_away(&aside)?;
        // The name goes over to the new file in one step: at no moment is the pack without an index.
        std::fs::copy(index, &aside)?;
        join(self.git_dir, folder)?;
        tracing::warn!(index = %index.display(), "the index of an intact pack was damaged: git has made a new one");
        Ok(1 + put_away(&index.with_file_name("multi-pack-index"))?)
    }

    /// Has git make a new index of a pack. Returns its folder, or `None` if the pack is damaged itself.
    fn reindexed(&self, pack: &Path) -> Result<Option<TempDir>> {
        let has_a_usual_name = pack.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"pack-"));
        if !has_a_usual_name || !is_sealed(pack)? {
            return Ok(None);
        }
        let folder = tempfile::tempdir_in(self.own.tmp())?;
        std::fs::create_dir(folder.path().join("pack"))?;
        let linked = folder.path().join("pack").join(pack.file_name().unwrap_or_default());
        link(pack, &linked)?;
        let limits = child_limits(self.settings, self.git_dir)?;
        let mut command = self.git(folder.path());
        command.args(["index-pack", "--threads=1"]).arg(&linked);
        let ended = self.run(command, Some(limits), File::open("/dev/null")?)?;
        let error = failed("index-pack", &ended);
        if is_full(&error) { Err(error) } else { Ok(ended.status.success().then_some(folder)) }
    }

    /// Makes a new pack of the intact objects of a pack. Returns its folder, and their number. `None` if there are
    /// none.
    fn intact(&self, index: &Path, pack: &Path) -> Result<Option<(TempDir, u64)>> {
        let folder = tempfile::tempdir_in(self.own.tmp())?;
        std::fs::create_dir(folder.path().join("pack"))?;
        let (by_index, unpacked) = (folder.path().join("by-index"), folder.path().join("unpacked"));
        for place in [&by_index, &unpacked] {
            std::fs::create_dir_all(place.join("objects/pack"))?;
        }
        for file in [index, pack] {
            link(file, &by_index.join("objects/pack").join(file.file_name().unwrap_or_default()))?;
        }
        let mut objects = self.pack_readable(&by_index, &folder)?;
        if objects == 0 {
            // Unpacked objects may fill the disk by themselves, each time: that is no reason to wait for room.
            let unpack = || self.unpack(pack, &unpacked).and_then(|()| self.pack_readable(&unpacked, &folder));
            objects = unpack().map_err(Error::other)?;
        }
        Ok((objects > 0).then_some((folder, objects)))
    }

    /// Has git pack the objects of a place that can be read, if there are any. Returns their number.
    fn pack_readable(&self, place: &Path, folder: &TempDir) -> Result<u64> {
        let mut names = BufWriter::new(tempfile::tempfile_in(self.own.tmp())?);
        let objects = name_readable(place, &mut names)?;
        if objects > 0 {
            let names = names.into_inner().map_err(|error| error.into_error())?;
            self.pack(place, names, &folder.path().join("pack/pack"))?;
        }
        Ok(objects)
    }

    /// Has git unpack as many objects of a pack as it can. It ends with an error, because it cannot do so with all.
    fn unpack(&self, pack: &Path, place: &Path) -> Result<()> {
        let limits = child_limits(self.settings, self.git_dir)?;
        let mut command = self.git(&place.join("objects"));
        command.args(["unpack-objects", "-r", "-q"]);
        self.run(command, Some(limits), File::open(pack)?).map(drop)
    }

    /// Has git pack the named objects of a place. It takes them over as they are stored.
    fn pack(&self, place: &Path, mut names: File, target: &Path) -> Result<()> {
        names.rewind()?;
        let mut command = self.git(&place.join("objects"));
        command.args(["pack-objects", "--delta-base-offset", "--window=0", "--threads=1", "-q"]).arg(target);
        let ended = self.run(command, None, names)?;
        if ended.status.success() {
            return Ok(());
        }
        Err(failed("pack-objects", &ended))
    }

    /// A git command for the repository, with its objects in another folder.
    fn git(&self, objects: &Path) -> Command {
        let mut command = child::git(self.settings, self.git_dir);
        command.env("GIT_OBJECT_DIRECTORY", objects);
        command
    }

    /// Runs a git to its end.
    fn run(&self, command: Command, limits: Option<Limits>, input: File) -> Result<Ended> {
        let tmp = self.own.tmp();
        child::run(command, limits, &EarlyEnd::default(), input, tempfile::tempfile_in(&tmp)?, &tmp)
    }
}

/// The error of a git that has failed. That the disk is full is told from damage.
fn failed(command: &str, ended: &Ended) -> Error {
    let full = ["No space left on device", "Disk quota exceeded"];
    let is_full = full.iter().any(|sign| ended.stderr.contains(sign));
    let kind = if is_full { ErrorKind::StorageFull } else { ErrorKind::Other };
    Error::new(kind, format!("git {command}: {}: {}", ended.status, ended.stderr))
}

/// Whether a pack could not be salvaged for want of room. It is still in its place then.
pub(super) fn is_full(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Gives a file a second name. One that cannot have any is copied: it is on another file system, or it belongs to
/// somebody else, and the kernel protects it.
fn link(file: &Path, name: &Path) -> Result<()> {
    match std::fs::hard_link(file, name) {
        Err(error) if error.kind() != ErrorKind::NotFound => std::fs::copy(file, name).map(drop),
        linked => linked,
    }
}

/// Writes the ids of all objects of a place that can be read, one per line. Returns their number.
fn name_readable(place: &Path, names: &mut impl Write) -> Result<u64> {
    let objects = ObjectDb::of_folder(&place.join("objects")).map_err(Error::other)?;
    let is_readable = |id: Oid| objects.header(id).is_ok_and(|(size, _)| size < LARGE) && objects.read(id).is_ok();
    let (mut after, mut count) = (None, 0);
    loop {
        let ids = ids_after(place, after, SLICE)?;
        for id in ids.iter().filter(|id| is_readable(**id)) {
            writeln!(names, "{id}")?;
            count += 1;
        }
        match ids.last() {
            Some(last) if ids.len() == SLICE => after = Some(*last),
            _ => return Ok(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Stdio;

    use git2::Repository;

    use super::*;
    use crate::seams::git::files::has_extension;

    /// A repository with a pack of four blobs, of which no ref needs any, and nothing else.
    struct World {
        folder: TempDir,
        settings: Settings,
        blobs: Vec<Oid>,
        index: PathBuf,
    }

    impl World {
        fn new() -> Self {
            let (folder, settings) = (tempfile::tempdir().unwrap(), Settings::default());
            let git_dir = folder.path().join("p.git");
            let repository = Repository::init_bare(&git_dir).unwrap();
            let blobs: Vec<Oid> =
                (0..4).map(|number| repository.blob(format!("blob number {number}").as_bytes()).unwrap()).collect();
            let ids: String = blobs.iter().map(|oid| format!("{oid}\n")).collect();
            let names = folder.path().join("names");
            std::fs::write(&names, ids).unwrap();
            let mut command = child::git(&settings, &git_dir);
            command.args(["pack-objects", "-q"]).arg(git_dir.join("objects/pack/pack"));
            command.stdin(File::open(names).unwrap()).stdout(Stdio::null());
            assert!(command.status().unwrap().success());
            let own = Own { root: folder.path() };
            std::fs::create_dir_all(own.tmp()).unwrap();
            assert!(child::git(&settings, &git_dir).args(["prune-packed", "-q"]).status().unwrap().success());
            let packs = children(&git_dir.join("objects/pack")).unwrap();
            let index = packs.into_iter().find(|path| has_extension(path, "idx")).unwrap();
            Self { folder, settings, blobs, index }
        }

        fn git_dir(&self) -> PathBuf {
            self.folder.path().join("p.git")
        }

        fn pack(&self) -> PathBuf {
            self.index.with_extension("pack")
        }

        /// The blobs in the order of the pack, each with its position.
        fn entries(&self) -> Vec<(usize, Oid)> {
            let mut command = child::git(&self.settings, &self.git_dir());
            let output = command.arg("show-index").stdin(File::open(&self.index).unwrap()).output().unwrap();
            let entry = |line: &str| {
                let mut words = line.split(' ');
                let at = words.next().unwrap().parse::<usize>().unwrap();
                (at, Oid::from_str(words.next().unwrap()).unwrap())
            };
            let mut entries: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(entry).collect();
            entries.sort_unstable();
            entries
        }

        fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
            let mut content = std::fs::read(path).unwrap();
            change(&mut content);
            std::fs::remove_file(path).unwrap();
            std::fs::write(path, content).unwrap();
        }

        fn put_away(&self) -> Result<u64> {
            let (git_dir, own) = (self.git_dir(), Own { root: self.folder.path() });
            let ended = Salvage { settings: &self.settings, own, git_dir: &git_dir }.put_pack_away(&self.index);
            assert_eq!(children(&own.tmp()).unwrap(), Vec::<PathBuf>::new(), "nothing stays behind");
            ended
        }

        /// Puts the pack away, and returns the blobs that are there then.
        fn left(&self) -> Vec<Oid> {
            assert_eq!(self.put_away().unwrap(), 2);
            assert!(self.pack().with_added_extension("garbled").exists());
            self.there()
        }

        /// The blobs that are there, as git sees it.
        fn there(&self) -> Vec<Oid> {
            let reads = |oid: &Oid| {
                let mut command = child::git(&self.settings, &self.git_dir());
                command.args(["cat-file", "blob", &oid.to_string()]);
                command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
            };
            self.blobs.iter().copied().filter(reads).collect()
        }

        fn all_but(&self, lost: Oid) -> Vec<Oid> {
            self.blobs.iter().copied().filter(|oid| *oid != lost).collect()
        }
    }

    #[test]
    fn one_damaged_object_takes_no_other_one_of_its_pack_along() {
        for place in 0..4 {
            let world = World::new();
            let (at, damaged) = world.entries()[place];
            World::rewrite(&world.pack(), |content| content[at + 6] ^= 0xff);
            assert_eq!(world.left(), world.all_but(damaged), "the entry {place}");
        }
    }

    #[test]
    fn a_pack_without_a_readable_index_is_unpacked_as_far_as_it_goes() {
        for length in [10, usize::MAX] {
            let world = World::new();
            let (_, last) = world.entries()[3];
            World::rewrite(&world.index, |content| content.truncate(length));
            World::rewrite(&world.pack(), |content| content.truncate(content.len() - 25));
            assert_eq!(world.left(), world.all_but(last), "the end of the pack is cut off");
        }
    }

    /// The names of the index begin behind its head and its counts.
    #[test]
    fn an_intact_pack_stays_and_gets_a_new_index() {
        let damages: [fn(&mut Vec<u8>); 2] = [|content| content.truncate(10), |content| content[8 + 1024 + 5] ^= 0xff];
        for damage in damages {
            let world = World::new();
            World::rewrite(&world.index, damage);
            assert_ne!(world.there(), world.blobs);
            assert_eq!(world.put_away().unwrap(), 1);
            assert_eq!(world.there(), world.blobs);
            assert!(world.pack().exists() && !world.pack().with_added_extension("garbled").exists());
            assert!(is_sealed(&world.index).unwrap() && world.index.with_added_extension("garbled").exists());
        }
    }

    #[test]
    fn the_intact_objects_are_there_before_the_damaged_pack_goes() {
        let world = World::new();
        let (at, damaged) = world.entries()[1];
        World::rewrite(&world.pack(), |content| content[at + 6] ^= 0xff);
        std::fs::create_dir(world.pack().with_added_extension("garbled")).unwrap();
        assert!(world.put_away().is_err(), "its name is taken by a folder");
        assert_eq!(world.there(), world.all_but(damaged));
    }

    #[test]
    fn a_damaged_pack_stays_while_the_disk_has_no_room_for_its_intact_objects() {
        let world = World::new();
        let (at, damaged) = world.entries()[1];
        World::rewrite(&world.pack(), |content| content[at + 6] ^= 0xff);
        let full = world.folder.path().join("a-git-on-a-full-disk");
        // A child process writes it. A file that this process has open for writing could not be executed while other
        // tests run.
        let says = "#!/bin/sh\necho 'fatal: write error: No space left on device' >&2\nexit 128\n";
        let write = ["-c", "printf %s \"$1\" > \"$2\" && chmod 700 \"$2\"", "sh", says];
        assert!(std::process::Command::new("sh").args(write).arg(&full).status().unwrap().success());
        let settings = Settings { git: full, ..Settings::default() };
        let world = World { settings, ..world };
        assert!(is_full(&world.put_away().unwrap_err()) && world.index.exists() && world.pack().exists());
        let world = World { settings: Settings::default(), ..world };
        assert_eq!(world.there(), world.all_but(damaged));
    }

    #[test]
    fn a_pack_of_which_nothing_can_be_read_is_put_away_all_the_same() {
        let world = World::new();
        World::rewrite(&world.pack(), |content| content.fill(0));
        assert!(world.left().is_empty());
    }
}
