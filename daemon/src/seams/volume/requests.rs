//! Committed requests of the bridge API: the durable memory from which repeated requests are answered.

use lockstep_proto::{ProjectName, RefKey, RefValue, TxnId, Version};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A project's name and the id that the caller chose.
pub type RequestKey = (ProjectName, String);

/// The outcome of a request that was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedRequest {
    /// The transaction that committed it.
    pub txn: TxnId,
    /// When the transaction was committed, in milliseconds since 1970. It decides only how long the entry is kept.
    pub at_ms: u64,
    /// One entry per committed command: [`command_digest`], and the version that the command gave to its ref.
    pub steps: Vec<(u64, Version)>,
}

/// Tells one command of a request from another: a hash of its ref and its new value. The store keeps it, so it is the
/// same in every release.
#[must_use]
pub fn command_digest(key: &RefKey, new: &RefValue) -> u64 {
    let hash: [u8; 32] = Sha256::digest(format!("{key} {new}")).into();
    u64::from_be_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]])
}

impl CommittedRequest {
    /// The version that a command of the request gave to its ref. None if the command was not committed.
    #[must_use]
    pub fn version_of(&self, key: &RefKey, new: &RefValue) -> Option<Version> {
        let digest = command_digest(key, new);
        self.steps.iter().find(|(one, _)| *one == digest).map(|(_, version)| *version)
    }
}
