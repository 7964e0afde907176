//! Starts the child on a copy, follows it, and judges what it has found.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::{ProjectName, SiteId};
use rustix::process::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines, Take};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout};

use super::contents::{Contents, differences};
use super::plan::{OwnGerrit, Plan};
use super::words::{FOUND, Word};
use crate::node::config::Settings;
use crate::seams::copy::leash::{group_of, kill};
use crate::stages::ports::{BroughtUp, CopyMade, Doing, StandbyCopy};

/// The most bytes that the child may say.
const MOST_SAID: u64 = 8 << 20;
/// The most lines of the child's log that are repeated in the log of this sidecar if the drill is red.
const LOG_LINES: usize = 30;
/// The most projects that a report names.
const NAMED: usize = 5;

/// Why the child did not do its part.
#[derive(Debug, thiserror::Error)]
enum ChildError {
    #[error("the sidecar on the copy cannot be started: {0}")]
    NotStarted(String),
    #[error("the sidecar on the copy has ended before its end ({0}); if it was killed, look at drill.silent.memory")]
    Ended(String),
    #[error(transparent)]
    Unheard(#[from] std::io::Error),
    #[error("the child says {0:?}: {1}")]
    NoWord(String, serde_json::Error),
    #[error("it did not end within {0:?} (drill.silent.within)")]
    TooSlow(Duration),
    #[error("{0}: {1}")]
    Found(PathBuf, std::io::Error),
}

/// A copy, with the refs that it must show.
pub(super) struct Made {
    pub(super) made: CopyMade,
    pub(super) expected: Contents,
    /// Projects that were deleted while they were copied.
    pub(super) gone: Vec<ProjectName>,
}

/// A standby on a copy.
pub(super) struct OnCopy {
    settings: Settings,
    lockstep: PathBuf,
    folder: PathBuf,
    state: PathBuf,
    made: Made,
    made_at: Instant,
}

/// The child. Its process group is killed when this is dropped.
struct Running {
    child: Child,
    /// Held open until the end: the child ends with it.
    plan: ChildStdin,
    words: Lines<BufReader<Take<ChildStdout>>>,
    group: Option<Pid>,
}

impl Running {
    /// Waits for the end of a child that says nothing any more, and says how it came. The group is killed before the
    /// child is reaped: afterwards its number may be that of another group.
    async fn end(&mut self) -> ChildError {
        kill(self.group.take());
        let how = self.child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        ChildError::Ended(how)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill(self.group);
    }
}

impl OnCopy {
    pub(super) fn new(settings: &Settings, lockstep: &Path, folder: PathBuf, state: PathBuf, made: Made) -> Self {
        let (settings, lockstep) = (settings.clone(), lockstep.to_owned());
        Self { settings, lockstep, folder, state, made, made_at: Instant::now() }
    }

