//! Below which folder the repository of each project lies: the root, or another one for some projects.
//!
//! Names are matched as Gerrit matches its sections `repository.*`: a name stands for itself, one that ends with `*` for all
//! names that begin so, and of several that fit the longest counts. The repository of project `p` is `<folder>/p.git` in each.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lockstep_proto::gerrit::BasePath;
use lockstep_proto::{ProjectName, status::NodeStatus};

/// Ends a pattern that stands for all names that begin so.
const ANY: char = '*';
/// No project's name begins, ends or goes on with it: what a pattern stands for beside the names that others spell out.
const NOBODY: char = '\u{1}';

/// The folders of the repositories of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    root: PathBuf,
    others: BTreeMap<String, PathBuf>,
}

/// Projects for which two nodes, or a node and its Gerrit, have different folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// A pattern; none for all projects that no pattern fits.
    pub projects: Option<String>,
    /// The folder of the one.
    pub ours: PathBuf,
    /// The folder of the other.
    pub theirs: PathBuf,
}

impl Roots {
    /// All projects below one folder.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), others: BTreeMap::new() }
    }

    /// Some projects, by pattern, below others.
    #[must_use]
    pub fn new(root: PathBuf, others: BTreeMap<String, PathBuf>) -> Self {
        Self { root, others }
    }

    /// As a Gerrit tells them; none when it does not.
    #[must_use]
    pub fn told(root: Option<&str>, others: &[BasePath]) -> Option<Self> {
        let root = PathBuf::from(root?);
        let folder = |one: &BasePath| one.path.as_ref().map_or_else(|| root.clone(), PathBuf::from);
        let others = others.iter().map(|one| (one.projects.clone(), folder(one))).collect();
        Some(Self { root, others })
    }

    /// As a sidecar tells them; none when it does not.
    #[must_use]
    pub fn of_status(status: &NodeStatus) -> Option<Self> {
        Self::told(status.root.as_deref(), &status.base_paths)
    }

    /// The folder of all projects that no pattern fits; the sidecar keeps its own things there.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The patterns and their folders, for others to be told.
    #[must_use]
    pub fn base_paths(&self) -> Vec<BasePath> {
        let entry = |(projects, path): (&String, &PathBuf)| BasePath {
            projects: projects.clone(),
            path: Some(path.display().to_string()),
        };
        self.others.iter().map(entry).collect()
    }

    /// The folder of one pattern.
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

    /// Where a project's repository is, or would be.
    #[must_use]
    pub fn git_dir(&self, project: &ProjectName) -> PathBuf {
        self.of(project).join(format!("{project}.git"))
    }

    /// The folder that a repository's path lies below, and the name of the project that it has there. Whether the project
    /// belongs there, [`Roots::of`] tells.
    #[must_use]
    pub fn at_path<'a>(&self, path: &'a Path) -> Option<(&Path, &'a str)> {
        let root = self.all().into_iter().find(|root| path.starts_with(root))?;
        let name = path.strip_prefix(root).ok()?.to_str()?.strip_suffix(".git")?;
        Some((root, name))
    }

    /// The same folders without links, when each is there and none lies in another one.
    ///
    /// # Errors
    /// Which folder is not there, or lies in which other one.
    pub fn resolve(&self) -> Result<Self, String> {
        let real = |path: &Path| path.canonicalize().map_err(|error| format!("{}: {error}", path.display()));
        let mut others = BTreeMap::new();
        for (projects, path) in &self.others {
            let found = real(path).map_err(|why| {
                format!("base path of {projects}: {why}; mount its file system, or make the folder, then start again")
            })?;
            others.insert(projects.clone(), found);
        }
        let resolved = Self { root: real(&self.root)?, others };
        match resolved.nested() {
            Some((inner, outer)) => Err(format!("{} lies in {}; {APART}", inner.display(), outer.display())),
            None => Ok(resolved),
        }
    }

    /// The same folders without links, of those that this process sees; the others as they are.
    #[must_use]
    pub fn seen(&self) -> Self {
        let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
        let others = self.others.iter().map(|(projects, path)| (projects.clone(), real(path)));
        Self { root: real(&self.root), others: others.collect() }
    }

    /// A folder that lies in another one, and that one.
    #[must_use]
    pub fn nested(&self) -> Option<(&Path, &Path)> {
        let all = self.all();
        let pairs = all.iter().flat_map(|inner| all.iter().map(move |outer| (*inner, *outer)));
        pairs.into_iter().find(|(inner, outer)| inner != outer && inner.starts_with(outer))
    }

    /// Two patterns of the same length that fit one project and say different folders: Gerrit takes the one that its file has
    /// first.
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

    /// Where two disagree; folders are the same when the paths are, or when the disk says so.
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

/// What to do about folders that lie in each other.
pub const APART: &str = "give each a folder that is in none of the others";

/// Whether a pattern stands for a project.
fn fits(pattern: &str, project: &str) -> bool {
    pattern == project || pattern.strip_suffix(ANY).is_some_and(|beginning| project.starts_with(beginning))
}

/// As Java counts: a tie here is one there.
fn length(pattern: &str) -> usize {
    pattern.encode_utf16().count()
}

