//! The file of a backup. It gets its name once it is whole and on the disk; a run that fails leaves nothing there.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A new file that has another name until it is whole. Only its owner can read it.
pub struct NewFile {
    path: PathBuf,
    folder: PathBuf,
    draft: BufWriter<NamedTempFile>,
}

impl NewFile {
    /// Begins a file beside its place.
    ///
    /// # Errors
    /// The file exists, which is never replaced, or its folder cannot be written.
    pub fn begin(path: &Path) -> io::Result<Self> {
        if path.exists() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file exists, and is not replaced"));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let draft = BufWriter::new(NamedTempFile::new_in(folder)?);
        Ok(Self { path: path.to_owned(), folder: folder.to_owned(), draft })
    }

    /// Brings the content to the disk, then gives the file its name, and brings that to the disk, too.
    ///
    /// # Errors
    /// A write failed, or the file exists by now.
    pub fn finish(self) -> io::Result<()> {
        let draft = self.draft.into_inner().map_err(io::IntoInnerError::into_error)?;
        draft.as_file().sync_all()?;
        draft.persist_noclobber(&self.path).map_err(|error| error.error)?;
        File::open(&self.folder)?.sync_all()
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.draft.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.draft.flush()
    }
}
