//! The ends of a batch: the verdicts of its intents after a commit, a refusal, or neither.

use std::fmt::Display;

use lockstep_proto::Transaction;
use lockstep_proto::bridge::{Refusal, RefusalCode};

use super::refusals::{below, busy, earlier_try, in_doubt, name_conflict, not_held, too_late};
use super::work::{Ended, Proposal, Round, Verdict, Work};
use crate::seams::refdb::Obstacle;
use crate::state::materialize::MaterializeError;

/// The answer when nothing proves whether an earlier try was committed.
pub(super) fn not_known(count: usize, why: &dyn Display) -> Ended {
    Ended::all(count, &Verdict::Unknown(earlier_try(why)))
}

/// The end of a batch whose transaction is committed. `shown`: why its values cannot be read here yet, if so.
pub(super) fn accept(
    verdicts: &mut [Option<Verdict>],
    proposal: &Proposal,
    committed: Transaction,
    shown: Result<(), MaterializeError>,
) -> Ended {
    let verdict = shown.map_or_else(|error| Verdict::NotYetVisible(error.to_string()), |()| Verdict::Committed);
    Ended { txn: Some(committed.id), ..end_carried(verdicts, proposal, &verdict, &too_late()) }
}

/// The end of a batch whose transaction is in doubt.
pub(super) fn unknown(verdicts: &mut [Option<Verdict>], proposal: &Proposal, sent: Transaction) -> Ended {
    let verdict = Verdict::Unknown(in_doubt(&sent.id));
    Ended { txn: Some(sent.id), ..end_carried(verdicts, proposal, &verdict, &too_late()) }
}

/// Handles a refusal by the refdb. After a stale ref the node catches up and tries again. A live ref above a created
/// one is a verdict. A lock may go away, so the batch waits. A name that is marked as a directory may be free.
pub(super) fn refused(
    work: &Work,
    verdicts: &mut [Option<Verdict>],
    proposal: &Proposal,
    obstacles: &[Obstacle],
) -> Round {
    if obstacles.iter().any(|obstacle| matches!(obstacle, Obstacle::Stale(_))) {
        return Round::Behind { sent: true };
    }
    if obstacles.contains(&Obstacle::LockNotHeld) {
        return Round::Ended(refuse_carried(verdicts, proposal, &not_held()));
    }
    let (mut locked, mut folders) = (None, Vec::new());
    for obstacle in obstacles {
        let (names, refused) = match obstacle {
            Obstacle::IsDirectory(name) => {
                folders.push(name.clone());
                continue;
            }
            Obstacle::PrefixIsLive(prefix) => (below(proposal, prefix), name_conflict(prefix, "is a ref itself")),
            Obstacle::Locked(item) => {
                locked = Some(busy(item));
                continue;
            }
            Obstacle::Stale(_) | Obstacle::Slot(_) | Obstacle::LockNotHeld => continue,
        };
        for at in &proposal.carried {
            if names.iter().any(|name| work.intents[*at].key.as_ref_name() == Some(name)) {
                verdicts[*at] = Some(Verdict::Refused(refused.clone()));
            }
        }
    }
    if let Some(locked) = locked {
        return Round::Blocked(locked);
    }
    if !folders.is_empty() {
        return Round::Folders(folders);
    }
    // The refs with a verdict have left the batch. The next round sends the others under a new id, or refuses the batch
    // if it is atomic.
    Round::Blocked(Refusal::new(RefusalCode::NameConflict, false, "a ref name of this batch excludes another ref"))
}

/// Refuses the intents that a transaction carried, and those without a verdict.
pub(super) fn refuse_carried(verdicts: &mut [Option<Verdict>], proposal: &Proposal, refused: &Refusal) -> Ended {
    end_carried(verdicts, proposal, &Verdict::Refused(refused.clone()), refused)
}

/// Gives all intents that a transaction carried one verdict, and refuses those that have none.
fn end_carried(verdicts: &mut [Option<Verdict>], proposal: &Proposal, verdict: &Verdict, open: &Refusal) -> Ended {
    for at in &proposal.carried {
        verdicts[*at] = Some(verdict.clone());
    }
    refuse_open(verdicts.to_vec(), open)
}

/// Refuses every intent of an atomic batch that is not refused yet. Nothing of the batch was committed.
pub(super) fn refuse_rest(verdicts: &[Option<Verdict>], refused: &Refusal) -> Ended {
    let each = verdicts.iter().map(|verdict| match verdict {
        Some(Verdict::Refused(own)) => Verdict::Refused(own.clone()),
        _ => Verdict::Refused(refused.clone()),
    });
    Ended { txn: None, verdicts: each.collect() }
}

/// Refuses every intent without a verdict.
pub(super) fn refuse_open(verdicts: Vec<Option<Verdict>>, refused: &Refusal) -> Ended {
    let each = verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(|| Verdict::Refused(refused.clone())));
    Ended { txn: None, verdicts: each.collect() }
}
