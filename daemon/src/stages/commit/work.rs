//! What is to be committed, and what became of each part of it.

use lockstep_proto::bridge::{Refusal, RefusalCode};
use lockstep_proto::{Command, Oid, ProjectKey, RefKey, RefName, RefValue, TxnId};
use tokio::time::Instant;

use crate::seams::git::{IsCommitted, RefMove};

/// One wish: a key shall have a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The ref or pseudo-ref.
    pub key: RefKey,
    /// What it must be now; none for "whatever it is".
    pub expected: Option<RefValue>,
    /// What it shall be.
    pub new: RefValue,
    /// Whether an update may be no fast-forward.
    pub force: bool,
}

/// A batch of wishes on one project.
#[derive(Clone, Debug)]
pub struct Work {
    /// The project.
    pub project: ProjectKey,
    /// The wishes; no key twice.
    pub intents: Vec<Intent>,
    /// Refs that only this site keeps: moved beside the transaction.
    pub local: Vec<RefMove>,
    /// All or nothing.
    pub atomic: bool,
    /// The bridge's id of the request.
    pub request_id: String,
    /// Who asked.
    pub actor: String,
    /// Trace context.
    pub traceparent: String,
    /// When the caller wants to know.
    pub deadline: Instant,
    /// The seeder's: it may commit to a project that nobody else may.
    pub seed: Option<Seed>,
}

/// What the seeder knows.
#[derive(Clone)]
pub struct Seed {
    /// Objects that are committed beside the values of refs.
    pub behind: IsCommitted,
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Seed")
    }
}

/// What became of one wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Committed and readable (or it was so already).
    Committed,
    /// Committed, and not readable yet.
    NotYetVisible,
    /// Not committed, and it never will be.
    Refused(Refusal),
    /// Not known yet.
    Unknown(Refusal),
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The transaction that was committed, or whose fate is unknown.
    pub txn: Option<TxnId>,
    /// One verdict an intent, in their order.
    pub verdicts: Vec<Verdict>,
}

/// What is sent to the commit point.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The intents that it carries, by their index.
    pub carried: Vec<usize>,
    /// Their steps.
    pub commands: Vec<Command>,
    /// New objects that the steps need.
    pub wants: Vec<Oid>,
    /// Committed values to look at first for what is known already.
    pub hints: Vec<Oid>,
    /// Names to mark as directories.
    pub directories: Vec<RefName>,
}

impl Ended {
    /// Whether a part of it is committed, and all that is can be read.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        let is_open = |verdict: &Verdict| matches!(verdict, Verdict::NotYetVisible | Verdict::Unknown(_));
        self.verdicts.contains(&Verdict::Committed) && !self.verdicts.iter().any(is_open)
    }

    /// The same verdict for every intent.
    #[must_use]
    pub fn all(count: usize, verdict: &Verdict) -> Self {
        Self { txn: None, verdicts: vec![verdict.clone(); count] }
    }
}

/// Shorthand for the texts of refusals.
#[must_use]
pub fn refusal(code: RefusalCode, retry: bool, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into(), expected: None, actual: None, caught_up: false, retry }
}

/// A ref is not what the command expected, and the local repository shows what it is.
#[must_use]
pub fn stale(intent: &Intent, actual: &RefValue) -> Refusal {
    let expected = intent.expected.as_ref().map(ToString::to_string);
    let was = expected.as_deref().unwrap_or("anything");
    let message = format!(
        "{} is {actual}, not {was}: another site or user was faster; fetch, merge or rebase, and push again",
        intent.key
    );
    Refusal {
        expected,
        actual: Some(actual.to_string()),
        caught_up: true,
        ..refusal(RefusalCode::Stale, false, message)
    }
}
