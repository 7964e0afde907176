//! Two volumes with real git repositories, and content made by libgit2.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use git2::{Repository, Signature, Time};
use lockstep::base::base_paths::BasePaths;
use lockstep::seams::git::{LocalRepositories, Repositories, Settings};
use lockstep_proto::{Oid, ProjectName};
use tempfile::TempDir;

use crate::contract::repositories::Fixture;

/// Two volumes on disk. They are deleted when this is dropped.
pub struct LocalFixture {
    origin: Volume,
    replica: Volume,
}

/// A volume: its root, and, if it has one, a base path for all projects whose names have folders.
struct Volume {
    root: TempDir,
    _elsewhere: Option<TempDir>,
    base_paths: BasePaths,
    repositories: LocalRepositories,
}

impl Volume {
    fn new(settings: &Settings, elsewhere: Option<TempDir>) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let others = elsewhere.iter().map(|folder| ("tools/*".to_owned(), folder.path().to_owned()));
        let base_paths = BasePaths::new(root.path().to_owned(), others.collect());
        let repositories = LocalRepositories::over(&base_paths, settings.clone()).expect("a volume");
        Self { root, _elsewhere: elsewhere, base_paths, repositories }
    }
}

impl Default for LocalFixture {
    fn default() -> Self {
        Self::new()
    }
}

impl LocalFixture {
    /// Two volumes with the settings of production.
    #[must_use]
    pub fn new() -> Self {
        Self::with(&Settings::default())
    }

    /// Two volumes with these settings.
    #[must_use]
    pub fn with(settings: &Settings) -> Self {
        Self { origin: Volume::new(settings, None), replica: Volume::new(settings, None) }
    }

    /// Two volumes with these settings. The suite's project is on another file system than the rest.
    ///
    /// # Panics
    /// If there is no other file system.
    #[must_use]
    pub fn elsewhere(settings: &Settings) -> Self {
        let volume = || Volume::new(settings, Some(tempfile::tempdir_in("/dev/shm").expect("a file system in memory")));
        Self { origin: volume(), replica: volume() }
    }

    /// The root of the origin's volume.
    #[must_use]
    pub fn origin_root(&self) -> &Path {
        self.origin.root.path()
    }

    /// The folder of a repository of the origin.
    #[must_use]
    pub fn origin_dir(&self, project: &ProjectName) -> PathBuf {
        self.origin.base_paths.git_dir(project)
    }

    /// The folder of a repository of the replica.
    #[must_use]
    pub fn replica_dir(&self, project: &ProjectName) -> PathBuf {
        self.replica.base_paths.git_dir(project)
    }

    fn repository(&self, project: &ProjectName) -> Repository {
        Repository::open_bare(self.origin_dir(project)).expect("a repository")
    }
}

impl Fixture for LocalFixture {
    fn origin(&self) -> Arc<dyn Repositories> {
        Arc::new(self.origin.repositories.clone())
    }

    fn replica(&self) -> Arc<dyn Repositories> {
        Arc::new(self.replica.repositories.clone())
    }

    fn put(&self, project: &ProjectName, kind: git2::ObjectType, content: &[u8]) -> Oid {
        ours(self.repository(project).odb().expect("objects").write(kind, content).expect("an object"))
    }

    fn blob(&self, project: &ProjectName, content: &str) -> Oid {
        ours(self.repository(project).blob(content.as_bytes()).expect("a blob"))
    }

    fn commit(&self, project: &ProjectName, parents: &[Oid], files: &[(&str, &str)]) -> Oid {
        let repository = self.repository(project);
        let files = files.iter().map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec())).collect();
        commit(&repository, parents, &files)
    }

    fn tag(&self, project: &ProjectName, name: &str, target: Oid) -> Oid {
        let repository = self.repository(project);
        let object = repository.find_object(theirs(target), None).expect("the target");
        ours(repository.tag_annotation_create(name, &object, &person(), "a tag\n").expect("a tag"))
    }

    fn is_complete(&self, project: &ProjectName, oid: Oid) -> bool {
        let oid = oid.to_string();
        git(&self.replica_dir(project), &["rev-list", "--objects", "--quiet", &oid]).is_ok()
    }
}

/// Makes a commit with exactly these files, and returns its id.
#[must_use]
pub fn commit(repository: &Repository, parents: &[Oid], files: &BTreeMap<String, Vec<u8>>) -> Oid {
    let tree = repository.find_tree(tree(repository, files)).expect("a tree");
    let parents: Vec<_> = parents.iter().map(|oid| repository.find_commit(theirs(*oid)).expect("a parent")).collect();
    let parents: Vec<_> = parents.iter().collect();
    ours(repository.commit(None, &person(), &person(), "a commit\n", &tree, &parents).expect("a commit"))
}

fn tree(repository: &Repository, files: &BTreeMap<String, Vec<u8>>) -> git2::Oid {
    let mut builder = repository.treebuilder(None).expect("a tree");
    let mut folders: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    for (path, content) in files {
        match path.split_once('/') {
            Some((folder, rest)) => {
                folders.entry(folder.to_owned()).or_default().insert(rest.to_owned(), content.clone());
            }
            None => {
                let blob = repository.blob(content).expect("a blob");
                builder.insert(path, blob, 0o100_644).expect("an entry");
            }
        }
    }
    for (folder, files) in folders {
        builder.insert(folder, tree(repository, &files), 0o040_000).expect("an entry");
    }
    builder.write().expect("a tree")
}

fn person() -> Signature<'static> {
    Signature::new("A U Thor", "author@example.com", &Time::new(1_700_000_000, 60)).expect("a person")
}

/// Converts libgit2's id to ours.
#[must_use]
pub fn ours(oid: git2::Oid) -> Oid {
    Oid::from_bytes(oid.as_bytes()).expect("an object id")
}

/// Converts our id to libgit2's.
#[must_use]
pub fn theirs(oid: Oid) -> git2::Oid {
    git2::Oid::from_bytes(oid.as_bytes()).expect("an object id")
}

/// Runs git on a repository, and returns its standard output.
///
/// # Errors
/// The error output of git.
pub fn git(git_dir: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git").arg("--git-dir").arg(git_dir).args(arguments).output().expect("git runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}
