//! Translates requests of the bridge API into intents, and verdicts into its answers.

use std::collections::BTreeMap;

use lockstep_proto::bridge::{
    ApiError, Expected, Outcome, RefCommand, RefResult, RefTransactionRequest, RefTransactionResponse, Refusal,
    RefusalCode,
};
use lockstep_proto::{RefKey, RefName, RefValue};
use sha2::{Digest, Sha256};

use super::refusals::not_shown_here;
use super::work::{Ended, Intent, Verdict};
use crate::base::ref_names::{self, RefClass};

/// Checks the rule that only this stage knows: no two names of a batch exclude each other.
pub(super) fn check(request: &RefTransactionRequest) -> Result<(), ApiError> {
    let mut names = names(&request.commands);
    names.sort_unstable();
    if let Some((short, long)) = ref_names::exclusive_pair(&names) {
        let message = format!(
            "{short} and {long} exclude each other: git cannot hold both; choose another name, or push the deletion of \
             one first, in a push of its own"
        );
        return Err(ApiError::new(RefusalCode::NameConflict, false, message));
    }
    Ok(())
}

/// Splits commands into intents, for refs that are replicated, and commands on local refs.
pub(super) fn sort(commands: &[RefCommand]) -> Result<(Vec<Intent>, Vec<RefCommand>), ApiError> {
    let (mut intents, mut local) = (Vec::new(), Vec::new());
    for command in commands {
        let class = ref_names::classify(&command.name).map_err(|why| {
            ApiError::new(RefusalCode::NameConflict, false, format!("ref {} {why}; choose another name", command.name))
        })?;
        if class == RefClass::Local {
            local.push(command.clone());
            continue;
        }
        let expected = match command.old {
            Expected::Any => None,
            Expected::Absent => Some(RefValue::Absent),
            Expected::Oid(oid) => Some(RefValue::Oid(oid)),
        };
        let (key, new) = (RefKey::Ref(command.name.clone()), RefValue::from(command.new));
        intents.push(Intent { key, expected, new, force: command.force });
    }
    Ok((intents, local))
}

pub(super) fn fingerprint(request: &RefTransactionRequest) -> u64 {
    let mut text = format!("{}\n", request.atomic);
    for command in &request.commands {
        text.push_str(&format!("{} {:?} {:?} {}\n", command.name, command.old, command.new, command.force));
    }
    hash(&text)
}

/// A hash of a request's content, which tells requests apart.
pub(super) fn hash(asked: &str) -> u64 {
    let hash: [u8; 32] = Sha256::digest(asked).into();
    u64::from_le_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]])
}

pub(super) fn names(commands: &[RefCommand]) -> Vec<RefName> {
    commands.iter().map(|command| command.name.clone()).collect()
}

/// The refs that a transaction carries.
pub(super) fn carried(intents: &[Intent]) -> Vec<RefName> {
    intents.iter().filter_map(|intent| intent.key.as_ref_name().cloned()).collect()
}

/// Builds one result per command. A local ref is committed unless a verdict of the batch is bad; then it gets that
/// verdict.
pub(super) fn respond(names: &[RefName], carried: &[RefName], ended: Ended) -> RefTransactionResponse {
    let own: BTreeMap<&RefName, &Verdict> = carried.iter().zip(&ended.verdicts).collect();
    let bad = ended.verdicts.iter().find(|one| is_bad(one));
    let of = |name: &RefName| own.get(name).copied().or(bad);
    let results: Vec<RefResult> = names
        .iter()
        .map(|name| {
            let (outcome, refusal) = of(name).map_or((Outcome::Committed, None), split);
            RefResult { name: name.clone(), outcome, refusal }
        })
        .collect();
    let any = |wanted| results.iter().any(|result| result.outcome == wanted);
    let outcome = [Outcome::Unknown, Outcome::CommittedNotYetVisible, Outcome::Committed]
        .into_iter()
        .find(|outcome| any(*outcome))
        .unwrap_or(Outcome::Refused);
    RefTransactionResponse { outcome, txn: ended.txn, results }
}

fn is_bad(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Refused(_) | Verdict::Unknown(_))
}

pub(super) fn split(verdict: &Verdict) -> (Outcome, Option<Refusal>) {
    match verdict {
        Verdict::Committed => (Outcome::Committed, None),
        Verdict::NotYetVisible(why) => (Outcome::CommittedNotYetVisible, Some(not_shown_here(why))),
        Verdict::Refused(refusal) => (Outcome::Refused, Some(refusal.clone())),
        Verdict::Unknown(refusal) => (Outcome::Unknown, Some(refusal.clone())),
    }
}
