//! Moves refs: one actor per busy repository, each with its own long-lived git.
//!
//! An actor takes all waiting transactions as one. Each caller holds the locks of its refs, so no two transactions move
//! the same ref, and git takes little longer for many of them than for one. When the combined transaction fails, the
//! actor runs them one by one. When git ends without confirming a commit, the actor reads the refs. If all refs have
//! their new values, the transaction succeeded. If a ref has an unexpected value, the result is [`GitError::RefMoved`].
//! If git may have begun to commit, or if a short-lived lock of another program explains the failure, the rest is
//! retried a few times. Refs that moved before git was killed stay moved, and the rest is moved after them.
//!
//! git takes one message for reflogs per process. So a transaction whose own message a reflog would show has a git of
//! its own (`docs/adr/0049`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{Oid, ProjectName};
use parking_lot::{Mutex, MutexGuard};
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};

use super::foreign_lock::ForeignLock;
use super::intent::Intent;
use super::layout::{Layout, failed};
use super::stale_locks::Suspects;
use super::update_ref::{Broken, Line, REFLOG_MESSAGE, Session};
use super::{GitError, Settings, child, first_refs, ref_files};
use crate::base::clock::{Clock, SystemClock};

/// Tries of one transaction. With the waits between them they take about ten seconds.
const TRIES: u32 = 12;
/// Tries of one transaction when a lock that was left behind is in the way.
const TRIES_BEHIND_OLD: u32 = 2;
/// Most transactions that are combined into one.
const TOGETHER: usize = 64;
/// After so many moves at once the refs are packed.
const MANY: usize = 1_000;
/// How long git may pack refs before it is ended.
const PACKING: Duration = Duration::from_secs(600);

struct Job {
    lines: Vec<Line>,
    answer: oneshot::Sender<Result<(), GitError>>,
}

struct Entry {
    inbox: mpsc::Sender<Job>,
    last_used: u64,
}

#[derive(Default)]
struct Registry {
    entries: HashMap<ProjectName, Entry>,
    uses: u64,
}

/// The actors of a volume, at most `Settings::writers`. The least recently used one ends first.
pub(super) struct Writers {
    settings: Arc<Settings>,
    layout: Layout,
    registry: Mutex<Registry>,
}

impl Writers {
    pub(super) fn new(settings: Arc<Settings>, layout: Layout) -> Self {
        Self { settings, layout, registry: Mutex::default() }
    }

    /// Runs one ref transaction to its end, even if the caller goes away.
    pub(super) async fn run(&self, project: &ProjectName, lines: Vec<Line>) -> Result<(), GitError> {
        const GONE: &str = "the ref writer ended before it answered; the refs may or may not have moved";
        let (answer, answered) = oneshot::channel();
        let mut job = Job { lines, answer };
        while let Err(mpsc::error::SendError(back)) = self.inbox(project).send(job).await {
            self.forget(project);
            job = back;
        }
        answered.await.map_err(|_| failed(project, "move refs", GONE))?
    }

    /// Ends the project's actor once it has run the transactions it was given.
    pub(super) fn forget(&self, project: &ProjectName) {
        self.lock().entries.remove(project);
    }

    fn inbox(&self, project: &ProjectName) -> mpsc::Sender<Job> {
        let mut registry = self.lock();
        registry.uses += 1;
        let now = registry.uses;
        let entry = registry.entries.entry(project.clone()).or_insert_with(|| {
            let (inbox, jobs) = mpsc::channel(64);
            tokio::spawn(Writer::new(self, project).serve(jobs));
            Entry { inbox, last_used: now }
        });
        entry.last_used = now;
        let inbox = entry.inbox.clone();
        if registry.entries.len() > self.settings.writers {
            let oldest = registry.entries.iter().min_by_key(|(_, entry)| entry.last_used);
            let oldest = oldest.map(|(project, _)| project.clone());
            oldest.map(|project| registry.entries.remove(&project));
        }
        inbox
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock()
    }
}

/// The actor of one repository.
struct Writer {
    settings: Arc<Settings>,
    project: ProjectName,
    git_dir: PathBuf,
    intents: PathBuf,
    session: Option<Session>,
    intent: Option<Intent>,
}

impl Writer {
    fn new(writers: &Writers, project: &ProjectName) -> Self {
        Self {
            settings: Arc::clone(&writers.settings),
            project: project.clone(),
            git_dir: writers.layout.git_dir(project),
            intents: writers.layout.intents(),
            session: None,
            intent: None,
        }
    }

    /// Runs transactions until none arrives for `Settings::writer_idle`.
    async fn serve(mut self, mut inbox: mpsc::Receiver<Job>) {
        loop {
            let mut jobs = Vec::new();
            match tokio::time::timeout(self.settings.writer_idle, inbox.recv_many(&mut jobs, TOGETHER)).await {
                Ok(0) => return,
                Ok(_) => self.handle(jobs).await,
                Err(_) => inbox.close(),
            }
        }
    }

