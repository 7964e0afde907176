//! Projects, their open changes, drafts and accounts, as far as the generator knows them: a change is open once its
//! push was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lockstep_loadtest::load::plan::Arrival;
use lockstep_tests::e2e::gerrit::rest::{ADMIN, Login};
use parking_lot::Mutex;

/// The branch of every project that changes are made for.
pub const BRANCH: &str = "master";
/// The kinds of accounts, and their number.
pub const ACCOUNTS: [(&str, u64); 3] = [("user", 16), ("ci", 4), ("bot", 4)];
/// The password of all of them.
const PASSWORD: &str = "load";

/// A change. Its open patch sets are those of its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The number.
    pub number: u32,
    /// The id in the message of its commits.
    pub id: String,
}

/// Changes of one push, the oldest first. Each is based on the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The number of the site at which its author works.
    pub home: usize,
    /// The changes on which the last one is based.
    pub below: Vec<Change>,
    /// The last change.
    pub top: Change,
    /// The commit on which the last change is based.
    pub base: String,
}

impl Chain {
    /// All changes.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.below.iter().chain([&self.top])
    }
}

/// A draft of a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The path of the draft in the REST API.
    pub path: String,
    /// Its text.
    pub text: String,
    /// The account that wrote it.
    pub account: Account,
}

/// A project.
#[derive(Debug)]
pub struct Project {
    /// The name.
    pub name: String,
    open: Mutex<Vec<Arc<Chain>>>,
    drafts: Mutex<Vec<Draft>>,
}

/// Every project of a run.
#[derive(Debug)]
pub struct World {
    /// The projects, by their rank.
    pub projects: Vec<Project>,
    next: AtomicU64,
}

impl World {
    /// The world of a run, without changes.
    #[must_use]
    pub fn new(projects: u32) -> Self {
        let project =
            |rank| Project { name: format!("load-{rank:03}"), open: Mutex::default(), drafts: Mutex::default() };
        Self { projects: (0..projects).map(project).collect(), next: AtomicU64::new(1) }
    }

    /// The project of a rank.
    #[must_use]
    pub fn project(&self, rank: u32) -> &Project {
        &self.projects[rank as usize % self.projects.len()]
    }

    /// A number that no other thing of this run has.
    pub fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A text that no other thing of this run has, and that is a part of no other text.
    pub fn text(&self) -> String {
        format!("note-{};", self.next())
    }
}

impl Project {
    /// Picks an open chain. None if there is none.
    #[must_use]
    pub fn pick(&self, pick: u64) -> Option<Arc<Chain>> {
        let open = self.open.lock();
        open.get(index(pick, open.len())).cloned()
    }

    /// Takes an open chain away, so that no other operation picks it.
    #[must_use]
    pub fn take(&self, pick: u64) -> Option<Arc<Chain>> {
        let mut open = self.open.lock();
        let at = index(pick, open.len());
        (at < open.len()).then(|| open.swap_remove(at))
    }

    /// Adds a chain that was pushed, or that could not be submitted.
    pub fn add(&self, chain: Arc<Chain>) {
        self.open.lock().push(chain);
    }

    /// Adds a draft.
    pub fn drafted(&self, draft: Draft) {
        self.drafts.lock().push(draft);
    }

    /// Takes a draft away.
    #[must_use]
    pub fn take_draft(&self, pick: u64) -> Option<Draft> {
        let mut drafts = self.drafts.lock();
        let at = index(pick, drafts.len());
        (at < drafts.len()).then(|| drafts.swap_remove(at))
    }
}

fn index(pick: u64, length: usize) -> usize {
    usize::try_from(pick % (length.max(1) as u64)).unwrap_or(0)
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account(String);

impl Account {
    /// Every account that a run makes.
    pub fn all() -> impl Iterator<Item = Self> {
        let of = |(kind, count): (&'static str, u64)| (0..count).map(move |number| Self(format!("{kind}-{number}")));
        ACCOUNTS.into_iter().flat_map(of)
    }

    /// The account that acts in an operation. The model has more users than accounts.
    #[must_use]
    pub fn of(arrival: &Arrival) -> Self {
        let user = arrival.user();
        let (kind, number) = user.split_once('-').unwrap_or((user.as_str(), "0"));
        let count = ACCOUNTS.iter().find(|(own, _)| *own == kind).map_or(1, |(_, count)| *count);
        Self(format!("{kind}-{}", number.parse::<u64>().unwrap_or(0) % count))
    }

    /// The administrator who submits.
    #[must_use]
    pub fn admin() -> Self {
        Self(ADMIN.0.to_owned())
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The address, which is that of its commits.
    #[must_use]
    pub fn email(&self) -> String {
        format!("{}@example.com", self.0)
    }

    /// The login for REST and git.
    #[must_use]
    pub fn login(&self) -> Login<'_> {
        if self.0 == ADMIN.0 { ADMIN } else { Login(&self.0, PASSWORD) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_is_taken_is_not_picked() {
        let world = World::new(2);
        let project = world.project(3);
        assert_eq!((project.name.as_str(), project.pick(7)), ("load-001", None));
        let top = Change { number: 1, id: "I1".to_owned() };
        let chain = Arc::new(Chain { home: 0, below: Vec::new(), top, base: "b".to_owned() });
        project.add(chain.clone());
        assert_eq!(project.pick(7), Some(chain.clone()));
        assert_eq!(project.take(8), Some(chain));
        assert_eq!((project.pick(7), project.take(7)), (None, None));
        assert!(!world.text().contains(&world.text()));
    }
}
