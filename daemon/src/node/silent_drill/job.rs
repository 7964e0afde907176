//! The work of one copy, on a thread of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockstep_proto::{LaneId, ProjectName, Seq};

use super::contents::{self, Contents};
use super::plan::socket;
use crate::base::base_paths::BasePaths;
use crate::node::config::Settings;
use crate::node::config::settings::CopyBy;
use crate::seams::copy::{
    self, Copied, CopyError, Need, Overrides, SITE_PARTS, Stop, Way, copy_repository, copy_site, fits,
    is_on_file_system_of, measure,
};
use crate::seams::volume::disk::DiskStore;
use crate::seams::volume::{NodeStore, StoreError};
use crate::stages::ports::{Doing, StandbyCopyError};

/// The space that a copy by reflinks needs for its own records, in bytes, and its files beside those of repositories.
pub(super) const LEAST: Need = Need { bytes: 256 << 20, inodes: 1_000 };
/// The repositories between two updates of the progress.
const SHOW: usize = 50;

/// One copy that is being made.
pub(super) struct Job {
    pub(super) settings: Settings,
    pub(super) store: Arc<dyn NodeStore>,
    /// The folder of the copy.
    pub(super) to: PathBuf,
    /// The folder of the node's state in it.
    pub(super) state: PathBuf,
    pub(super) doing: Doing,
    pub(super) stop: Stop,
}

/// The content of a copy.
pub(super) struct Found {
    /// None: a program has copied it.
    pub(super) copied: Option<Copied>,
    pub(super) applied: BTreeMap<LaneId, Seq>,
    pub(super) held: u64,
    pub(super) expected: Contents,
    pub(super) gone: Vec<ProjectName>,
    pub(super) notes: Vec<String>,
}

impl Job {
    /// Makes the copy, and looks at what it holds.
    ///
    /// # Errors
    /// It cannot be made. A part of it may be there.
    pub(super) fn run(&self) -> Result<Found, StandbyCopyError> {
        let way = match self.settings.drill.silent.copy {
            CopyBy::Reflink => Some(Way::Reflink),
            CopyBy::Full => Some(Way::Full),
            CopyBy::Command(_) => None,
        };
        let (copied, gone) = match way {
            Some(way) => self.copy(way).map(|(copied, gone)| (Some(copied), gone))?,
            None => (None, Vec::new()),
        };
        self.copy_gerrit(way.unwrap_or(Way::Full))?;
        // The moves that were in progress are of refs which the copy may have, or not.
        let intents = self.state.join("node.announced");
        match std::fs::remove_file(&intents) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StandbyCopyError::Io(intents, error));
            }
            _ => {}
        }
        let copy = DiskStore::open(&self.state.join("node.redb"))?;
        let read = || -> Result<_, StoreError> {
            let held = copy.quarantined()?.values().filter(|held| held.is_committed()).count() as u64;
            Ok((copy.low_water()?, held, contents::of_map(&copy)?, copy.bound()?.refdb))
        };
        let (applied, held, expected, refdb) = read()?;
        if refdb.is_none() {
            return Err(StandbyCopyError::NoRefDb);
        }
        let note = |name: &ProjectName| format!("project {name} was deleted while it was copied, and is not compared");
        let notes = gone.iter().map(note).collect();
        Ok(Found { copied, applied, held, expected, gone, notes })
    }

    /// Copies the store, then each repository that its version map names. Returns those that were deleted meanwhile.
    fn copy(&self, way: Way) -> Result<(Copied, Vec<ProjectName>), StandbyCopyError> {
        let (base_paths, root) = (&self.settings.base_paths, self.to.join("git"));
        self.fits(way)?;
        std::fs::create_dir_all(&self.state).map_err(|error| StandbyCopyError::Io(self.state.clone(), error))?;
        (self.doing)("copying the version map".to_owned());
        let store = self.state.join("node.redb");
        self.store.copy_to(&store)?;
        let projects = {
            let copy = DiskStore::open(&store)?;
            living(&copy)?
        };
        let target = BasePaths::at(&root);
        let moved = |path: &Path| moved(base_paths, &target, path);
        let (mut copied, mut gone) = (Copied::default(), Vec::new());
        for (at, name) in projects.iter().enumerate() {
            if at.is_multiple_of(SHOW) {
                (self.doing)(format!("copying: {at} of {} repositories", projects.len()));
            }
            let to = target.git_dir(name);
            match copy_repository(&base_paths.git_dir(name), &to, way, &moved, &self.stop)? {
                Some(one) => copied.add(one),
                None => {
                    copy::remove(&to).map_err(|error| StandbyCopyError::Io(to, error))?;
                    gone.push(name.clone());
                }
            }
        }
        let still = living(self.store.as_ref())?;
        match gone.iter().find(|name| still.contains(name)) {
            Some(name) => Err(StandbyCopyError::NoRepository(name.clone())),
            None => Ok((copied, gone)),
        }
    }

    /// Whether the copy fits beside the volume.
    fn fits(&self, way: Way) -> Result<(), StandbyCopyError> {
        (self.doing)("measuring the volume".to_owned());
        let mut need = LEAST;
        let mut add = |folder: &Path, way| -> Result<(), CopyError> {
            let one = measure(folder, &self.stop)?;
            need.inodes += one.inodes;
            need.bytes += if way == Way::Full { one.bytes } else { 0 };
            Ok(())
        };
        for name in living(self.store.as_ref())? {
            add(&self.settings.base_paths.git_dir(&name), way)?;
        }
        // The store is copied row by row, and the folder of a Gerrit may be on another file system.
        add(&self.settings.state.join("node.redb"), Way::Full)?;
        if let Some(gerrit) = &self.settings.drill.silent.gerrit {
            SITE_PARTS.iter().try_for_each(|part| add(&gerrit.site.join(part), Way::Full))?;
        }
        std::fs::create_dir_all(&self.to).map_err(|error| StandbyCopyError::Io(self.to.clone(), error))?;
        fits(&self.to, need).map_or(Ok(()), |why| Err(StandbyCopyError::NoRoom(why)))
    }

    fn copy_gerrit(&self, way: Way) -> Result<(), StandbyCopyError> {
        let Some(gerrit) = &self.settings.drill.silent.gerrit else { return Ok(()) };
        (self.doing)("copying the folder of the Gerrit".to_owned());
        // The folder may be on another file system than the volume.
        let way = match is_on_file_system_of(&gerrit.site, &self.to) {
            Ok(true) => way,
            _ => Way::Full,
        };
        let (base_path, socket) = (self.to.join("git"), socket(&self.to));
        let with = Overrides { base_path: &base_path, listen: &gerrit.url, socket: &socket };
        let copied = copy_site(&gerrit.site, &self.to.join("site"), way, &gerrit.keep, &with, &self.stop);
        copied.map(|_| ()).map_err(StandbyCopyError::Gerrit)
    }
}

/// The projects that are not deleted.
fn living(store: &dyn NodeStore) -> Result<Vec<ProjectName>, StoreError> {
    let living = store.projects()?.into_iter().filter(|(_, record)| !record.value.is_deleted_project());
    Ok(living.map(|(name, _)| name).collect())
}

/// The place of the copy of a path in a repository. A path outside of the volume stays.
fn moved(from: &BasePaths, to: &BasePaths, path: &Path) -> PathBuf {
    let below = from.all().into_iter().find_map(|root| path.strip_prefix(root).ok());
    below.map_or_else(|| path.to_owned(), |below| to.root().join(below))
}
