//! Simple queries to a repository's object store.
//!
//! "Absent", "damaged" and "unreadable" are different answers. An empty loose object, as a power cut leaves it, counts
//! as absent. Git would never rewrite it, so the file is removed before the object is added again.
//!
//! Objects are read raw and parsed by [`super::parse`]: libgit2's parser refuses objects that git takes.

use git2::{ObjectType, Repository};
use lockstep_proto::{Oid, ProjectName};

use super::layout::failed;
use super::odb::{Object, ObjectDb, ReadError};
use super::parse::{self, Commit, Defect};
use super::pool::Packs;
use super::{Flaw, GitError};

/// Longest blob that may be a number, in bytes. Longer blobs are not read.
const COUNTER_SIZE: usize = 64;
/// The id of the tree without entries. git knows it without storing it.
const EMPTY_TREE: [u8; 20] = *b"\x4b\x82\x5d\xc6\x42\xcb\x6e\xb9\xa0\x60\xe5\x4b\xf8\xd6\x92\x88\xfb\xee\x49\x04";

/// The objects of one project's repository.
pub(super) struct Objects<'a> {
    pub(super) project: &'a ProjectName,
    pub(super) repository: &'a Repository,
    pub(super) db: ObjectDb<'a>,
    /// The state of the packs against which the absence of an object is checked; `None` when absence is believed.
    packs: Option<Packs>,
}

impl<'a> Objects<'a> {
    pub(super) fn open(
        project: &'a ProjectName,
        repository: &'a Repository,
        packs: Option<Packs>,
    ) -> Result<Self, GitError> {
        let db = ObjectDb::open(repository).map_err(|error| failed(project, "open the objects", error))?;
        Ok(Self { project, repository, db, packs })
    }

    /// The same objects through a handle of its own. A handle keeps objects in memory that it has read once, so it does
    /// not see that the disk has damaged them since.
    pub(super) fn afresh<T>(&self, job: impl FnOnce(&Objects<'_>) -> Result<T, GitError>) -> Result<T, GitError> {
        let opened = Repository::open(self.repository.path());
        let repository = opened.map_err(|error| failed(self.project, "open the repository anew", error))?;
        job(&Objects::open(self.project, &repository, self.packs)?)
    }

    /// Returns the size in bytes and the type; `None` when the object is absent. Fails when it is not found while the
    /// packs change under the handle.
    pub(super) fn header(&self, oid: git2::Oid) -> Result<Option<(usize, ObjectType)>, GitError> {
        match self.db.header(oid) {
            Ok(header) => Ok(Some(header)),
            Err(_) if oid.as_bytes() == EMPTY_TREE => self.store_empty_tree(oid).map(Some),
            Err(_) if self.packs.is_some_and(|packs| packs.are_replaced(self.repository.path())) => {
                Err(failed(self.project, "read an object's header", format!("{oid}: the packs changed; try again")))
            }
            Err(ReadError::Absent) => Ok(None),
            Err(error) => Err(self.error("read an object's header", oid, error)),
        }
    }

    /// Returns the size in bytes and the type. An absent object is [`GitError::Missing`].
    pub(super) fn need(&self, oid: git2::Oid) -> Result<(usize, ObjectType), GitError> {
        let missing = || GitError::Missing { project: self.project.clone(), oids: vec![wire(oid)] };
        self.header(oid)?.ok_or_else(missing)
    }

    /// Stores the tree without entries, so that programs other than git find it, too.
    fn store_empty_tree(&self, oid: git2::Oid) -> Result<(usize, ObjectType), GitError> {
        let stored = self.db.write(oid, ObjectType::Tree, b"");
        stored.map(|_| (0, ObjectType::Tree)).map_err(|error| failed(self.project, "store the empty tree", error))
    }

    /// Reads an object that must have this type. Another type is a flaw.
    pub(super) fn read(&self, oid: git2::Oid, kind: ObjectType) -> Result<Object<'_>, GitError> {
        let mut object = self.db.read(oid);
        if matches!(object, Err(ReadError::Absent | ReadError::Failed(_))) && self.header(oid)?.is_some() {
            object = self.db.read(oid);
        }
        let object = object.map_err(|error| self.error("read an object", oid, error))?;
        if object.kind() == kind { Ok(object) } else { Err(self.mistyped(oid, object.kind(), kind)) }
    }

