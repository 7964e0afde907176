//! Whether a user could replace a file, so that others would act on the text of that user.
//!
//! It looks at owners and modes, of the file and of each folder on the way to it. It sees no access control lists.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const STICKY: u32 = 0o1000;
const WRITE_AS_GROUP: u32 = 0o020;
const WRITE_AS_OTHER: u32 = 0o002;

/// A user with their groups.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) groups: Vec<u32>,
}

impl User {
    /// The user of this process.
    pub(super) fn of_process() -> Self {
        let others = rustix::process::getgroups().unwrap_or_default();
        let groups = others.into_iter().chain([rustix::process::getegid()]).map(|group| group.as_raw()).collect();
        Self { uid: rustix::process::geteuid().as_raw(), groups }
    }

    /// The file, or the folder on the way to it, that this user could change. None if there is none.
    ///
    /// # Errors
    /// The file or a folder cannot be looked at.
    pub(super) fn reaches(&self, file: &Path) -> io::Result<Option<PathBuf>> {
        for way in [std::path::absolute(file)?, file.canonicalize()?] {
            for part in way.ancestors() {
                if self.changes(&std::fs::metadata(part)?) {
                    return Ok(Some(part.to_owned()));
                }
            }
        }
        Ok(None)
    }

    /// Whether this user may change a file, or the entries of a folder that are not theirs.
    fn changes(&self, found: &std::fs::Metadata) -> bool {
        let writes = match self.groups.contains(&found.gid()) {
            true => found.mode() & WRITE_AS_GROUP != 0,
            false => found.mode() & WRITE_AS_OTHER != 0,
        };
        let keeps_others = found.is_dir() && found.mode() & STICKY != 0;
        self.uid == 0 || found.uid() == self.uid || writes && !keeps_others
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_user_reaches_what_is_theirs_and_what_they_may_write() {
        let home = tempfile::tempdir().unwrap();
        let (folder, file) = (home.path().join("etc"), home.path().join("etc/operators"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&file, "").unwrap();
        set(&file, 0o644);
        set(&folder, 0o755);
        let owner = std::fs::metadata(&file).unwrap();
        let other = User { uid: owner.uid() + 4_242, groups: vec![owner.gid() + 4_242] };
        let fellow = User { groups: vec![owner.gid()], ..other.clone() };
        for user in [&other, &fellow] {
            assert_eq!(user.reaches(&file).unwrap(), None);
        }
        let own = User { uid: owner.uid(), ..other.clone() };
        assert_eq!(own.reaches(&file).unwrap(), Some(file.clone()));
        set(&file, 0o664);
        assert_eq!((other.reaches(&file).unwrap(), fellow.reaches(&file).unwrap()), (None, Some(file.clone())));
        set(&file, 0o644);
        set(&folder, 0o777);
        assert_eq!(other.reaches(&file).unwrap(), Some(folder.clone()), "it could put another file there");
        set(&folder, 0o1777);
        assert_eq!(other.reaches(&file).unwrap(), None, "such a folder keeps the files of others");
        let root = User { uid: 0, ..other.clone() };
        assert_eq!(root.reaches(&file).unwrap(), Some(file.clone()));
        assert!(other.reaches(&folder.join("absent")).is_err());
    }
}
