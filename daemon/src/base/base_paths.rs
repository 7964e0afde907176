//! The folder below which the repository of each project lies: the root, or a base path for some projects.
//!
//! Patterns match as in Gerrit's sections `repository.*`. A pattern matches the project of this name. If it ends with
//! `*`, it matches every name that begins with the text before the `*`. If several patterns match, the longest counts.
//! In each folder the repository of project `p` is `<folder>/p.git`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lockstep_proto::gerrit::BasePath;
use lockstep_proto::{ProjectName, status::NodeStatus};

/// The end of a pattern that matches every name with the same beginning.
const ANY: char = '*';
/// A character that no project's name contains. After the beginning of a pattern, it makes a name that the pattern
/// matches and that no other pattern spells out.
const NOBODY: char = '\u{1}';

/// The root and the base paths of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasePaths {
    root: PathBuf,
    others: BTreeMap<String, PathBuf>,
}

/// Projects for which two nodes, or a node and its Gerrit, have different folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The pattern of these projects. None for all projects that no pattern matches.
    pub projects: Option<String>,
    /// Their folder on this side.
    pub ours: PathBuf,
    /// Their folder on the other side.
    pub theirs: PathBuf,
}

/// Why the folders cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The root does not exist, or cannot be read.
    #[error("{}: {error}", path.display())]
    Root {
        /// The path of the folder, as set.
        path: PathBuf,
        /// The answer of the operating system.
        error: std::io::Error,
    },
    /// The folder of a base path does not exist, or cannot be read.
    #[error(
        "base path of {projects}: {}: {error}; mount its file system, or create the folder, then start again",
        path.display()
    )]
    BasePath {
        /// The pattern of the base path.
        projects: String,
        /// The path of the folder, as set.
        path: PathBuf,
        /// The answer of the operating system.
        error: std::io::Error,
    },
    /// The first folder lies in the second.
    #[error("{} lies in {}; {}", inner.display(), outer.display(), APART)]
    Nested {
        /// The folder that lies in the other.
        inner: PathBuf,
        /// The folder around it.
        outer: PathBuf,
    },
}

