//! The one way to the objects of a repository. No other file reads or writes objects through libgit2:
//! `tests/tests/tidy` refuses that.
//!
//! libgit2 reads a loose object that is cut off for ever, and would hold its thread. So it reads packs alone: of those
//! an error is an error. Loose objects are read by [`super::loose`], which costs as much. Only the header of a loose
//! object comes from libgit2, which takes it from the first bytes and ends always.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{ErrorClass, ErrorCode, ObjectType, Odb, OdbObject, Oid, Repository};

use super::files::{indexes, put_away};
use super::loose::{self, Loose, Unreadable, is_empty, is_intact, loose_in, make_room};
use super::object_ids::Index;

/// The most folders of objects that lead to one another. git follows as many.
const DEPTH: usize = 6;

/// The objects of a repository, and of those from which it borrows.
pub(super) struct ObjectDb<'a> {
    odb: Odb<'a>,
    /// The folders of objects, the repository's own first.
    folders: Vec<PathBuf>,
}

/// An object that was read.
pub(super) enum Object<'a> {
    /// From a file of its own.
    Loose(Loose),
    /// From a pack, by libgit2.
    Packed(OdbObject<'a>),
}

impl Object<'_> {
    pub(super) fn kind(&self) -> ObjectType {
        match self {
            Self::Loose(object) => object.kind,
            Self::Packed(object) => object.kind(),
        }
    }

    pub(super) fn data(&self) -> &[u8] {
        match self {
            Self::Loose(object) => object.data(),
            Self::Packed(object) => object.data(),
        }
    }
}

/// Why an object cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// It is not here. A loose file that is empty is no object either.
    #[error("it is absent")]
    Absent,
    /// It is here, and its bytes are not those of its id.
    #[error("{0}")]
    Damaged(String),
    /// The disk or libgit2 failed.
    #[error("{0}")]
    Failed(String),
}

impl<'a> ObjectDb<'a> {
    pub(super) fn open(repository: &'a Repository) -> Result<Self, git2::Error> {
        let mut folders = Vec::new();
        list_folders(repository.path().join("objects"), &mut folders);
        Ok(Self { odb: repository.odb()?, folders })
    }

    /// The objects in a folder that belongs to no repository.
    pub(super) fn of_folder(objects: &Path) -> Result<ObjectDb<'static>, git2::Error> {
        let odb = Odb::new()?;
        let name = objects.to_str().ok_or_else(|| git2::Error::from_str("the name of the folder is not UTF-8"))?;
        odb.add_disk_alternate(name)?;
        Ok(ObjectDb { odb, folders: vec![objects.to_owned()] })
    }

    /// Returns the size in bytes and the type. An object with a header may be damaged behind it.
    pub(super) fn header(&self, oid: Oid) -> Result<(usize, ObjectType), ReadError> {
        self.odb.read_header(oid).map_err(|error| self.error(oid, &error))
    }

    /// Whether there is an object, as far as its name tells.
    pub(super) fn exists(&self, oid: Oid) -> bool {
        self.odb.exists(oid)
    }

    /// Reads an object. One whose loose copy is damaged is read from a pack, if one has it. The damaged copy is put
    /// away then.
    pub(super) fn read(&self, oid: Oid) -> Result<Object<'_>, ReadError> {
        let mut damaged = None;
        for path in self.loose_paths(oid) {
            match loose::read(&path, oid) {
                Ok(Some(object)) => return Ok(Object::Loose(object)),
                Ok(None) => {}
                Err(why @ Unreadable::Damaged(_)) => damaged = Some(why),
                Err(Unreadable::Io(error)) => return Err(ReadError::Failed(format!("{}: {error}", path.display()))),
            }
        }
        if let Some(why) = damaged {
            if !self.is_packed(oid) {
                return Err(ReadError::Damaged(why.to_string()));
            }
            self.put_damaged_away(oid)?;
        }
        self.packed(oid)
    }

    /// Reads an object as [`ObjectDb::read`], and takes no copy for another: each loose copy must be intact, and git
    /// takes a packed one first. An object of `large` bytes or more is not read into memory: a packed one is taken as
    /// it is, and the result is `None`.
    pub(super) fn check(&self, oid: Oid, large: usize) -> Result<Option<Object<'_>>, ReadError> {
        for path in self.loose_paths(oid).filter(|path| path.exists()) {
            if !is_intact(&path).unwrap_or(false) {
                return Err(ReadError::Damaged("its file is cut off or has another content".to_owned()));
            }
        }
        let (size, _) = self.header(oid)?;
        if size >= large { Ok(None) } else { self.packed(oid).map(Some) }
    }

    /// Writes an object, in the place of a damaged loose copy if there is one.
    pub(super) fn write(&self, oid: Oid, kind: ObjectType, content: &[u8]) -> Result<Oid, git2::Error> {
        for path in self.loose_paths(oid) {
            make_room(&path);
        }
        self.odb.write(kind, content)
    }

    /// Reads an object of which no loose copy is damaged.
    fn packed(&self, oid: Oid) -> Result<Object<'_>, ReadError> {
        self.odb.read(oid).map(Object::Packed).map_err(|error| self.error(oid, &error))
    }

    fn loose_paths(&self, oid: Oid) -> impl Iterator<Item = PathBuf> {
        self.folders.iter().map(move |folder| loose_in(folder, oid))
    }

    /// Whether the index of a pack names the object.
    fn is_packed(&self, oid: Oid) -> bool {
        let mut paths = self.folders.iter().flat_map(|folder| indexes(folder).unwrap_or_default());
        paths.any(|path| {
            let index = Index::open(&path).ok().flatten();
            index.is_some_and(|index| index.has(oid).unwrap_or(false))
        })
    }

    /// Puts the damaged loose copies of an object away. Afterwards libgit2 finds none.
    fn put_damaged_away(&self, oid: Oid) -> Result<(), ReadError> {
        for path in self.loose_paths(oid) {
            if matches!(is_intact(&path), Ok(false)) {
                let away = put_away(&path);
                away.map_err(|error| ReadError::Failed(format!("put {} away: {error}", path.display())))?;
                tracing::warn!(path = %path.display(), "a loose object is damaged and a pack has it: put away");
            }
        }
        Ok(())
    }

    fn error(&self, oid: Oid, error: &git2::Error) -> ReadError {
        let is_absent = || self.loose_paths(oid).any(|path| is_empty(&path));
        match (error.code(), error.class()) {
            (ErrorCode::NotFound, _) => ReadError::Absent,
            _ if is_absent() => ReadError::Absent,
            (ErrorCode::HashsumMismatch, _) | (_, ErrorClass::Odb | ErrorClass::Zlib | ErrorClass::Object) => {
                ReadError::Damaged(error.to_string())
            }
            _ => ReadError::Failed(error.to_string()),
        }
    }
}

/// Lists a folder of objects, and those from which it borrows.
fn list_folders(objects: PathBuf, found: &mut Vec<PathBuf>) {
    let mut work = vec![(objects, DEPTH)];
    while let Some((objects, depth)) = work.pop() {
        if found.contains(&objects) {
            continue;
        }
        if depth > 0
            && let Ok(text) = std::fs::read(objects.join("info/alternates"))
        {
            let lines = text.split(|byte| matches!(byte, b'\n' | b'\r'));
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
            work.extend(lines.map(|line| (objects.join(std::ffi::OsStr::from_bytes(line)), depth - 1)));
        }
        found.push(objects);
    }
}
