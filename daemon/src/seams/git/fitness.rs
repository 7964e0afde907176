//! Tells whether Lockstep can take a repository, before anything of it is committed.
//!
//! [`look`] is the one check: `lockstep hook install`, `import` and `seed` use it alike. `docs/git-servers.md` has its
//! table, with the test of each row. A repository that is [`Unfit`] is refused as a whole. A ref that does not fit is
//! left out, with its reason, and everything else of the repository goes through.

use std::path::{Path, PathBuf};

use git2::Config;
use lockstep_proto::RefName;

use super::ref_files::{self, Shown};
use crate::base::ref_names::{self, RefClass, shown};

/// A property of a repository that Lockstep does not support, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// There is no repository, or it is damaged.
    #[error("it is not a git repository ({0}); give the folder of a bare repository")]
    NoRepository(String),
    /// It has a work tree of its own.
    #[error("it has a work tree, and Lockstep supports bare repositories only; use `git clone --bare`")]
    WorkTree,
    /// Other work trees are linked to it.
    #[error("work trees are linked to it ({0}); remove them with `git worktree remove`, and `git worktree prune`")]
    LinkedWorkTrees(String),
    /// Its history ends early.
    #[error("it is shallow, so objects of its history are missing; complete it with `git fetch --unshallow`")]
    Shallow,
    /// Objects are missing on purpose.
    #[error(
        "it is a partial clone ({0}), so objects are missing; clone it again without --filter, with \
         `git clone --mirror`"
    )]
    Partial(String),
    /// It uses the objects of other repositories.
    #[error(
        "it borrows objects from {}, which may go away; copy them with `git repack -a -d`, and then remove the file {}",
        from.display(), file.display()
    )]
    Borrows {
        /// The first folder of objects that it borrows.
        from: PathBuf,
        /// The file that says so.
        file: PathBuf,
    },
    /// Parents of commits are replaced.
    #[error("parents of its commits are replaced in {0:?}; run `git replace --convert-graft-file` in it")]
    Grafts(PathBuf),
    /// Its objects have other names.
    #[error(
        "its objects have SHA-256 names (extensions.objectFormat), and Lockstep supports SHA-1 repositories only; copy \
         its history into a new one: `git fast-export --all | git -C NEW fast-import`"
    )]
    ObjectFormat,
    /// Its refs are not in files.
    #[error(
        "its refs are not stored in files (extensions.refStorage); run `git refs migrate --ref-format=files` in it"
    )]
    RefStorage,
    /// It has an extension of git that Lockstep does not know.
    #[error(
        "its setting {0} is not supported; if nothing needs it, unset it in the repository's folder: `git config \
         --file config --unset {0}`"
    )]
    Extension(String),
    /// `HEAD` names no branch.
    #[error("its HEAD is detached; point it to a branch with `git symbolic-ref HEAD refs/heads/...`")]
    DetachedHead,
    /// `HEAD` names a ref that Lockstep does not take.
    #[error("its HEAD names {name}, which {why}; point it to a branch with `git symbolic-ref HEAD refs/heads/...`")]
    Head {
        /// The name, as git quotes it.
        name: String,
        /// The rule that it breaks.
        why: String,
    },
}

/// A ref that Lockstep does not replicate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The name, as git quotes it.
    pub name: String,
    /// The reason and the remedy, as the end of a sentence.
    pub why: String,
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.name, self.why)
    }
}

/// The result of the check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fitness {
    /// The reasons why the repository is refused. Empty if it is fit.
    pub unfit: Vec<Unfit>,
    /// The refs that would be left out, in the order of their names.
    pub left_out: Vec<LeftOut>,
}

/// Looks at the repository with this git folder. Blocks.
///
/// # Errors
/// A file cannot be read.
pub fn look(git_dir: &Path) -> std::io::Result<Fitness> {
    let mut fitness = Fitness::default();
    if !git_dir.join("objects").is_dir() || !git_dir.join("HEAD").exists() && !git_dir.join("HEAD").is_symlink() {
        let why = "it has no folder `objects`, or no file `HEAD`".to_owned();
        return Ok(Fitness { unfit: vec![Unfit::NoRepository(why)], ..fitness });
    }
    let unfit = &mut fitness.unfit;
    settings(git_dir, unfit);
    unfit.extend(work_trees(git_dir)?);
    if content(&git_dir.join("shallow"))?.is_some() {
        unfit.push(Unfit::Shallow);
    }
    unfit.extend(promised(git_dir)?);
    unfit.extend(borrowed(git_dir)?);
    let grafts = git_dir.join("info/grafts");
    if content(&grafts)?.is_some() {
        unfit.push(Unfit::Grafts(grafts));
    }
    // Its refs cannot be read, and beside a reftable `HEAD` is a stub.
    if unfit.contains(&Unfit::RefStorage) || unfit.contains(&Unfit::ObjectFormat) {
        return Ok(fitness);
    }
    unfit.extend(head(git_dir)?);
    fitness.left_out = left_out(git_dir)?;
    Ok(fitness)
}

/// The extensions that change nothing for Lockstep.
const HARMLESS: [&str; 4] =
    ["extensions.noop", "extensions.preciousobjects", "extensions.worktreeconfig", "extensions.relativeworktrees"];