    async fn start(&self, from: &SiteId) -> Result<Running, ChildError> {
        let failed = |error: &dyn std::fmt::Display| ChildError::NotStarted(error.to_string());
        let log = std::fs::File::create(self.log()).map_err(|error| failed(&error))?;
        let mut command = Command::new(&self.lockstep);
        // Nothing of the environment reaches the child: it may hold credentials.
        command.arg("silent-drill").env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        // Its temporary files are in the copy, which is removed.
        command.env("HOME", &self.folder).env("TMPDIR", &self.folder);
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("LC_ALL", "C");
        command.current_dir(&self.folder).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let (group, pipes) = (group_of(&child), child.stdin.take().zip(child.stdout.take()));
        let (input, output) = pipes.ok_or_else(|| failed(&"it has no pipes"))?;
        let mut line = serde_json::to_string(&plan_of(&self.settings, from, &self.folder, &self.state))
            .map_err(|error| failed(&error))?;
        line.push('\n');
        let words = BufReader::new(output.take(MOST_SAID)).lines();
        let mut running = Running { child, plan: input, words, group };
        match running.plan.write_all(line.as_bytes()).await {
            Ok(()) => Ok(running),
            Err(_) => Err(running.end().await),
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Follows the child until it is done.
    async fn follow(&self, running: &mut Running, up: &mut BroughtUp, doing: &Doing) -> Result<(), ChildError> {
        loop {
            let line = running.words.next_line().await?;
            let Some(line) = line else { return Err(running.end().await) };
            let word: Word = serde_json::from_str(&line).map_err(|error| ChildError::NoWord(line, error))?;
            match word {
                Word::Doing(what) => doing(what),
                Word::Step(step) => up.steps.push(step),
                Word::TakesWrites => up.took_writes_ms = Some(self.since_made()),
                Word::Green => up.green_ms = Some(self.since_made()),
                Word::Red(why) => up.red.push(why),
                Word::End => return Ok(()),
            }
        }
    }

    fn since_made(&self) -> u64 {
        u64::try_from(self.made_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Compares the refs that the child has found on the disk with the version map as of the copy.
    fn compare(&self, up: &mut BroughtUp) -> Result<(), ChildError> {
        let path = self.folder.join(FOUND);
        let read = std::fs::read(&path).and_then(|text| serde_json::from_slice(&text).map_err(std::io::Error::from));
        let found: Contents = read.map_err(|error| ChildError::Found(path, error))?;
        let Made { expected, gone, .. } = &self.made;
        let compared = expected.iter().filter(|(name, _)| !gone.contains(name));
        (up.projects, up.refs) = compared.fold((0, 0), |(all, refs), (_, one)| (all + 1, refs + one.count));
        let differ = differences(expected, &found, gone);
        if !differ.is_empty() {
            let named = differ.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
            up.red.push(format!("{} projects differ from the version map as of the copy: {named}", differ.len()));
        }
        Ok(())
    }

    /// Repeats the end of the child's log, because its file is removed with the copy.
    fn repeat_log(&self) {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            tracing::warn!(line, "the sidecar on the copy");
        }
    }
}

/// The plan of the child.
pub(super) fn plan_of(settings: &Settings, from: &SiteId, folder: &Path, state: &Path) -> Plan {
    let silent = &settings.drill.silent;
    let gerrit = silent.gerrit.as_ref().map(|gerrit| OwnGerrit {
        program: gerrit.program.clone(),
        site: folder.join("site"),
        url: gerrit.url.clone(),
    });
    Plan {
        site: settings.site.clone(),
        node: settings.node.clone(),
        from: from.clone(),
        folder: folder.to_owned(),
        root: folder.join("git"),
        state: state.to_owned(),
        memory: silent.memory,
        all_users: settings.gerrit.all_users.clone(),
        all_projects: settings.gerrit.all_projects.clone(),
        gerrit,
    }
}

#[async_trait]
impl StandbyCopy for OnCopy {
    fn made(&self) -> &CopyMade {
        &self.made.made
    }

    async fn bring_up(&mut self, from: &SiteId, doing: Doing) -> BroughtUp {
        // The clock begins when the copy is made, and not when the loss was counted.
        self.made_at = Instant::now();
        let (mut up, within) = (BroughtUp::default(), self.settings.drill.silent.within);
        doing("starting the sidecar on the copy".to_owned());
        let end = match self.start(from).await {
            Ok(mut running) => match timeout(within, self.follow(&mut running, &mut up, &doing)).await {
                Ok(end) => end,
                Err(_) => Err(ChildError::TooSlow(within)),
            },
            Err(why) => Err(why),
        };
        let end = end.and_then(|()| self.compare(&mut up));
        up.red.extend(end.err().map(|why| why.to_string()));
        if up.red.is_empty() && up.green_ms.is_none() {
            up.red.push("the probes were never green".to_owned());
        }
        if !up.red.is_empty() {
            self.repeat_log();
        }
        up
    }
}
