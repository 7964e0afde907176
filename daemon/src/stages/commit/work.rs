//! The types of a batch: its work, its proposal and its verdicts.

use lockstep_proto::bridge::{Refusal, RefusalCode};
use lockstep_proto::{Command, Oid, ProjectKey, RefKey, RefName, RefValue, TxnId};
use tokio::time::Instant;

use super::requests::Kept;
use crate::seams::git::{IsCommitted, Judged, RefMove};
use crate::seams::refdb::Freed;
use crate::state::known_folders::Moment;

/// One intent of a batch: a ref or pseudo-ref shall get a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The ref or pseudo-ref.
    pub key: RefKey,
    /// The value that it must have now. `None` accepts any value.
    pub expected: Option<RefValue>,
    /// The value that it shall get.
    pub new: RefValue,
    /// Whether an update need not be a fast-forward.
    pub force: bool,
}

/// A batch of intents on one project.
#[derive(Clone, Debug)]
pub struct Work {
    /// The project and its incarnation.
    pub project: ProjectKey,
    /// The intents. No key occurs twice.
    pub intents: Vec<Intent>,
    /// Moves of refs that only this site keeps. They are made together with those of the transaction.
    pub local: Vec<RefMove>,
    /// Whether all intents are committed together or none is.
    pub atomic: bool,
    /// The bridge's id of the request.
    pub request_id: String,
    /// The user for whom the bridge asks; empty if it names none.
    pub actor: String,
    /// The W3C trace context; empty without traces.
    pub traceparent: String,
    /// The message for reflogs; empty for that of a push.
    pub message: String,
    /// The time at which the caller wants an answer.
    pub deadline: Instant,
    /// The judge of the objects, before the batch came here.
    pub judged: Judged,
    /// Set for the seeder, which may commit to a project that is read-only for everybody else.
    pub seed: Option<Seed>,
    /// The token of the operator lock under which the batch is committed, if there is one.
    pub lock: Option<String>,
    /// Whether the batch loosens the mark of a name. Its only intent is on that name, from absent to absent.
    pub loosens: bool,
}

/// The seeder's knowledge of committed objects.
#[derive(Clone)]
pub struct Seed {
    /// Tells which objects are committed besides the values of refs.
    pub behind: IsCommitted,
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Seed")
    }
}

/// The outcome of one intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Committed and readable here, or the ref had the value already.
    Committed,
    /// Committed, and not readable here yet, with the reason for people.
    NotYetVisible(String),
    /// Not committed, and it never will be.
    Refused(Refusal),
    /// The outcome is not known yet.
    Unknown(Refusal),
}

/// The outcome of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The transaction that was committed, or whose outcome is unknown.
    pub txn: Option<TxnId>,
    /// One verdict per intent, in the order of the intents.
    pub verdicts: Vec<Verdict>,
}

/// The part of a batch that is sent to the commit point.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The indexes of the intents that it carries.
    pub carried: Vec<usize>,
    /// The commands of these intents, in the same order.
    pub commands: Vec<Command>,
    /// The new values of the commands, whose objects must be packed.
    pub wants: Vec<Oid>,
    /// Committed values to look at first when packing (the refs' old values).
    pub hints: Vec<Oid>,
    /// The names that need a directory mark.
    pub directories: Vec<RefName>,
    /// The created names whose loosened marks are no obstacle.
    pub freed: Freed,
    /// The moment before which nobody has looked at the remembered marks.
    pub since: Moment,
}

impl Ended {
    /// Whether at least one intent is committed, everything committed can be read here, and nothing is unknown.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        let is_open = |verdict: &Verdict| matches!(verdict, Verdict::NotYetVisible(_) | Verdict::Unknown(_));
        self.verdicts.contains(&Verdict::Committed) && !self.verdicts.iter().any(is_open)
    }

    /// The part of a try with this end that is kept for repetitions.
    #[must_use]
    pub fn kept(&self) -> Kept {
        if self.verdicts.iter().any(|verdict| matches!(verdict, Verdict::Unknown(_))) {
            Kept::Doubt(self.txn.as_ref().map(|txn| txn.slot.clone()))
        } else if self.verdicts.iter().all(|verdict| matches!(verdict, Verdict::Refused(_))) {
            Kept::Nothing
        } else {
            Kept::Answer
        }
    }

    /// An outcome with the same verdict for every intent, and without a transaction.
    #[must_use]
    pub fn all(count: usize, verdict: &Verdict) -> Self {
        Self { txn: None, verdicts: vec![verdict.clone(); count] }
    }
}

/// The refusal of an intent whose ref does not have the expected value. The local repository already shows the actual
/// value.
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
        ..Refusal::new(RefusalCode::Stale, false, message)
    }
}

/// The result of one round of the loop.
pub(super) enum Round {
    /// Every intent has its verdict.
    Ended(Ended),
    /// Some keys may be newer in the refdb: catch up while no locks are held, then start the next round.
    Behind {
        /// Whether this round has sent a transaction.
        sent: bool,
    },
    /// An obstacle may go away: wait, then start the next round.
    Blocked(Refusal),
    /// These names are marked as directories: free them while no locks are held, then start the next round.
    Folders(Vec<RefName>),
}