impl BasePaths {
    /// All projects lie below one folder.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), others: BTreeMap::new() }
    }

    /// Some projects, given by pattern, lie below other folders than `root`.
    #[must_use]
    pub fn new(root: PathBuf, others: BTreeMap<String, PathBuf>) -> Self {
        Self { root, others }
    }

    /// The folders as a Gerrit sent them. None if it sent no root.
    #[must_use]
    pub fn told(root: Option<&str>, others: &[BasePath]) -> Option<Self> {
        let root = PathBuf::from(root?);
        let folder = |one: &BasePath| one.path.as_ref().map_or_else(|| root.clone(), PathBuf::from);
        let others = others.iter().map(|one| (one.projects.clone(), folder(one))).collect();
        Some(Self { root, others })
    }

    /// The folders as the status of a sidecar states them. None if it states no root.
    #[must_use]
    pub fn of_status(status: &NodeStatus) -> Option<Self> {
        Self::told(status.root.as_deref(), &status.base_paths)
    }

    /// The folder of all projects that no pattern matches. The sidecar keeps its own files there, too.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The patterns and their folders, as the API sends them.
    #[must_use]
    pub fn sections(&self) -> Vec<BasePath> {
        let entry = |(projects, path): (&String, &PathBuf)| BasePath {
            projects: projects.clone(),
            path: Some(path.display().to_string()),
        };
        self.others.iter().map(entry).collect()
    }

    /// The folder of a pattern, if there is this very pattern.
    #[must_use]
    pub fn entry(&self, projects: &str) -> Option<&Path> {
        self.others.get(projects).map(PathBuf::as_path)
    }

    /// Every folder once, the root first.
    #[must_use]
    pub fn all(&self) -> Vec<&Path> {
        let others: BTreeSet<&Path> =
            self.others.values().map(PathBuf::as_path).filter(|it| *it != self.root).collect();
        std::iter::once(self.root()).chain(others).collect()
    }

    /// The folder below which a project's repository lies.
    #[must_use]
    pub fn of(&self, project: &ProjectName) -> &Path {
        self.folder(project.as_str())
    }

    /// The path of a project's repository, whether it exists or not.
    #[must_use]
    pub fn git_dir(&self, project: &ProjectName) -> PathBuf {
        self.of(project).join(format!("{project}.git"))
    }

    /// Splits the path of a repository into the folder that it lies below and the name of the project that it has
    /// there. [`BasePaths::of`] tells whether the project belongs there.
    #[must_use]
    pub fn at_path<'a>(&self, path: &'a Path) -> Option<(&Path, &'a str)> {
        let root = self.all().into_iter().find(|root| path.starts_with(root))?;
        let name = path.strip_prefix(root).ok()?.to_str()?.strip_suffix(".git")?;
        Some((root, name))
    }

    /// The same folders with symbolic links resolved. Each folder must exist, and none may lie in another one.
    ///
    /// # Errors
    /// A folder does not exist, or one lies in another.
    pub fn resolve(&self) -> Result<Self, ResolveError> {
        let mut others = BTreeMap::new();
        for (projects, path) in &self.others {
            let missing = |error| ResolveError::BasePath { projects: projects.clone(), path: path.clone(), error };
            others.insert(projects.clone(), path.canonicalize().map_err(missing)?);
        }
        let missing = |error| ResolveError::Root { path: self.root.clone(), error };
        let resolved = Self { root: self.root.canonicalize().map_err(missing)?, others };
        match resolved.nested() {
            Some((inner, outer)) => Err(ResolveError::Nested { inner: inner.to_owned(), outer: outer.to_owned() }),
            None => Ok(resolved),
        }
    }

    /// The same folders with symbolic links resolved. Folders that this process cannot see stay as they are.
    #[must_use]
    pub fn seen(&self) -> Self {
        let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
        let others = self.others.iter().map(|(projects, path)| (projects.clone(), real(path)));
        Self { root: real(&self.root), others: others.collect() }
    }

    /// Two folders of which the first lies in the second, if there are any.
    #[must_use]
    pub fn nested(&self) -> Option<(&Path, &Path)> {
        let all = self.all();
        let pairs = all.iter().flat_map(|inner| all.iter().map(move |outer| (*inner, *outer)));
        pairs.into_iter().find(|(inner, outer)| inner != outer && inner.starts_with(outer))
    }

    /// Two patterns of the same length that match one project and have different folders. Gerrit takes the one that
    /// comes first in its file.
    #[must_use]
    pub fn tie(&self) -> Option<(&str, &str)> {
        let names = self.others.keys().filter(|pattern| !pattern.ends_with(ANY));
        let mut pairs = names.flat_map(|name| self.others.keys().map(move |other| (name.as_str(), other.as_str())));
        pairs.find(|(name, other)| {
            name != other
                && fits(other, name)
                && length(name) == length(other)
                && self.others.get(*name) != self.others.get(*other)
        })
    }

    /// The projects whose folders differ. Two folders are the same if their paths are equal, or if they are one folder
    /// on disk.
    #[must_use]
    pub fn disagreements(&self, theirs: &Self) -> Vec<Disagreement> {
        let patterns: BTreeSet<&String> = self.others.keys().chain(theirs.others.keys()).collect();
        let all = std::iter::once(None).chain(patterns.into_iter().map(Some));
        let differ = all.filter_map(|projects| {
            let name = projects.map_or_else(|| NOBODY.to_string(), |projects| example(projects));
            let (ours, theirs) = (self.folder(&name), theirs.folder(&name));
            let told =
                || Disagreement { projects: projects.cloned(), ours: ours.to_owned(), theirs: theirs.to_owned() };
            (!is_same(ours, theirs)).then(told)
        });
        differ.collect()
    }

    fn folder(&self, project: &str) -> &Path {
        let fitting = self.others.iter().filter(|(pattern, _)| fits(pattern, project));
        fitting.max_by_key(|(pattern, _)| length(pattern)).map_or(&self.root, |(_, path)| path)
    }
}

/// The next step when a folder lies in another one.
pub const APART: &str = "give each a folder that is in none of the others";

/// Whether a pattern matches a project.
fn fits(pattern: &str, project: &str) -> bool {
    pattern == project || pattern.strip_suffix(ANY).is_some_and(|beginning| project.starts_with(beginning))
}

/// The length as Java counts it, so that a tie here is a tie in Gerrit.
fn length(pattern: &str) -> usize {
    pattern.encode_utf16().count()
}

/// A name that the pattern matches. Another pattern matches this name only if it matches every name of this pattern.
fn example(pattern: &str) -> String {
    pattern.strip_suffix(ANY).map_or_else(|| pattern.to_owned(), |beginning| format!("{beginning}{NOBODY}"))
}

