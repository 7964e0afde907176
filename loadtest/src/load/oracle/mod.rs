//! The oracle: decides after a run whether the sites hold exactly what their clients were told. A run that it refuses
//! has failed, however fast it was.
//!
//! It needs the folder of the run alone: the ledger, the refs of the refdb as they were read at the end, and the
//! repositories. So `lockstep-loadtest check FOLDER` repeats its judgement.
//!
//! | file | idea |
//! |---|---|
//! | `evidence` | the folder of a finished run |
//! | `repositories` | reads refs and runs `git fsck` |
//! | `agree` | all sites and the refdb have the same refs |
//! | `chain` | the history of one ref is a chain of the acknowledged updates, in an order that the clients saw |
//! | `histories` | sorts the ledger by ref, and judges batches as a whole |

mod agree;
mod chain;
mod evidence;
mod histories;
mod repositories;

use serde::{Deserialize, Serialize};

pub use evidence::{Evidence, FinalRef, SiteRefs};
pub use repositories::{Refs, fsck, refs};

/// The kind of a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A site has another value than the refdb, or than another site.
    SitesDiffer,
    /// Git finds a fault in a repository.
    Damaged,
    /// An acknowledged update is not in the history of its ref.
    Lost,
    /// A ref has more versions than updates, or an update is there twice.
    AppliedTwice,
    /// Two acknowledged updates replaced the same value.
    Forked,
    /// A value that no request wrote.
    Foreign,
    /// An update that was refused is in the history of its ref.
    RefusedAndApplied,
    /// A batch is there in part.
    Torn,
    /// An update took effect before another one that was answered before it began.
    OutOfOrder,
    /// A node says that its own version map or disk differs from the refdb.
    VerifyFailed,
    /// A listener received an event before the refs that it names.
    EventTooEarly,
    /// A listener did not receive an event that it should, or received it twice.
    EventLost,
    /// Gerrit's index differs from NoteDb.
    IndexDiffers,
}

/// One violation, for people to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The kind.
    pub kind: Kind,
    /// The place, the values, and the reason.
    pub text: String,
}

impl Violation {
    /// A violation.
    #[must_use]
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

/// The judgement of the oracle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// All violations, at most [`MOST_SHOWN`] of each check.
    pub violations: Vec<Violation>,
    /// The number of requests in the ledger.
    pub requests: u64,
    /// The number of refs whose history was checked.
    pub refs: u64,
    /// The number of moves in these histories.
    pub moves: u64,
    /// The number of requests whose outcome no client knows, and that turned out to be committed.
    pub unknown_committed: u64,
    /// The number of requests whose outcome no client knows, and that turned out not to be committed.
    pub unknown_absent: u64,
    /// The number of repositories that `git fsck` checked.
    pub repositories: u64,
}

/// The most violations of one check that are listed.
pub const MOST_SHOWN: usize = 100;

impl Judgement {
    /// Whether there is no violation.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Judges a finished run.
#[must_use]
pub fn judge(evidence: &Evidence) -> Judgement {
    judge_sites(evidence, histories::judge(evidence))
}

/// Adds the judgement of the sites by themselves: equal refs everywhere, whole repositories, nodes that verified
/// themselves.
#[must_use]
pub fn judge_sites(evidence: &Evidence, mut judgement: Judgement) -> Judgement {
    let repositories = evidence.sites.iter().map(|site| site.refs.len() as u64).sum();
    judgement.repositories = repositories;
    judgement.violations.extend(agree::check(evidence).into_iter().take(MOST_SHOWN));
    let damaged = evidence.damage.iter().map(|text| Violation::new(Kind::Damaged, text));
    judgement.violations.extend(damaged.take(MOST_SHOWN));
    let verify = evidence.verify.iter().map(|text| Violation::new(Kind::VerifyFailed, text));
    judgement.violations.extend(verify.take(MOST_SHOWN));
    judgement
}
