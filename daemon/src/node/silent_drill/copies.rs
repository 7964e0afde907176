//! Makes the copy of this node's volume, and removes it.
//!
//! The version map is copied first, as it is at one moment, and the repositories after it. So the copy is like a volume
//! after a power cut: refs may be ahead of the map, and never behind it. The standby on the copy takes the map for the
//! truth, and sets values aside that are ahead.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::job::{Found, Job};
use super::obstacles;
use super::parent::{Made, OnCopy};
use crate::node::config::Settings;
use crate::node::config::settings::CopyBy;
use crate::seams::copy::leash::Leashed;
use crate::seams::copy::{self, Stop, copies};
use crate::seams::volume::NodeStore;
use crate::stages::ports::{CopyMade, Doing, StandbyCopies, StandbyCopy, StandbyCopyError};

/// The name of the copy in the folder of the copies.
const COPY: &str = "copy";
/// The file that says which program has made the copy, and must remove it.
const MARK: &str = "command";
/// How long that program may take.
const COMMAND: Duration = Duration::from_secs(3_600);
/// How often a removal is tried, and the pause between.
const TRIES: u32 = 10;
const AGAIN: Duration = Duration::from_millis(200);

/// The copies of one node's volume.
pub(in crate::node) struct VolumeCopies {
    settings: Settings,
    store: Arc<dyn NodeStore>,
    lockstep: PathBuf,
    /// Held while a copy is made or removed.
    busy: Arc<Mutex<()>>,
}

/// Stops a copy on another thread when this is dropped.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl VolumeCopies {
    /// # Errors
    /// The operating system does not tell the path of this program.
    pub(in crate::node) fn new(settings: &Settings, store: Arc<dyn NodeStore>) -> std::io::Result<Arc<Self>> {
        let lockstep = std::env::current_exe()?;
        Ok(Arc::new(Self { settings: settings.clone(), store, lockstep, busy: Arc::default() }))
    }

    fn folder(&self) -> PathBuf {
        copies(self.settings.base_paths.root())
    }

    /// Removes what a drill of an earlier life has left. A failure is logged, and tried again by the next drill.
    pub(in crate::node) async fn clean(self: Arc<Self>) {
        if !self.folder().exists() {
            return;
        }
        tracing::warn!(folder = %self.folder().display(), "a silent drill was killed: removing its copy");
        if let Err(error) = self.remove().await {
            let why = error.to_string();
            tracing::error!(why, "the copy of a silent drill is left; the next drill or start tries again");
        }
    }

    /// Runs the program that makes and removes copies.
    async fn command(&self, program: &Path, action: &'static str) -> Result<(), StandbyCopyError> {
        let (settings, to) = (&self.settings, self.folder().join(COPY));
        let (root, state) = (to.join("git"), to.join("state"));
        let envs = [
            ("LOCKSTEP_COPY_ACTION", action.as_ref()),
            ("LOCKSTEP_COPY_FROM", settings.base_paths.root().as_os_str()),
            ("LOCKSTEP_COPY_FROM_STATE", settings.state.as_os_str()),
            ("LOCKSTEP_COPY_TO", root.as_os_str()),
            ("LOCKSTEP_COPY_TO_STATE", state.as_os_str()),
        ];
        let failed = |why: String| StandbyCopyError::Command(program.to_owned(), action, why);
        let mut run = Leashed::start(&self.lockstep, program, &envs).map_err(|error| failed(error.to_string()))?;
        match timeout(COMMAND, run.end()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(failed(format!("it ended with {status}; its words are in the log of the sidecar"))),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("it did not end within {COMMAND:?} and was killed"))),
        }
    }

    /// Makes a copy by the program. The whole volume must be below the root.
    async fn by_command(&self, program: &Path) -> Result<(), StandbyCopyError> {
        let folder = self.folder();
        std::fs::create_dir_all(folder.join(COPY)).map_err(|error| StandbyCopyError::Io(folder.clone(), error))?;
        let mark = folder.join(MARK);
        std::fs::write(&mark, program.as_os_str().as_encoded_bytes())
            .map_err(|error| StandbyCopyError::Io(mark, error))?;
        self.command(program, "make").await
    }

    /// The folder of the node's state in the copy.
    fn state_of_copy(&self) -> PathBuf {
        let (to, root) = (self.folder().join(COPY), self.settings.base_paths.root());
        match (&self.settings.drill.silent.copy, self.settings.state.strip_prefix(root)) {
            (CopyBy::Command(_), Ok(below)) => to.join("git").join(below),
            (CopyBy::Command(_), Err(_)) => to.join("state"),
            (CopyBy::Reflink | CopyBy::Full, _) => to.join("git/.lockstep"),
        }
    }

    fn job(&self, doing: Doing, stop: Stop) -> Job {
        Job {
            settings: self.settings.clone(),
            store: Arc::clone(&self.store),
            to: self.folder().join(COPY),
            state: self.state_of_copy(),
            doing,
            stop,
        }
    }

    /// Removes all copies. The caller holds `busy`.
    async fn remove_all(&self) -> Result<(), StandbyCopyError> {
        let folder = self.folder();
        if let Ok(program) = std::fs::read_to_string(folder.join(MARK)) {
            self.command(remover(&program, &self.settings.drill.silent.copy)?, "remove").await?;
        }
        let mut tries = 1;
        loop {
            let path = folder.clone();
            #[expect(clippy::disallowed_methods, reason = "the removal of a copy is work of the disk")]
            let removed = tokio::task::spawn_blocking(move || copy::remove(&path)).await;
            match removed? {
                // Processes on the copy that were killed just now may still write.
                Err(_) if tries < TRIES => tries += 1,
                end => return end.map_err(|error| StandbyCopyError::Io(folder, error)),
            }
            sleep(AGAIN).await;
        }
    }
}

