//! One file: its content by reference or byte by byte, and its permissions.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::ioctl_ficlone;
use rustix::io::Errno;

use super::{CopyError, Stop, Way};

/// The answers of a file system that makes no reflinks, or none between these two files.
const REFUSALS: [Errno; 5] = [Errno::OPNOTSUPP, Errno::NOTTY, Errno::INVAL, Errno::XDEV, Errno::NOSYS];

/// Files of at most this many bytes are copied in full.
const SMALL: u64 = 64 * 1024;
/// The bytes of the file by which reflinks are tried.
const TRIED: usize = 128 * 1024;
/// The bytes between two looks at the signal to stop. A pack may be very large.
const PIECE: u64 = 16 << 20;

/// Copies a file to a path at which there is none. Returns its bytes, or `None` if the file is gone.
pub(super) fn copy(way: Way, from: &Path, to: &Path, stop: &Stop) -> Result<Option<u64>, CopyError> {
    stop.check()?;
    let source = match File::open(from) {
        Ok(source) => source,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(CopyError::io(from, error)),
    };
    let meta = source.metadata().map_err(|error| CopyError::io(from, error))?;
    if !meta.is_file() {
        return Err(CopyError::io(from, Error::other("it is no file")));
    }
    let mode = meta.permissions().mode() | 0o200;
    let target = OpenOptions::new().write(true).create_new(true).mode(mode).open(to);
    let target = target.map_err(|error| CopyError::io(to, error))?;
    match way {
        // Some file systems keep small files in their own records and refuse to clone them.
        Way::Reflink if meta.len() > SMALL => match ioctl_ficlone(&target, &source) {
            Ok(()) => Ok(Some(meta.len())),
            Err(refusal) if REFUSALS.contains(&refusal) => {
                Err(CopyError::NoReflink { path: from.to_owned(), why: refusal.into() })
            }
            Err(error) => Err(CopyError::io(to, error.into())),
        },
        Way::Full | Way::Reflink => bytes(&source, &target, to, stop).map(Some),
    }
}

fn bytes(source: &File, mut target: &File, to: &Path, stop: &Stop) -> Result<u64, CopyError> {
    let mut all = 0;
    loop {
        stop.check()?;
        let piece = std::io::copy(&mut source.take(PIECE), &mut target);
        match piece.map_err(|error| CopyError::io(to, error))? {
            0 => return Ok(all),
            piece => all += piece,
        }
    }
}

/// Tells whether the file system of a folder makes reflinks, by one between two files that are removed again.
///
/// # Errors
/// It makes none, or the folder cannot be written.
pub fn can_reflink(folder: &Path) -> Result<(), CopyError> {
    let (one, other) = (folder.join("reflink-from"), folder.join("reflink-to"));
    let forget = || {
        let _ = std::fs::remove_file(&one);
        let _ = std::fs::remove_file(&other);
    };
    forget();
    let tried = File::create(&one)
        .and_then(|mut file| file.write_all(&[1; TRIED]))
        .map_err(|error| CopyError::io(&one, error))
        .and_then(|()| copy(Way::Reflink, &one, &other, &Stop::default()).map(|_| ()));
    forget();
    tried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_content_and_the_permissions_and_a_file_that_is_gone_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to, go) = (folder.path().join("from"), folder.path().join("to"), Stop::default());
        std::fs::write(&from, b"content").unwrap();
        std::fs::set_permissions(&from, PermissionsExt::from_mode(0o444)).unwrap();
        assert_eq!(copy(Way::Full, &from, &to, &go).unwrap(), Some(7));
        assert_eq!(std::fs::read(&to).unwrap(), b"content");
        assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(copy(Way::Full, &from, &to, &go).is_err(), "nothing is overwritten");
        assert_eq!(copy(Way::Full, &folder.path().join("gone"), &folder.path().join("x"), &go).unwrap(), None);
        let large = folder.path().join("large");
        let content: Vec<u8> = (0..PIECE + 5).map(|at| (at % 251) as u8).collect();
        std::fs::write(&large, &content).unwrap();
        let to = folder.path().join("large copy");
        assert_eq!(copy(Way::Full, &large, &to, &go).unwrap(), Some(PIECE + 5));
        assert!(std::fs::read(&to).unwrap() == content, "piece by piece");
        go.stop();
        let given_up = copy(Way::Full, &large, &folder.path().join("y"), &go);
        assert!(matches!(given_up, Err(CopyError::Stopped)), "{given_up:?}");
    }

    #[test]
    fn a_file_system_without_reflinks_is_named_with_the_remedy() {
        // A file system either makes reflinks, or the answer says which setting to change.
        let folder = tempfile::tempdir().unwrap();
        let answer = can_reflink(folder.path());
        let is_plain = matches!(&answer, Err(error @ CopyError::NoReflink { .. })
            if error.to_string().contains("drill.silent.copy"));
        assert!(answer.is_ok() || is_plain, "{answer:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        let (small, to) = (folder.path().join("small"), folder.path().join("to"));
        std::fs::write(&small, b"small").unwrap();
        assert_eq!(
            copy(Way::Reflink, &small, &to, &Stop::default()).unwrap(),
            Some(5),
            "small files are copied everywhere"
        );
    }
}