    async fn handle(&mut self, jobs: Vec<Job>) {
        let lines: usize = jobs.iter().map(|job| job.lines.len()).sum();
        self.move_all(jobs).await;
        if lines >= MANY {
            let packed = self.pack_refs().await;
            packed.unwrap_or_else(|why| tracing::warn!(project = %self.project, %why, "refs stay loose"));
        }
    }

    /// Packs all refs, after the callers have their answers: a loose ref takes a block of the disk, and each reader
    /// opens it. git does this at any time, beside readers and writers.
    async fn pack_refs(&mut self) -> std::io::Result<()> {
        let loose = ref_files::loose(&self.git_dir)?;
        self.record(loose.into_iter())?;
        let mut command = Command::from(child::git(&self.settings, &self.git_dir));
        command.args(["pack-refs", "--all"]).stdin(Stdio::null()).kill_on_drop(true);
        let ended = tokio::time::timeout(PACKING, command.output()).await;
        // A killed git leaves locks. Their record stays, and the next start removes them.
        let intent = self.intent.take();
        let output = ended.map_err(std::io::Error::other)??;
        if let Some(intent) = intent.filter(|_| output.status.code().is_some()) {
            intent.clear()?;
            self.intent = Some(intent);
        }
        match output.status.success() {
            true => Ok(()),
            false => Err(std::io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        }
    }

    async fn move_all(&mut self, mut jobs: Vec<Job>) {
        let mut suspects = Suspects::default();
        let is_plain = jobs.iter().all(|job| self.message(&job.lines).is_none());
        if jobs.len() > 1 && is_plain && self.together(&mut jobs, &mut suspects).await {
            jobs.into_iter().for_each(|job| drop(job.answer.send(Ok(()))));
            return;
        }
        for job in jobs {
            let has_moved = job.lines.is_empty();
            let result = if has_moved { Ok(()) } else { self.transact(job.lines, &mut suspects).await };
            let _ = job.answer.send(result);
        }
    }

    /// Tries all transactions as one. Returns whether all refs moved. On failure, removes the lines that took effect,
    /// so that only the rest is tried again.
    async fn together(&mut self, jobs: &mut [Job], suspects: &mut Suspects) -> bool {
        let all: Vec<Line> = jobs.iter().flat_map(|job| job.lines.iter().cloned()).collect();
        let broken = match self.attempt(&all).await {
            Ok(Ok(())) => return true,
            Ok(Err(broken)) => broken,
            // The sidecar's own error. Each transaction reports it from its own try.
            Err(_) => return false,
        };
        if broken.killed {
            suspects.note(&self.git_dir, &all);
        }
        if broken.committing {
            for job in jobs {
                job.lines.retain(|line| !self.has_moved(line));
            }
        }
        false
    }

    fn has_moved(&self, line: &Line) -> bool {
        matches!(line, Line::Move { name, new, .. } if self.read(name).is_ok_and(|actual| actual == *new))
    }

    async fn transact(&mut self, mut lines: Vec<Line>, suspects: &mut Suspects) -> Result<(), GitError> {
        let mut wait = Duration::from_millis(5);
        for attempt in 1.. {
            let Err(broken) = self.attempt(&lines).await? else { return Ok(()) };
            if broken.killed {
                suspects.note(&self.git_dir, &lines);
            }
            let lock = ForeignLock::named(&broken.why, SystemClock.now_ms());
            let tries = if lock.as_ref().is_some_and(ForeignLock::is_left_behind) { TRIES_BEHIND_OLD } else { TRIES };
            match self.judge(&lines, &broken)? {
                Next::Done => return Ok(()),
                Next::Again(rest) if attempt < tries || (attempt == tries && suspects.remove()) => lines = rest,
                Next::Again(_) => return Err(self.failed(lock.map_or(broken.why, |lock| lock.tell()))),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
        Ok(())
    }

    /// Runs one try. The outer error is the sidecar's own, the inner one git's.
    async fn attempt(&mut self, lines: &[Line]) -> Result<Result<(), Broken>, GitError> {
        self.record(lines.iter().map(|line| line.name().to_owned())).map_err(|error| self.failed(error))?;
        let result = match self.create_first(lines).await {
            true => Ok(()),
            false => self.by_git(lines).await.map_err(|error| self.failed(error))?,
        };
        if let Some(intent) = &self.intent {
            intent.clear().map_err(|error| self.failed(error))?;
        }
        Ok(result)
    }

    async fn by_git(&mut self, lines: &[Line]) -> std::io::Result<Result<(), Broken>> {
        if let Some(message) = self.message(lines) {
            return Ok(Session::start(&self.settings, &self.git_dir, message)?.run(lines).await.map(drop));
        }
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::start(&self.settings, &self.git_dir, REFLOG_MESSAGE)?,
        };
        Ok(session.run(lines).await.map(|session| self.session = Some(session)))
    }

    /// The message of a transaction that needs a git of its own: the first one that a reflog would show. Most refs have
    /// no reflog, and most messages are the one of the long-lived git.
    fn message<'a>(&self, lines: &'a [Line]) -> Option<&'a str> {
        lines.iter().find_map(|line| match line {
            Line::Move { name, message, .. } if !message.is_empty() && message != REFLOG_MESSAGE => {
                self.git_dir.join("logs").join(name).is_file().then_some(message.as_str())
            }
            _ => None,
        })
    }