/// The program that removes a copy which `program` has made. Anybody who can write into the volume could have put that
/// name there, so it is not run unless the settings name it, too.
fn remover<'a>(program: &str, copy: &'a CopyBy) -> Result<&'a Path, StandbyCopyError> {
    match copy {
        CopyBy::Command(set) if set.as_os_str() == program => Ok(set),
        _ => Err(StandbyCopyError::Foreign(program.to_owned())),
    }
}

#[async_trait]
impl StandbyCopies for VolumeCopies {
    async fn obstacle(&self) -> Option<String> {
        let folder = self.folder();
        let end = obstacles::look(&self.settings, &folder, &folder.join(COPY));
        // The folder is there while a drill runs, and at no other time.
        let _ = std::fs::remove_dir(folder);
        end.err().map(|why| why.to_string())
    }

    async fn make(&self, doing: Doing) -> Result<Box<dyn StandbyCopy>, StandbyCopyError> {
        let busy = Arc::clone(&self.busy).lock_owned().await;
        doing("removing what an earlier drill has left".to_owned());
        self.remove_all().await?;
        let (began, silent) = (Instant::now(), &self.settings.drill.silent);
        let stop = StopOnDrop(Stop::default());
        let job = self.job(Arc::clone(&doing), stop.0.clone());
        if let CopyBy::Command(program) = &silent.copy {
            doing("making the copy by drill.silent.command".to_owned());
            self.by_command(program).await?;
        }
        #[expect(clippy::disallowed_methods, reason = "a copy is work of the disk")]
        let made = tokio::task::spawn_blocking(move || {
            let made = job.run();
            drop(busy);
            made
        });
        let found = made.await??;
        let way = match silent.copy {
            CopyBy::Reflink => "reflink",
            CopyBy::Full => "full",
            CopyBy::Command(_) => "command",
        };
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let Found { copied, applied, held, expected, gone, notes } = found;
        let made = CopyMade { way, took_ms, bytes: copied.map(|copied| copied.bytes), applied, held, notes };
        let made = Made { made, expected, gone };
        Ok(Box::new(OnCopy::new(&self.settings, &self.lockstep, self.folder().join(COPY), self.state_of_copy(), made)))
    }

    async fn remove(&self) -> Result<(), StandbyCopyError> {
        let _busy = self.busy.lock().await;
        self.remove_all().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_the_settings_do_not_name_is_not_run() {
        let set = CopyBy::Command("/etc/clone".into());
        assert_eq!(remover("/etc/clone", &set).ok(), Some(Path::new("/etc/clone")));
        for copy in [&set, &CopyBy::Full] {
            let why = remover("/tmp/other", copy).unwrap_err().to_string();
            assert!(why.contains("/tmp/other has made the copy"), "{why}");
        }
    }
}