/// Whether two paths are equal, or lead to the same file or folder on disk.
#[must_use]
pub fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    one == other || identity(one).is_some_and(|one| Some(one) == identity(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base_paths(others: &[(&str, &str)]) -> BasePaths {
        let others = others.iter().map(|(projects, path)| ((*projects).to_owned(), PathBuf::from(*path))).collect();
        BasePaths::new("/git".into(), others)
    }

    fn folder(base_paths: &BasePaths, project: &str) -> String {
        base_paths.of(&project.parse().unwrap()).display().to_string()
    }

    #[test]
    fn the_longest_pattern_counts_as_in_gerrit() {
        let base_paths =
            base_paths(&[("big/*", "/big"), ("big/huge/*", "/huge"), ("big/small", "/git"), ("one", "/one")]);
        for (project, wanted) in [
            ("app", "/git"),
            ("big", "/git"),
            ("big/x", "/big"),
            ("big/huge/x", "/huge"),
            ("big/small", "/git"),
            ("big/smaller", "/big"),
            ("one", "/one"),
            ("one/more", "/git"),
        ] {
            assert_eq!(folder(&base_paths, project), wanted, "{project}");
        }
    }

    /// `RepositoryConfig#findSubSection` compares lengths alone, so a pattern with `*` wins over the same name spelled
    /// out.
    #[test]
    fn a_beginning_is_longer_than_the_name_itself() {
        let base_paths = base_paths(&[("big", "/one"), ("big*", "/two")]);
        assert_eq!(folder(&base_paths, "big"), "/two");
        assert_eq!(base_paths.tie(), None);
    }

    #[test]
    fn a_tie_is_seen_only_where_it_matters() {
        assert_eq!(base_paths(&[("big", "/one"), ("bi*", "/two")]).tie(), Some(("big", "bi*")));
        assert_eq!(base_paths(&[("big", "/one"), ("bi*", "/one")]).tie(), None, "both have the same folder");
        assert_eq!(base_paths(&[("big", "/one"), ("bo*", "/two")]).tie(), None, "no project matches both");
    }

    #[test]
    fn every_folder_is_listed_once_and_a_nested_one_is_found() {
        let two = base_paths(&[("a/*", "/big"), ("b/*", "/big"), ("c", "/git")]);
        assert_eq!(two.all(), [Path::new("/git"), Path::new("/big")]);
        assert_eq!(two.nested(), None);
        assert!(base_paths(&[("a/*", "/git/big")]).nested().is_some_and(|(inner, _)| inner == Path::new("/git/big")));
        assert!(base_paths(&[("a/*", "/")]).nested().is_some_and(|(_, outer)| outer == Path::new("/")));
        assert!(base_paths(&[("a/*", "/big"), ("b/*", "/big/b")]).nested().is_some());
        assert_eq!(
            base_paths(&[("a/*", "/gitbig")]).nested(),
            None,
            "a folder whose name begins the same is not inside"
        );
    }

    #[test]
    fn a_path_says_which_project_it_is_below_which_folder() {
        let base_paths = base_paths(&[("big/*", "/big")]);
        assert_eq!(base_paths.at_path(Path::new("/git/big/x.git")), Some((Path::new("/git"), "big/x")));
        assert_eq!(base_paths.at_path(Path::new("/big/big/x.git")), Some((Path::new("/big"), "big/x")));
        assert_eq!(base_paths.at_path(Path::new("/elsewhere/app.git")), None);
        assert_eq!(base_paths.at_path(Path::new("/git/app")), None);
    }

    #[test]
    fn two_agree_when_every_project_lies_in_the_same_folder() {
        let ours = base_paths(&[("big/*", "/big")]);
        let section = |projects: &str, path: Option<&str>| BasePath {
            projects: projects.to_owned(),
            path: path.map(str::to_owned),
        };
        let gerrit = |others: &[BasePath]| BasePaths::told(Some("/git/"), others).unwrap();
        let big = section("big/*", Some("/big"));
        assert_eq!(ours.disagreements(&gerrit(std::slice::from_ref(&big))), []);
        let others = [section("*", None), big.clone(), section("app", None), section("big/huge/*", Some("/big"))];
        assert_eq!(ours.disagreements(&gerrit(&others)), [], "sections that change nothing");

        // A longer section without a path of its own puts its projects back below the root.
        let shadowed = ours.disagreements(&gerrit(&[big, section("big/small", None)]));
        let differs = |projects: Option<&str>, ours: &str, theirs: &str| Disagreement {
            projects: projects.map(str::to_owned),
            ours: ours.into(),
            theirs: theirs.into(),
        };
        assert_eq!(shadowed, [differs(Some("big/small"), "/big", "/git/")]);
        assert_eq!(ours.disagreements(&gerrit(&[])), [differs(Some("big/*"), "/big", "/git/")]);
        let moved = BasePaths::told(Some("/other"), &ours.sections()).unwrap();
        assert_eq!(ours.disagreements(&moved), [differs(None, "/git", "/other")]);
        assert_eq!(BasePaths::told(None, &[]), None);
    }

    #[test]
    fn links_are_the_folders_that_they_lead_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["git", "big"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        std::os::unix::fs::symlink(path("big"), path("link")).unwrap();
        let linked = |to: &str| BasePaths::new(path("git"), BTreeMap::from([("big/*".to_owned(), path(to))]));
        assert_eq!(linked("link").disagreements(&linked("big")), []);
        assert_eq!(linked("link").resolve().unwrap(), linked("big").resolve().unwrap());
        let why = linked("gone").resolve().unwrap_err().to_string();
        assert!(why.contains("base path of big/*") && why.contains("mount"), "{why}");
        assert_eq!(linked("gone").seen().entry("big/*"), Some(path("gone").as_path()));
        assert_eq!(linked("link").seen(), linked("big").resolve().unwrap());
        std::os::unix::fs::symlink(path("git"), path("big/back")).unwrap();
        let back = BasePaths::new(path("git"), BTreeMap::from([("a/*".to_owned(), path("big/back"))]));
        assert_eq!(back.resolve().unwrap().all().len(), 1, "a link to the root is the root");
        std::fs::create_dir(path("git/in")).unwrap();
        std::os::unix::fs::symlink(path("git/in"), path("hidden")).unwrap();
        assert!(linked("hidden").resolve().unwrap_err().to_string().contains("lies in"));
    }
}