    /// Creates the refs without git, if they are the first ones of the repository and many. Returns whether it did. If
    /// not, none was created.
    #[expect(clippy::disallowed_methods, reason = "the git adapter: libgit2 and the disk block")]
    async fn create_first(&self, lines: &[Line]) -> bool {
        let Some(refs) = first_refs::of(lines).filter(|_| self.message(lines).is_none()) else { return false };
        let git_dir = self.git_dir.clone();
        let created = tokio::task::spawn_blocking(move || first_refs::create(&git_dir, &refs)).await;
        created.map_err(std::io::Error::other).flatten().unwrap_or_else(|error| {
            tracing::warn!(project = %self.project, %error, "the first refs are left to git");
            false
        })
    }

    fn record(&mut self, names: impl Iterator<Item = String>) -> std::io::Result<()> {
        let intent = match self.intent.take() {
            Some(intent) => intent,
            None => Intent::create(&self.intents)?,
        };
        let result = intent.record(&self.project, names);
        self.intent = Some(intent);
        result
    }

    /// Reads the refs and decides how to continue after git ended without success.
    fn judge(&self, lines: &[Line], broken: &Broken) -> Result<Next, GitError> {
        if !self.git_dir.exists() {
            return Err(GitError::NoRepository(self.project.clone()));
        }
        let mut rest = Vec::new();
        for line in lines {
            let Line::Move { name, old, new, .. } = line else {
                rest.push(line.clone());
                continue;
            };
            let actual = self.read(name)?;
            if broken.committing && actual == *new {
                continue;
            }
            if actual != *old {
                return Err(self.moved(name, *old, actual));
            }
            rest.push(line.clone());
        }
        if rest.is_empty() && broken.committing {
            return Ok(Next::Done);
        }
        if broken.committing || is_passing(&broken.why) {
            return Ok(Next::Again(rest));
        }
        Err(self.failed(&broken.why))
    }

    fn moved(&self, name: &str, expected: Option<Oid>, actual: Option<Oid>) -> GitError {
        let project = self.project.clone();
        match name.parse() {
            Ok(name) => GitError::RefMoved { project, name, expected, actual },
            Err(error) => self.failed(error),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Oid>, GitError> {
        read_ref(&self.project, &self.git_dir, name)
    }

    fn failed(&self, why: impl ToString) -> GitError {
        failed(&self.project, "move refs", why)
    }
}

/// The next step after a failed try.
enum Next {
    /// All refs of the request have moved.
    Done,
    /// These lines must be tried again.
    Again(Vec<Line>),
}

/// Reads a ref and converts the error.
pub(super) fn read_ref(project: &ProjectName, git_dir: &Path, name: &str) -> Result<Option<Oid>, GitError> {
    ref_files::read(git_dir, name).map_err(|error| failed(project, "read a ref", error))
}

/// Returns whether git's message describes a temporary failure: another program's lock, or the end of git itself.
pub(super) fn is_passing(why: &str) -> bool {
    let signs =
        ["File exists", "Unable to create", "unable to lock", "but expected", "Broken pipe", "instead of", "no answer"];
    signs.iter().any(|sign| why.contains(sign))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use git2::Repository;

    use super::*;
    use crate::base::base_paths::BasePaths;
    use crate::seams::git::objects::wire;

    /// Has each project in turn move a ref, twice. Returns how many actors ran, each with a git of its own. The record
    /// of locks of each actor has a name of its own.
    async fn actors(writers: usize, projects: &[&str]) -> usize {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open(&BasePaths::at(folder.path())).unwrap();
        let intents = layout.intents();
        let writers = Writers::new(Arc::new(Settings { writers, ..Settings::default() }), layout);
        let mut seen = BTreeSet::new();
        for _ in 0..2 {
            for name in projects {
                let repository = Repository::init_bare(folder.path().join(format!("{name}.git"))).unwrap();
                let value = wire(repository.blob(b"a value").unwrap());
                let line = Line::Set("refs/lockstep/test".to_owned(), value);
                writers.run(&name.parse().unwrap(), vec![line]).await.unwrap();
                seen.extend(std::fs::read_dir(&intents).unwrap().map(|entry| entry.unwrap().file_name()));
            }
        }
        seen.len()
    }

    /// An actor beyond the limit ends the one that was used least recently. So repositories in turn, one more than the
    /// limit, start a git for each transaction.
    #[tokio::test]
    async fn git_starts_once_per_repository_within_the_limit_and_once_per_transaction_beyond_it() {
        let projects = ["a", "b", "c", "d"];
        assert_eq!(actors(4, &projects).await, 4);
        assert_eq!(actors(3, &projects).await, 8);
    }
}
