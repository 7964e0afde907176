//! Users who push while a test does everything else, and the ledger of the answers to their pushes.
//!
//! Every value is pushed only once, so that the ledger can be compared with the refdb exactly. A committed value is in
//! the chain of its ref. A refused value is not, and never will be. An unknown one may be either, but a push is never
//! there in part.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::git::{Clone, contains, git, text};
use super::verify::Truth;

/// The branch to which all users push.
const SHARED: &str = "refs/heads/shared";

/// The pause before a user tries again after a push that was not committed.
const AGAIN: Duration = Duration::from_millis(100);

/// The answer to the push of one ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The ref is committed.
    Committed,
    /// The ref is not committed, and never will be. This is the reason.
    Refused(String),
    /// The ref may be committed. This is git's output.
    Unknown(String),
}

/// One ref of one push.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The push. Its refs are committed together or not at all.
    pub push: String,
    /// The name of the ref.
    pub name: String,
    /// The new value. `None` deletes the ref.
    pub new: Option<String>,
    /// The answer that the pusher got for this ref.
    pub answer: Answer,
}

/// Every push that was made.
#[derive(Debug, Default)]
pub struct Ledger(pub Vec<Entry>);

/// Users who push, one after the other, until they are stopped.
pub struct Load {
    stop: CancellationToken,
    pushers: Vec<JoinHandle<Ledger>>,
}

impl Load {
    /// Starts `pushers` users who push to the project at these nodes. The seed decides what they push, and to which
    /// node.
    #[must_use]
    pub fn start(cluster: &Cluster, project: &str, nodes: &[usize], pushers: u64, seed: u64) -> Self {
        let stop = CancellationToken::new();
        let targets: Vec<PathBuf> = nodes.iter().map(|at| cluster.nodes[*at].repository(project)).collect();
        let pusher = |number: u64| {
            let id = format!("{seed}-{number}");
            let user = Pusher {
                clone: Clone::new(&cluster.scratch(&format!("user-{id}"))),
                branch: format!("refs/heads/user-{id}"),
                id,
                targets: targets.clone(),
                random: ChaCha8Rng::seed_from_u64(seed * 1_000 + number),
                tip: None,
                topic: None,
                ledger: Ledger::default(),
            };
            tokio::spawn(user.run(stop.clone()))
        };
        let pushers = (0..pushers).map(pusher).collect();
        Self { stop, pushers }
    }

    /// Waits for the pushes in progress, and returns the answers to all pushes.
    ///
    /// # Panics
    /// If a pusher panicked.
    pub async fn stop(mut self) -> Ledger {
        self.stop.cancel();
        let mut all = Ledger::default();
        for pusher in self.pushers.drain(..) {
            all.0.extend(pusher.await.expect("a pusher").0);
        }
        all
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.pushers.iter().for_each(JoinHandle::abort);
    }
}

struct Pusher {
    id: String,
    clone: Clone,
    branch: String,
    targets: Vec<PathBuf>,
    random: ChaCha8Rng,
    /// The newest value of the user's own branch that is known to be committed.
    tip: Option<String>,
    /// The branch that the next topic push deletes.
    topic: Option<String>,
    ledger: Ledger,
}

impl Pusher {
    async fn run(mut self, stop: CancellationToken) -> Ledger {
        let mut count = 0;
        while !stop.is_cancelled() {
            count += 1;
            let target = self.targets[self.random.random_range(0..self.targets.len())].clone();
            let push = format!("{}-{count}", self.id);
            match self.random.random_range(0..10) {
                0 | 1 => self.shared(&target, push).await,
                2 => self.large(&target, push).await,
                3 | 4 => self.topic(&target, push).await,
                5 | 6 => self.release(&target, push).await,
                _ => self.small(&target, push).await,
            }
            if self.ledger.0.last().is_some_and(|entry| entry.answer != Answer::Committed) {
                tokio::time::sleep(AGAIN).await;
            }
        }
        self.ledger
    }

    async fn small(&mut self, target: &Path, push: String) {
        self.look(target).await;
        let new = self.clone.commit(self.tip.as_deref(), &push);
        self.push(target, push, &[(self.branch.clone(), Some(new))]).await;
    }

    /// Pushes more data than fits into a transaction, and more objects than git unpacks into loose ones.
    async fn large(&mut self, target: &Path, push: String) {
        self.look(target).await;
        let mut file = |n: u32| (format!("d{}/f{n}", n % 7), (0..2_000).map(|_| self.random.random::<u8>()).collect());
        let files: BTreeMap<String, Vec<u8>> = (0..110).map(&mut file).collect();
        let new = self.clone.commit_files(self.tip.as_deref(), &files);
        self.push(target, push, &[(self.branch.clone(), Some(new))]).await;
    }

    /// Pushes a branch and tags, all or nothing.
    async fn release(&mut self, target: &Path, push: String) {
        self.look(target).await;
        let new = self.clone.commit(self.tip.as_deref(), &push);
        let tags = (0..2).map(|n| (format!("refs/tags/{push}-{n}"), Some(new.clone())));
        let refs: Vec<_> = tags.chain([(self.branch.clone(), Some(new.clone()))]).collect();
        self.push(target, push, &refs).await;
    }

    /// Creates a branch, and deletes the previous one.
    async fn topic(&mut self, target: &Path, push: String) {
        let new = self.clone.commit(None, &push);
        let name = format!("refs/heads/topic/{push}");
        let before = self.topic.take();
        self.push(target, push.clone(), &[(name.clone(), Some(new))]).await;
        if self.ledger.0.last().is_some_and(|entry| entry.answer == Answer::Committed) {
            self.topic = Some(name);
        }
        if let Some(before) = before {
            self.push(target, format!("{push}-end"), &[(before, None)]).await;
        }
    }

