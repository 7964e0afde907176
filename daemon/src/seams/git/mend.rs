//! Finds damage in one repository while the sidecar runs: garbled files of objects and refs, and values that are not
//! complete.
//!
//! The start-up repair ([`super::repair`]) looks at young files after an unclean boot alone. Here every file is read,
//! so a look costs as much as a copy of the repository. Other programs may pack objects and collect garbage meanwhile:
//! a file that is gone when it is looked at is no damage.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Seek, Write};
use std::path::Path;

use lockstep_proto::{Oid, ProjectName};

use super::early_end::EarlyEnd;
use super::files::{children, has_extension, indexes, is_fan_out, is_sealed, put_away};
use super::layout::{Layout, failed};
use super::loose::is_intact;
use super::salvage::Salvage;
use super::{GitError, Settings, child, ref_files};

const LOOK: &str = "look for garbled files";
const WALK: &str = "walk the objects of values";

/// Signs of a failure in git's message that is none of the objects.
const OTHER: [&str; 8] = [
    "no space",
    "input/output",
    "permission denied",
    "not a git repository",
    "out of memory",
    "mmap failed",
    "unable to create thread",
    "dubious ownership",
];

/// Counts the garbled files of objects and loose refs, and takes them away if `away` says so: packs are renamed, index
/// first, and all others removed. Blocks.
pub(super) fn garbled(salvage: &Salvage<'_>, project: &ProjectName, away: bool) -> Result<u64, GitError> {
    let objects = look(salvage, away);
    let found = objects.and_then(|objects| Ok(objects + refs(&salvage.git_dir.join("refs"), away)?));
    found.map_err(|error| failed(project, LOOK, error))
}

fn refs(folder: &Path, away: bool) -> std::io::Result<u64> {
    let mut found = 0;
    for path in children(folder)? {
        if path.is_dir() {
            found += refs(&path, away)?;
            continue;
        }
        let content = std::fs::read(&path);
        let is_right = |content: Vec<u8>| content.starts_with(b"ref: ") || ref_files::parse_loose("", &content).is_ok();
        if has_extension(&path, "lock") || is_gone_or(content.map(is_right))? {
            continue;
        }
        found += 1;
        if away {
            is_gone_or(std::fs::remove_file(&path).map(|()| true))?;
        }
    }
    Ok(found)
}

fn look(salvage: &Salvage<'_>, away: bool) -> std::io::Result<u64> {
    let (objects, mut found) = (salvage.git_dir.join("objects"), 0);
    for index in indexes(&objects)? {
        let pack = index.with_extension("pack");
        if is_gone_or(is_sealed(&index))? && is_gone_or(is_sealed(&pack))? {
            continue;
        }
        found += 1;
        if away {
            salvage.put_pack_away(&index)?;
        }
    }
    let over_packs = objects.join("pack/multi-pack-index");
    if !is_gone_or(is_sealed(&over_packs))? {
        found += 1;
        if away {
            put_away(&over_packs)?;
        }
    }
    for folder in children(&objects)?.iter().filter(|path| is_fan_out(path)) {
        for path in children(folder)? {
            let is_temporary = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tmp_"));
            // The verification in the background renames a garbled object, and its copy stays for the operator.
            if is_temporary || has_extension(&path, "garbled") || is_gone_or(is_intact(&path))? {
                continue;
            }
            found += 1;
            if away {
                is_gone_or(std::fs::remove_file(&path).map(|()| true))?;
            }
        }
    }
    Ok(found)
}

/// The answer about a file, or true if the file is gone meanwhile.
fn is_gone_or(answer: std::io::Result<bool>) -> std::io::Result<bool> {
    match answer {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        answer => answer,
    }
}

/// Whether every object that these values need is present, by git's own walk. The contents of blobs are not read.
/// Blocks.
pub(super) fn is_complete(
    settings: &Settings,
    layout: &Layout,
    project: &ProjectName,
    git_dir: &Path,
    values: &[Oid],
) -> Result<bool, GitError> {
    if values.is_empty() {
        return Ok(true);
    }
    let ended = walk(settings, &layout.own(project).tmp(), git_dir, values);
    let ended = ended.map_err(|error| failed(project, WALK, error))?;
    let said = ended.stderr.to_lowercase();
    match ended.status.code() {
        Some(0) => Ok(true),
        Some(_) if !OTHER.iter().any(|sign| said.contains(sign)) => Ok(false),
        Some(_) | None => Err(failed(project, WALK, format!("{}: {}", ended.status, ended.stderr))),
    }
}