fn settings(git_dir: &Path, unfit: &mut Vec<Unfit>) {
    let mut read = || {
        let config = Config::open(&git_dir.join("config"))?;
        if git_dir.ends_with(".git") || config.get_bool("core.bare").is_ok_and(|bare| !bare) {
            unfit.push(Unfit::WorkTree);
        }
        config.entries(Some("^(extensions\\..*|remote\\..*\\.(promisor|partialclonefilter))$"))?.for_each(|entry| {
            let (name, value) = (entry.name().unwrap_or_default(), entry.value().unwrap_or_default());
            unfit.extend(of_setting(name, value));
        })
    };
    if let Err(error) = read() {
        let why: git2::Error = error;
        unfit.push(Unfit::NoRepository(why.message().to_owned()));
    }
}

fn of_setting(name: &str, value: &str) -> Option<Unfit> {
    match (name, value.to_ascii_lowercase().as_str()) {
        ("extensions.objectformat", "sha1") | ("extensions.refstorage", "files") => None,
        ("extensions.objectformat", _) => Some(Unfit::ObjectFormat),
        ("extensions.refstorage", _) => Some(Unfit::RefStorage),
        (name, "false") if name.starts_with("remote.") => None,
        (name, _) if name == "extensions.partialclone" || name.starts_with("remote.") => {
            Some(Unfit::Partial(name.to_owned()))
        }
        (name, _) if HARMLESS.contains(&name) => None,
        (name, _) => Some(Unfit::Extension(name.to_owned())),
    }
}

fn work_trees(git_dir: &Path) -> std::io::Result<Option<Unfit>> {
    let names: Vec<String> = files(&git_dir.join("worktrees"))?
        .iter()
        .filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .collect();
    Ok((!names.is_empty()).then(|| Unfit::LinkedWorkTrees(names.join(", "))))
}

/// Packs of a partial clone.
fn promised(git_dir: &Path) -> std::io::Result<Option<Unfit>> {
    let packs = files(&git_dir.join("objects/pack"))?;
    let promise = packs.into_iter().find(|path| path.extension().is_some_and(|end| end == "promisor"));
    Ok(promise.map(|path| Unfit::Partial(path.display().to_string())))
}

fn borrowed(git_dir: &Path) -> std::io::Result<Option<Unfit>> {
    use std::os::unix::ffi::OsStrExt;
    let info = git_dir.join("objects/info");
    for file in [info.join("alternates"), info.join("http-alternates")] {
        let Some(text) = content(&file)? else { continue };
        let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && !line.starts_with(b"#"));
        if let Some(from) = lines.next().map(|line| PathBuf::from(std::ffi::OsStr::from_bytes(line))) {
            return Ok(Some(Unfit::Borrows { from, file }));
        }
    }
    Ok(None)
}

fn head(git_dir: &Path) -> std::io::Result<Option<Unfit>> {
    let file = git_dir.join("HEAD");
    if file.is_symlink() {
        return Ok(Some(Unfit::DetachedHead));
    }
    let text = std::fs::read(file)?;
    let Some(target) = text.strip_prefix(b"ref:") else { return Ok(Some(Unfit::DetachedHead)) };
    let target = target.trim_ascii();
    Ok(misnamed(target).map(|why| Unfit::Head { name: shown(target), why }))
}

/// The rule that a name breaks; `None` if Lockstep takes it.
fn misnamed(name: &[u8]) -> Option<String> {
    let Ok(text) = std::str::from_utf8(name) else { return Some("is not UTF-8".to_owned()) };
    match text.parse::<RefName>() {
        Ok(name) => ref_names::classify(&name).err().map(str::to_owned),
        Err(error) => Some(error.why.to_owned()),
    }
}

/// Whether each site has refs of this name for itself.
fn is_local(name: &[u8]) -> bool {
    let parsed = std::str::from_utf8(name).ok().and_then(|text| text.parse::<RefName>().ok());
    name.starts_with(b"refs/lockstep/") || parsed.is_some_and(|name| ref_names::classify(&name) == Ok(RefClass::Local))
}

fn left_out(git_dir: &Path) -> std::io::Result<Vec<LeftOut>> {
    let mut left_out = Vec::new();
    for (name, content) in ref_files::list_all(git_dir, "refs/")? {
        let why = match (misnamed(&name), content) {
            _ if is_local(&name) => continue,
            (_, Shown::Symbolic(target)) => format!(
                "is a symbolic ref to {}, which Lockstep does not replicate; delete it with `git symbolic-ref --delete \
                 {}`",
                shown(&target),
                in_shell(&name)
            ),
            (Some(why), Shown::Direct(_)) => {
                format!("{why}; rename it, or delete it with `git update-ref --no-deref -d {}`", in_shell(&name))
            }
            (None, Shown::Direct(_)) => continue,
        };
        left_out.push(LeftOut { name: shown(&name), why });
    }
    Ok(left_out)
}

/// The name as a word of a shell.
fn in_shell(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) if name.iter().all(|byte| octal(*byte).len() == 1) => text.to_owned(),
        Ok(text) if !text.contains('\'') => format!("'{text}'"),
        _ => format!("\"$(printf '{}')\"", name.iter().map(|byte| octal(*byte)).collect::<String>()),
    }
}

fn octal(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("\\{byte:03o}"),
    }
}

/// The content of a small file; `None` if it is absent or empty.
fn content(file: &Path) -> std::io::Result<Option<Vec<u8>>> {
    match std::fs::read(file) {
        Ok(text) => Ok((!text.trim_ascii().is_empty()).then_some(text)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The files of a folder; none if it is absent.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}