    /// Reads and parses a commit.
    pub(super) fn commit(&self, oid: git2::Oid) -> Result<Commit, GitError> {
        let object = self.read(oid, ObjectType::Commit)?;
        parse::commit(object.data()).map_err(|defect| self.flawed(oid, &defect))
    }

    /// Reads and parses a tag. Returns its target, and the type that the target must have.
    pub(super) fn tag(&self, oid: git2::Oid) -> Result<(git2::Oid, ObjectType), GitError> {
        let object = self.read(oid, ObjectType::Tag)?;
        parse::tag(object.data()).map_err(|defect| self.flawed(oid, &defect))
    }

    /// The error of an object that git cannot walk.
    pub(super) fn flawed(&self, oid: git2::Oid, defect: &Defect) -> GitError {
        let flaw = Flaw { object: wire(oid), why: format!("{}: {}", defect.id, defect.why) };
        GitError::Flawed { project: self.project.clone(), flaw }
    }

    /// The error of an object that is pointed to as another type than it has.
    pub(super) fn mistyped(&self, oid: git2::Oid, is: ObjectType, should: ObjectType) -> GitError {
        let flaw =
            Flaw { object: wire(oid), why: format!("it is a {is}, and another object points to it as a {should}") };
        GitError::Flawed { project: self.project.clone(), flaw }
    }

    /// Returns those of the objects that are absent.
    pub(super) fn missing(&self, oids: &[Oid]) -> Result<Vec<Oid>, GitError> {
        let mut missing = Vec::new();
        for oid in oids {
            if self.header(native(self.project, oid)?)?.is_none() {
                missing.push(*oid);
            }
        }
        Ok(missing)
    }

    /// Returns the number that a small blob holds; `None` for any other object.
    pub(super) fn counter(&self, oid: Oid) -> Result<Option<u64>, GitError> {
        let id = native(self.project, &oid)?;
        match self.header(id)? {
            None => Err(GitError::Missing { project: self.project.clone(), oids: vec![oid] }),
            Some((size, ObjectType::Blob)) if size <= COUNTER_SIZE => {
                let blob = self.db.read(id).map_err(|error| self.error("read a number", id, error))?;
                let text = std::str::from_utf8(blob.data()).ok();
                Ok(text.and_then(|text| text.trim().parse().ok()))
            }
            Some(_) => Ok(None),
        }
    }

    /// Names the project and the object of an error.
    pub(super) fn error(&self, op: &'static str, oid: git2::Oid, error: ReadError) -> GitError {
        let project = self.project.clone();
        match error {
            ReadError::Absent => GitError::Missing { project, oids: vec![wire(oid)] },
            ReadError::Damaged(why) => GitError::Damaged { project, object: wire(oid), why },
            ReadError::Failed(why) => failed(self.project, op, format!("{oid}: {why}")),
        }
    }
}

/// Converts a Lockstep object id to libgit2's.
pub(super) fn native(project: &ProjectName, oid: &Oid) -> Result<git2::Oid, GitError> {
    git2::Oid::from_bytes(oid.as_bytes()).ok().filter(|_| oid.as_bytes().len() == 20).ok_or_else(|| GitError::Bad {
        project: project.clone(),
        why: format!("object id {oid} is not SHA-1, which is the only object format supported"),
    })
}

/// Converts libgit2's object id to Lockstep's.
pub(super) fn wire(oid: git2::Oid) -> Oid {
    Oid::from_bytes(oid.as_bytes()).expect("20 bytes, and no object has the zero id")
}