fn walk(settings: &Settings, tmp: &Path, git_dir: &Path, values: &[Oid]) -> std::io::Result<child::Ended> {
    let mut command = child::git(settings, git_dir);
    // A commit graph would vouch for commits that are not there.
    command.args(["-c", "core.commitGraph=false", "rev-list", "--objects", "--quiet", "--stdin"]);
    let mut input = BufWriter::new(tempfile::tempfile_in(tmp)?);
    for value in values {
        writeln!(input, "{value}")?;
    }
    let mut input = input.into_inner().map_err(|error| error.into_error())?;
    input.rewind()?;
    child::run(command, None, &EarlyEnd::default(), input, File::options().write(true).open("/dev/null")?, tmp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::git::layout::Own;

    fn project() -> ProjectName {
        "p".parse().expect("a name")
    }

    /// A repository with one loose object of this content. Returns its folder and the file of the object.
    fn with_blob(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let repository = git2::Repository::init_bare(folder.path()).expect("a repository");
        let digits = repository.blob(content).expect("a blob").to_string();
        let path = folder.path().join("objects").join(&digits[..2]).join(&digits[2..]);
        (folder, path)
    }

    fn look(folder: &Path, away: bool) -> Result<u64, GitError> {
        let own = Own { root: folder };
        std::fs::create_dir_all(own.tmp()).expect("a folder");
        garbled(&Salvage { settings: &Settings::default(), own, git_dir: folder }, &project(), away)
    }

    fn write(path: &Path, bytes: &[u8]) {
        let _ = std::fs::remove_file(path);
        std::fs::write(path, bytes).expect("written");
    }

    #[test]
    fn a_garbled_object_is_counted_first_and_removed_only_when_it_shall_go_away() {
        let (folder, path) = with_blob(b"content");
        let count = |away| look(folder.path(), away).expect("a look");
        assert_eq!(count(true), 0);
        for bytes in [&b""[..], b"\0\0\0\0"] {
            write(&path, bytes);
            assert_eq!((count(false), path.exists()), (1, true));
            assert_eq!((count(true), path.exists()), (1, false));
        }
        assert_eq!(count(false), 0);
        write(&path.with_file_name("tmp_obj_of_another_program"), b"half");
        assert_eq!(count(true), 0, "an object that is just written is no damage");
        let aside = path.with_added_extension("garbled");
        write(&aside, b"half");
        assert_eq!((count(true), aside.exists()), (0, true), "the verification has renamed it");
    }

    #[test]
    fn an_object_that_the_disk_does_not_give_is_not_taken_for_a_garbled_one() {
        let (folder, path) = with_blob(b"content");
        std::fs::remove_file(&path).expect("removed");
        // The read of a folder fails by an error of the system, as one from a bad sector does.
        std::fs::create_dir(&path).expect("a folder");
        assert!(look(folder.path(), false).is_err());
    }

    #[test]
    fn a_garbled_ref_is_removed_and_locks_and_symbolic_refs_are_not() {
        let (folder, _) = with_blob(b"content");
        let heads = folder.path().join("refs/heads");
        let bytes =
            [("good", "1".repeat(40)), ("symbolic", "ref: refs/heads/good".into()), ("held.lock", String::new())];
        for (name, content) in &bytes {
            write(&heads.join(name), content.as_bytes());
        }
        assert_eq!(look(folder.path(), true).expect("a look"), 0);
        write(&heads.join("empty"), b"");
        assert_eq!(look(folder.path(), true).expect("a look"), 1);
        assert_eq!(children(&heads).expect("a folder").len(), 3);
    }

    #[test]
    fn a_garbled_pack_is_renamed_with_its_index_and_the_one_over_several_packs() {
        let (folder, _) = with_blob(b"content");
        let packs = folder.path().join("objects/pack");
        for name in ["pack-1.pack", "pack-1.idx", "multi-pack-index"] {
            write(&packs.join(name), b"twenty bytes and a few more of them");
        }
        assert_eq!(look(folder.path(), true).expect("a look"), 1);
        let left: Vec<String> =
            children(&packs).expect("a folder").iter().map(|path| path.display().to_string()).collect();
        assert!(left.len() == 3 && left.iter().all(|path| path.ends_with(".garbled")), "{left:?}");
        write(&packs.join("multi-pack-index"), b"twenty bytes and a few more of them");
        assert_eq!(look(folder.path(), false).expect("a look"), 1);
        assert_eq!(look(folder.path(), true).expect("a look"), 1);
        assert!(!packs.join("multi-pack-index").exists(), "it goes away without a pack, too");
    }
}
