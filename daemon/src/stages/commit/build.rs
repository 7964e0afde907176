//! Builds the transaction of a proposal: its pack, its bases and its bytes.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use lockstep_proto::bridge::Refusal;
use lockstep_proto::{Oid, Pack, Slot, Transaction, limits};

use super::Committer;
use super::refusals::{not_packed, unavailable};
use super::unused_blob::UnusedBlob;
use super::work::{Proposal, Work};
use crate::base::ref_names;
use crate::seams::blob::Payload;
use crate::seams::git::{GitError, IsCommitted, Packed};
use crate::seams::refdb::CommitRequest;

/// Why a proposal has no pack.
pub(super) enum NotReady {
    /// Objects cannot be packed, or must not be committed.
    Git(GitError),
    /// The pack could not be stored.
    Refused(Refusal),
}

impl NotReady {
    /// Whether an object of the proposal is flawed, so that its other commands may be committed without it.
    pub(super) fn is_flaw(&self) -> bool {
        matches!(self, Self::Git(GitError::Flawed { .. } | GitError::Bad { .. }))
    }

    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::Git(error) => not_packed(error),
            Self::Refused(refusal) => refusal.clone(),
        }
    }
}

impl From<GitError> for NotReady {
    fn from(error: GitError) -> Self {
        Self::Git(error)
    }
}

impl From<Refusal> for NotReady {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The objects of a proposal, packed for its transaction.
#[derive(Clone)]
pub(super) struct Ready {
    pack: Pack,
    bases: Vec<Oid>,
}

/// Packs the objects that the proposal's new values need beyond committed values, and judges them. A pack that is too
/// large for the transaction is in the blob store when this returns, and so before the commit point. The caller has its
/// blob, which goes with the attempt.
pub(super) async fn pack(node: &Committer, work: &Work, proposal: &Proposal) -> Result<(Ready, UnusedBlob), NotReady> {
    let without_blob = |pack, bases| (Ready { pack, bases }, UnusedBlob::before_put(node, None));
    if proposal.wants.is_empty() {
        return Ok(without_blob(Pack::Empty, Vec::new()));
    }
    let Packed { payload, bases } = judged(node, work, &proposal.wants, &proposal.hints).await?;
    // In a large transaction, the commands take the room of an inline pack.
    let is_large = proposal.commands.len() > limits::WRITE_COMMANDS;
    let inline = if is_large { 0 } else { node.limits.inline_pack_bytes.min(limits::INLINE_PACK_BYTES) };
    match payload {
        None => Ok(without_blob(Pack::Empty, bases)),
        Some(Payload::Memory(bytes)) if bytes.len() <= inline => Ok(without_blob(Pack::Inline(bytes), bases)),
        Some(payload) => {
            let (pack, blob) = store(node, &payload).await?;
            Ok((Ready { pack, bases }, blob))
        }
    }
}

/// Packs the objects that `wants` need beyond committed values, and holds them against the server's rules.
async fn judged(node: &Committer, work: &Work, wants: &[Oid], hints: &[Oid]) -> Result<Packed, GitError> {
    let (versions, project) = (Arc::clone(&node.versions), work.project.clone());
    // If the version map fails, answer "not committed": the pack then carries more than it must, never less.
    let behind = work.seed.as_ref().map(|seed| Arc::clone(&seed.behind));
    let is_committed: IsCommitted = Arc::new(move |oid| {
        versions.is_committed(&project, oid).unwrap_or(false) || behind.as_ref().is_some_and(|behind| behind(oid))
    });
    let packed = node.repositories.pack(&work.project.name, wants, hints, &is_committed).await?;
    if let Some(pack) = &packed.payload {
        node.repositories.judge(&work.project.name, pack, work.judged).await?;
    }
    Ok(packed)
}

/// Finds the commands of a refused proposal whose own objects are flawed, with the refusal of each. The refused half of
/// a range is halved again, so that one flaw among many refs costs a few packs.
pub(super) async fn flawed(node: &Committer, work: &Work, proposal: &Proposal) -> Vec<(usize, Refusal)> {
    let mut flawed = Vec::new();
    let mut ranges: Vec<Range<usize>> = std::iter::once(0..proposal.commands.len()).collect();
    while let Some(range) = ranges.pop() {
        let commands = &proposal.commands[range.clone()];
        let wants: Vec<Oid> = commands.iter().filter_map(|command| command.new.oid()).collect();
        let hints: Vec<Oid> = commands.iter().filter_map(|command| command.old.oid()).collect();
        if wants.is_empty() {
            continue;
        }
        let Err(error @ (GitError::Flawed { .. } | GitError::Bad { .. })) = judged(node, work, &wants, &hints).await
        else {
            continue;
        };
        if range.len() == 1 {
            flawed.push((proposal.carried[range.start], not_packed(&error)));
        } else {
            let middle = range.start + range.len() / 2;
            ranges.extend([middle..range.end, range.start..middle]);
        }
    }
    flawed
}

/// Puts a pack into the blob store.
async fn store(node: &Committer, payload: &Payload) -> Result<(Pack, UnusedBlob), Refusal> {
    let sha256 = payload.sha256().await.map_err(|error| unavailable(&error))?;
    // Transactions never share a blob: each blob is deleted with the slot of its transaction.
    let key = format!("packs/{}-{:016x}", hex::encode(sha256), node.attempts.entropy.next());
    let blob = UnusedBlob::before_put(node, Some(key.clone()));
    node.blobs.put(&key, payload).await.map_err(|error| unavailable(&error))?;
    blob.is_stored();
    Ok((Pack::Blob { key, bytes: payload.len(), sha256 }, blob))
}

/// Builds the commit request for one slot. The transaction is encoded here, once, so that all copies have the same
/// bytes.
pub(super) fn request(node: &Committer, work: &Work, proposal: &Proposal, ready: Ready, slot: &Slot) -> CommitRequest {
    let mut commands = proposal.commands.clone();
    commands.sort_by_key(|command| {
        let rank = command.key.as_ref_name().map_or(0, ref_names::visibility_rank);
        (!command.new.is_absent(), rank, command.key.clone())
    });
    let transaction = Transaction {
        id: slot.txn(node.attempts.entropy.next()),
        site: node.site.clone(),
        project: work.project.clone(),
        committed_at_ms: node.clock.now_ms(),
        commands,
        pack: ready.pack,
        bases: ready.bases,
        request_id: work.request_id.clone(),
        actor: work.actor.clone(),
        traceparent: work.traceparent.clone(),
        message: work.message.clone(),
        loosens: work.loosens,
    };
    let mut directories = proposal.directories.clone();
    directories.sort_unstable();
    let encoded: Bytes = transaction.encode();
    let (freed, lock_token) = (proposal.freed.clone(), work.lock.clone());
    CommitRequest { transaction, encoded, directories, freed, lock_token }
}