    /// Pushes to the shared branch, on top of its value at the site.
    async fn shared(&mut self, target: &Path, push: String) {
        let url = target.display().to_string();
        let _ = git(self.clone.folder(), &["fetch", "-q", &url, &format!("+{SHARED}:refs/seen")]).await;
        let seen = git(self.clone.folder(), &["rev-parse", "-q", "--verify", "refs/seen"]).await;
        let seen = seen.status.success().then(|| String::from_utf8_lossy(&seen.stdout).trim().to_owned());
        let new = self.clone.commit(seen.as_deref(), &push);
        self.push(target, push, &[(SHARED.to_owned(), Some(new))]).await;
    }

    /// Reads the site's value of the own branch. It may be newer than the last known one, if that answer was unknown.
    async fn look(&mut self, target: &Path) {
        let shown = git(target, &["rev-parse", "-q", "--verify", &self.branch]).await;
        let shown = String::from_utf8_lossy(&shown.stdout).trim().to_owned();
        let newer = |tip: &String| contains(self.clone.folder(), &shown, tip);
        if !shown.is_empty() && self.tip.as_ref().is_none_or(newer) {
            self.tip = Some(shown);
        }
    }

    async fn push(&mut self, target: &Path, push: String, refs: &[(String, Option<String>)]) {
        let spec = |(name, new): &(String, Option<String>)| format!("{}:{name}", new.as_deref().unwrap_or(""));
        let specs: Vec<String> = refs.iter().map(spec).collect();
        let options: &[&str] = if refs.len() > 1 { &["--atomic"] } else { &[] };
        let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
        let output = self.clone.push(target, options, &specs).await;
        for (name, new) in refs {
            let answer = answer(&output, name);
            if answer == Answer::Committed && *name == self.branch {
                self.tip.clone_from(new);
            }
            self.ledger.0.push(Entry { push: push.clone(), name: name.clone(), new: new.clone(), answer });
        }
    }
}

/// Reads the answer to one ref of a push from git's output.
fn answer(output: &Output, name: &str) -> Answer {
    let all = text(output);
    let line = all.lines().find(|line| {
        let mut parts = line.split('\t');
        let flag = parts.next().is_some_and(|flag| flag.len() == 1);
        flag && parts.next().is_some_and(|refs| refs.ends_with(&format!(":{name}")))
    });
    match line {
        Some(line) if !line.starts_with('!') => Answer::Committed,
        Some(line) if line.contains("[rejected]") => Answer::Refused(line.to_owned()),
        Some(line) if line.contains("[remote rejected]") && !is_open(line) => Answer::Refused(line.to_owned()),
        Some(_) | None => Answer::Unknown(all),
    }
}

/// Whether a line of git's output says that the outcome is unknown.
fn is_open(line: &str) -> bool {
    ["not known", "failed to report", "hook declined"].iter().any(|sign| line.contains(sign))
}

impl Ledger {
    /// Compares every answer with the refdb, and with a repository that has converged to it.
    ///
    /// # Panics
    /// If an answer was wrong.
    pub fn check(&self, truth: &Truth, repository: &Path) {
        let mut wrong = Vec::new();
        let mut pushes: BTreeMap<&str, Vec<(bool, &Entry)>> = BTreeMap::new();
        for entry in &self.0 {
            let Some(new) = &entry.new else { continue };
            let is_deleted = self.0.iter().any(|other| other.name == entry.name && other.new.is_none());
            if is_deleted {
                continue;
            }
            let is_there = truth.refs.get(&entry.name).is_some_and(|tip| contains(repository, tip, new));
            if matches!((&entry.answer, is_there), (Answer::Committed, false) | (Answer::Refused(_), true)) {
                wrong.push(format!("{entry:?}, but in the chain: {is_there}"));
            }
            pushes.entry(&entry.push).or_default().push((is_there, entry));
        }
        for entry in self.0.iter().filter(|entry| entry.new.is_none() && entry.answer == Answer::Committed) {
            if truth.refs.contains_key(&entry.name) {
                wrong.push(format!("{entry:?}, but the repository has it"));
            }
        }
        for (push, entries) in pushes {
            if entries.iter().any(|(is_there, _)| *is_there != entries[0].0) {
                wrong.push(format!("push {push} is there in part: {entries:?}"));
            }
        }
        assert!(wrong.is_empty(), "{} answers were wrong:\n{}", wrong.len(), wrong.join("\n"));
    }

    /// The reasons of refused pushes (their first words), and the number of pushes per reason.
    #[must_use]
    pub fn reasons(&self) -> BTreeMap<String, usize> {
        let mut reasons = BTreeMap::new();
        for entry in &self.0 {
            if let Answer::Refused(line) = &entry.answer {
                let reason = line.rsplit('\t').next().unwrap_or(line);
                let words = reason.split(' ').filter(|word| !word.contains('/')).take(12).collect::<Vec<_>>();
                *reasons.entry(words.join(" ")).or_insert(0) += 1;
            }
        }
        reasons
    }

    /// The number of pushes that were committed, refused and unknown.
    #[must_use]
    pub fn tally(&self) -> (usize, usize, usize) {
        let count = |wanted: fn(&Answer) -> bool| self.0.iter().filter(|entry| wanted(&entry.answer)).count();
        (
            count(|answer| *answer == Answer::Committed),
            count(|answer| matches!(answer, Answer::Refused(_))),
            count(|answer| matches!(answer, Answer::Unknown(_))),
        )
    }
}
