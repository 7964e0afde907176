//! Batches and the locks of operators: refuses a batch that a lock keeps out, and lets the holder in by its token.
//!
//! This node's knowledge only refuses. That the holder still holds the lock is a condition of the write at the commit
//! point. The caller is inside the quiesce of the project, so that a node obeys a lock once those inside have left.

use lockstep_proto::bridge::{Refusal, RefusalCode};
use lockstep_proto::limits;
use lockstep_proto::locks::{Lock, LockKind};

use super::Committer;
use super::ends::{not_known, refuse_open};
use super::refusals::not_held;
use super::requests::Doubt;
use super::work::{Proposal, Round, Verdict, Work};

impl Committer {
    /// Refuses the open intents that a lock keeps out. The error is the refusal of the whole batch: its token cannot be
    /// checked, or is that of no held lock on the project, the whole project is locked, or the batch is atomic or may
    /// have been committed before.
    pub(super) fn locked_out(
        &self,
        work: &Work,
        verdicts: &mut [Option<Verdict>],
        caught_up: bool,
    ) -> Result<(), Refusal> {
        let may_be_committed = self.is_in_doubt(work) || (!caught_up && self.committed.has_gaps());
        let (locks, token) = (&self.operator_locks, work.lock.as_deref());
        if token.is_some() && !self.attempts.refdb.refs.checks_locks() {
            return Err(not_checked());
        }
        if let Some(token) = token {
            // A refusal by the write is final only because nothing is sent before the lock is held.
            match locks.with_token(token, &self.site, &work.project.name) {
                None => return Err(not_held()),
                Some(lock) if !lock.held => return Err(not_yet_held(&lock)),
                Some(_) => {}
            }
        }
        for (intent, verdict) in work.intents.iter().zip(verdicts).filter(|(_, verdict)| verdict.is_none()) {
            let Some(lock) = locks.in_the_way(&self.site, &work.project.name, &intent.key, token) else { continue };
            let refused = locked(&lock);
            if work.atomic || lock.target.name.is_none() || may_be_committed {
                return Err(refused);
            }
            *verdict = Some(Verdict::Refused(refused));
        }
        Ok(())
    }

    /// The end of a round that a lock keeps out. An earlier try of the request may be committed, or may still be: it is
    /// looked for before the request is refused.
    pub(super) fn kept_out(
        &self,
        work: &Work,
        verdicts: &[Option<Verdict>],
        caught_up: bool,
        refused: &Refusal,
    ) -> Round {
        // If a slot tells the outcome of the earlier try, it is known by now.
        let has_no_slot = matches!(self.doubt(work), Doubt::Open | Doubt::Forgotten);
        if has_no_slot && self.in_doubt.open() > 0 {
            let why = "its outcome is not known yet, and a lock keeps a new try out";
            return Round::Ended(not_known(verdicts.len(), &why));
        }
        if !caught_up && (self.is_in_doubt(work) || self.committed.has_gaps()) {
            return Round::Behind { sent: false };
        }
        match self.waits_for_its_lock(work) {
            true => Round::Blocked(refused.clone()),
            false => Round::Ended(refuse_open(verdicts.to_vec(), refused)),
        }
    }

    /// Whether the lock of the batch is being acquired, as far as this node knows. It may be held already.
    fn waits_for_its_lock(&self, work: &Work) -> bool {
        let lock = |token: &str| self.operator_locks.with_token(token, &self.site, &work.project.name);
        self.attempts.refdb.refs.checks_locks() && work.lock.as_deref().and_then(lock).is_some_and(|lock| !lock.held)
    }

    fn is_in_doubt(&self, work: &Work) -> bool {
        self.doubt(work) != Doubt::None
    }

    fn doubt(&self, work: &Work) -> Doubt {
        self.requests.doubt(&work.project.name, &work.request_id)
    }
}

/// The refusal of a batch that a lock keeps out.
pub(super) fn locked(lock: &Lock) -> Refusal {
    let Lock { kind, target, owner, reason, until, .. } = lock;
    let until = until.as_ref().map(|until| format!(", expected until {until}")).unwrap_or_default();
    let message = match kind {
        LockKind::Lock => format!(
            "{target} is locked by {owner} until released (reason: {reason}{until}); nothing was changed; retry later"
        ),
        LockKind::Maintenance => format!(
            "{target} is in maintenance (by {owner}, reason: {reason}{until}); nothing was changed; reads go on, retry \
             later"
        ),
    };
    Refusal::new(RefusalCode::Locked, true, message).with_next_step()
}

/// The refusal of a batch whose lock is being acquired.
fn not_yet_held(lock: &Lock) -> Refusal {
    let message = format!(
        "the lock on {} under which this was sent is not held yet: a node that can commit may not obey it; nothing was \
         changed; repeat the acquisition until it is held, and try again",
        lock.target
    );
    Refusal::new(RefusalCode::Locked, true, message).with_next_step()
}

/// The refusal of a batch with a token, where no write can check it.
fn not_checked() -> Refusal {
    let message = "the refdb is written one item at a time, so nothing is committed under a lock; nothing was changed; \
                   end the lock or the maintenance, and send it without a token";
    Refusal::new(RefusalCode::Locked, false, message).with_next_step()
}

/// The refusal of a batch that fits into one write, and not together with its lock.
pub(super) fn too_many_under_lock(work: &Work, proposal: &Proposal) -> Option<Refusal> {
    let most = limits::WRITE_COMMANDS;
    let message = format!(
        "exactly {most} refs do not fit into one commit together with the lock; nothing was changed; push fewer or \
         more at a time"
    );
    let is_full = work.lock.is_some() && proposal.commands.len() == most;
    is_full.then(|| Refusal::new(RefusalCode::Invalid, false, message))
}

#[cfg(test)]
mod tests {
    use lockstep_proto::locks::LockTarget;

    use super::*;

    #[test]
    fn users_read_the_owner_the_reason_and_the_expected_end() {
        let lock = Lock {
            token: "7-aa".to_owned(),
            held: true,
            id: 7,
            kind: LockKind::Lock,
            target: LockTarget::project("tools/build".parse().unwrap()),
            owner: "alice".to_owned(),
            reason: "repack".to_owned(),
            request_id: "r".to_owned(),
            by: "uid 0".to_owned(),
            since_ms: 1,
            renewals: 0,
            ttl_ms: None,
            until: None,
        };
        let told = locked(&lock);
        let text = "project tools/build is locked by alice until released (reason: repack); nothing was changed; retry \
                    later";
        assert_eq!((told.message.as_str(), told.code, told.retry), (text, RefusalCode::Locked, true));
        let until = Some("2026-12-01T20:00:00Z".to_owned());
        let target = LockTarget::site("eu-aws".parse().unwrap());
        let told = locked(&Lock { kind: LockKind::Maintenance, target, until, ..lock.clone() });
        let text = "site eu-aws is in maintenance (by alice, reason: repack, expected until 2026-12-01T20:00:00Z); \
                    nothing was changed; reads go on, retry later";
        assert_eq!(told.message, text);
        assert!(!told.message.contains(&lock.token), "a token is for its holder alone");
        assert!(!not_held().retry, "no token comes back");
        assert!(not_yet_held(&lock).retry, "it may be held soon");
        assert!(!not_yet_held(&lock).message.contains(&lock.token), "a token is for its holder alone");
    }
}