/// A name that the pattern fits, and of the other patterns only those that fit all that this one does.
fn example(pattern: &str) -> String {
    pattern.strip_suffix(ANY).map_or_else(|| pattern.to_owned(), |beginning| format!("{beginning}{NOBODY}"))
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    one == other || identity(one).is_some_and(|one| Some(one) == identity(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(others: &[(&str, &str)]) -> Roots {
        let others = others.iter().map(|(projects, path)| ((*projects).to_owned(), PathBuf::from(*path))).collect();
        Roots::new("/git".into(), others)
    }

    fn folder(roots: &Roots, project: &str) -> String {
        roots.of(&project.parse().unwrap()).display().to_string()
    }

    #[test]
    fn the_longest_pattern_counts_as_in_gerrit() {
        let roots = roots(&[("big/*", "/big"), ("big/huge/*", "/huge"), ("big/small", "/git"), ("one", "/one")]);
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
            assert_eq!(folder(&roots, project), wanted, "{project}");
        }
    }

    /// `RepositoryConfig#findSubSection` compares lengths alone, so a prefix beats the same name spelled out.
    #[test]
    fn a_beginning_is_longer_than_the_name_itself() {
        let roots = roots(&[("big", "/one"), ("big*", "/two")]);
        assert_eq!(folder(&roots, "big"), "/two");
        assert_eq!(roots.tie(), None);
    }

    #[test]
    fn a_tie_is_seen_only_where_it_matters() {
        assert_eq!(roots(&[("big", "/one"), ("bi*", "/two")]).tie(), Some(("big", "bi*")));
        assert_eq!(roots(&[("big", "/one"), ("bi*", "/one")]).tie(), None, "both say the same");
        assert_eq!(roots(&[("big", "/one"), ("bo*", "/two")]).tie(), None, "no project is both");
    }

    #[test]
    fn every_folder_is_listed_once_and_a_nested_one_is_found() {
        let two = roots(&[("a/*", "/big"), ("b/*", "/big"), ("c", "/git")]);
        assert_eq!(two.all(), [Path::new("/git"), Path::new("/big")]);
        assert_eq!(two.nested(), None);
        assert!(roots(&[("a/*", "/git/big")]).nested().is_some_and(|(inner, _)| inner == Path::new("/git/big")));
        assert!(roots(&[("a/*", "/")]).nested().is_some_and(|(_, outer)| outer == Path::new("/")));
        assert!(roots(&[("a/*", "/big"), ("b/*", "/big/b")]).nested().is_some());
        assert_eq!(roots(&[("a/*", "/gitbig")]).nested(), None, "a name that begins so is no folder in it");
    }

    #[test]
    fn a_path_says_which_project_it_is_below_which_folder() {
        let roots = roots(&[("big/*", "/big")]);
        assert_eq!(roots.at_path(Path::new("/git/big/x.git")), Some((Path::new("/git"), "big/x")));
        assert_eq!(roots.at_path(Path::new("/big/big/x.git")), Some((Path::new("/big"), "big/x")));
        assert_eq!(roots.at_path(Path::new("/elsewhere/app.git")), None);
        assert_eq!(roots.at_path(Path::new("/git/app")), None);
    }

    #[test]
    fn two_agree_when_every_project_lies_in_the_same_folder() {
        let ours = roots(&[("big/*", "/big")]);
        let section = |projects: &str, path: Option<&str>| BasePath {
            projects: projects.to_owned(),
            path: path.map(str::to_owned),
        };
        let gerrit = |others: &[BasePath]| Roots::told(Some("/git/"), others).unwrap();
        let big = section("big/*", Some("/big"));
        assert_eq!(ours.disagreements(&gerrit(std::slice::from_ref(&big))), []);
        let others = [section("*", None), big.clone(), section("app", None), section("big/huge/*", Some("/big"))];
        assert_eq!(ours.disagreements(&gerrit(&others)), [], "sections that change nothing");

        // A longer section without a path of its own brings its projects back.
        let shadowed = ours.disagreements(&gerrit(&[big, section("big/small", None)]));
        let differs = |projects: Option<&str>, ours: &str, theirs: &str| Disagreement {
            projects: projects.map(str::to_owned),
            ours: ours.into(),
            theirs: theirs.into(),
        };
        assert_eq!(shadowed, [differs(Some("big/small"), "/big", "/git/")]);
        assert_eq!(ours.disagreements(&gerrit(&[])), [differs(Some("big/*"), "/big", "/git/")]);
        let moved = Roots::told(Some("/other"), &ours.base_paths()).unwrap();
        assert_eq!(ours.disagreements(&moved), [differs(None, "/git", "/other")]);
        assert_eq!(Roots::told(None, &[]), None);
    }

    #[test]
    fn links_are_the_folders_that_they_lead_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["git", "big"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        std::os::unix::fs::symlink(path("big"), path("link")).unwrap();
        let linked = |to: &str| Roots::new(path("git"), BTreeMap::from([("big/*".to_owned(), path(to))]));
        assert_eq!(linked("link").disagreements(&linked("big")), []);
        assert_eq!(linked("link").resolve().unwrap(), linked("big").resolve().unwrap());
        let why = linked("gone").resolve().unwrap_err();
        assert!(why.contains("base path of big/*") && why.contains("mount"), "{why}");
        assert_eq!(linked("gone").seen().entry("big/*"), Some(path("gone").as_path()));
        assert_eq!(linked("link").seen(), linked("big").resolve().unwrap());
        std::os::unix::fs::symlink(path("git"), path("big/back")).unwrap();
        let back = Roots::new(path("git"), BTreeMap::from([("a/*".to_owned(), path("big/back"))]));
        assert_eq!(back.resolve().unwrap().all().len(), 1, "another name of the root is the root");
        std::fs::create_dir(path("git/in")).unwrap();
        std::os::unix::fs::symlink(path("git/in"), path("hidden")).unwrap();
        assert!(linked("hidden").resolve().unwrap_err().contains("lies in"));
    }
}
