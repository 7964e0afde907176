//! A batch as a caller sends it, before the names of its refs are checked, and its answer.
//!
//! One bad name must not refuse the whole batch: the ref is answered for itself. So a batch is read with names that are
//! plain text, and sorted into the commands that can be tried and the refs that cannot.

use serde::{Deserialize, Serialize};

use crate::bridge::{
    Expected, Outcome, RefCommand, RefResult, RefTransactionRequest, RefTransactionResponse, Refusal, RefusalCode,
    stated,
};
use crate::oid::Oid;
use crate::slot::TxnId;

/// The JSON of [`RefTransactionRequest`], with unchecked names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedBatch {
    request_id: String,
    #[serde(default)]
    deadline_ms: Option<u64>,
    #[serde(default)]
    atomic: bool,
    commands: Vec<NamedCommand>,
    #[serde(default)]
    actor: Option<String>,
    #[serde(default)]
    traceparent: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    lock: Option<String>,
}

/// The JSON of [`RefCommand`], with an unchecked name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedCommand {
    #[serde(rename = "ref")]
    name: String,
    #[serde(default)]
    old: Expected,
    #[serde(deserialize_with = "stated")]
    new: Option<Oid>,
    #[serde(default)]
    force: bool,
}

/// A ref whose name is none, at its place in the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Misnamed {
    at: usize,
    name: String,
    why: String,
}

/// The refs of a batch whose names are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BadNames(Vec<Misnamed>);

/// The JSON of [`RefTransactionResponse`], in the order of the request, with the refs whose names are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedResponse {
    outcome: Outcome,
    txn: Option<TxnId>,
    results: Vec<NamedResult>,
}

/// The JSON of [`RefResult`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct NamedResult {
    #[serde(rename = "ref")]
    name: String,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Refusal>,
}

impl NamedBatch {
    /// The number of commands.
    #[must_use]
    pub fn count(&self) -> usize {
        self.commands.len()
    }

    /// Sorts the commands by their names. The request has the commands that can be tried, in their order.
    #[must_use]
    pub fn sort(self) -> (RefTransactionRequest, BadNames) {
        let (mut commands, mut bad) = (Vec::with_capacity(self.commands.len()), BadNames::default());
        for (at, NamedCommand { name, old, new, force }) in self.commands.into_iter().enumerate() {
            match name.parse() {
                Ok(name) => commands.push(RefCommand { name, old, new, force }),
                Err(error) => bad.0.push(Misnamed { at, name, why: format!("{error}; choose another name") }),
            }
        }
        let Self { request_id, deadline_ms, atomic, actor, traceparent, message, lock, .. } = self;
        (RefTransactionRequest { request_id, deadline_ms, atomic, commands, actor, traceparent, message, lock }, bad)
    }
}

impl BadNames {
    /// The answer to a batch that is not tried, if it must not be: all of its names are bad, or one is and the batch is
    /// atomic.
    #[must_use]
    pub fn ends(&self, request: &RefTransactionRequest) -> Option<RefTransactionResponse> {
        if self.0.is_empty() || !(request.atomic || request.commands.is_empty()) {
            return None;
        }
        let why = "another ref of the batch has a bad name, and the batch is atomic; nothing was changed";
        let refused = |command: &RefCommand| RefResult {
            name: command.name.clone(),
            outcome: Outcome::Refused,
            refusal: Some(Refusal::new(RefusalCode::Transaction, false, why)),
        };
        let results = request.commands.iter().map(refused).collect();
        Some(RefTransactionResponse { outcome: Outcome::Refused, txn: None, results })
    }

    /// Puts the refs whose names are bad into the answer to the others.
    #[must_use]
    pub fn join(self, response: RefTransactionResponse) -> NamedResponse {
        let RefTransactionResponse { outcome, txn, results } = response;
        let named = |RefResult { name, outcome, refusal }| NamedResult { name: name.to_string(), outcome, refusal };
        let mut results: Vec<NamedResult> = results.into_iter().map(named).collect();
        for Misnamed { at, name, why } in self.0 {
            let refusal = Some(Refusal::new(RefusalCode::Invalid, false, why));
            results.insert(at.min(results.len()), NamedResult { name, outcome: Outcome::Refused, refusal });
        }
        NamedResponse { outcome, txn, results }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(atomic: bool, names: &[&str]) -> (RefTransactionRequest, BadNames) {
        let commands: Vec<String> = names.iter().map(|name| format!(r#"{{"ref":"{name}","new":null}}"#)).collect();
        let text = format!(r#"{{"request_id":"r","atomic":{atomic},"commands":[{}]}}"#, commands.join(","));
        serde_json::from_str::<NamedBatch>(&text).unwrap().sort()
    }

    fn committed(request: &RefTransactionRequest) -> RefTransactionResponse {
        let result =
            |one: &RefCommand| RefResult { name: one.name.clone(), outcome: Outcome::Committed, refusal: None };
        let results = request.commands.iter().map(result).collect();
        RefTransactionResponse { outcome: Outcome::Committed, txn: None, results }
    }

    #[test]
    fn a_bad_name_is_answered_at_its_place_and_the_others_are_tried() {
        let (request, bad) = batch(false, &["refs/heads/a..b", "refs/heads/c", "x", "refs/heads/d"]);
        assert_eq!(bad.ends(&request), None);
        let answer = serde_json::to_value(bad.join(committed(&request))).unwrap();
        let results: Vec<(String, String)> = answer["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| (one["ref"].as_str().unwrap().to_owned(), one["outcome"].as_str().unwrap().to_owned()))
            .collect();
        let pair = |name: &str, outcome: &str| (name.to_owned(), outcome.to_owned());
        let wanted = [
            pair("refs/heads/a..b", "refused"),
            pair("refs/heads/c", "committed"),
            pair("x", "refused"),
            pair("refs/heads/d", "committed"),
        ];
        assert_eq!(results, wanted);
        assert!(answer["results"][0]["refusal"]["message"].as_str().unwrap().contains("contains '..'"), "{answer}");
    }

    #[test]
    fn an_atomic_batch_with_a_bad_name_is_not_tried() {
        let (request, bad) = batch(true, &["refs/heads/a", "refs/heads/b."]);
        let answer = bad.ends(&request).expect("an answer");
        let joined = bad.join(answer);
        assert!(joined.results.iter().all(|result| result.outcome == Outcome::Refused));
        assert_eq!(joined.results.len(), 2);
    }

    #[test]
    fn without_a_bad_name_the_answer_has_the_same_bytes() {
        let (request, bad) = batch(true, &["refs/heads/a", "refs/heads/b"]);
        assert_eq!(bad.ends(&request), None);
        let answer = committed(&request);
        assert_eq!(serde_json::to_string(&bad.join(answer.clone())).unwrap(), serde_json::to_string(&answer).unwrap());
    }
}
