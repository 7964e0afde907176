//! Whether the refdb, the event log and the blob store answer the calls of this node. Each call is one that changes
//! nothing: a read, a removal of something that nobody has, or a conditional write whose condition does not hold.

use lockstep_proto::doctor::Severity;

use super::super::{Check, Facts, Looked};

pub(in super::super) const CHECK: Check = Check {
    name: "permissions",
    looks_at: "calls that change nothing, at the refdb, at each stream and at the blob store: are they allowed?",
    look,
};

/// Words in the texts of AWS and of stores when a caller has no right to a call.
const DENIED: [&str; 5] = ["not authorized", "AccessDenied", "denied", "Forbidden", "403"];

fn look(facts: &Facts) -> Looked {
    let mut looked = Looked::default();
    for tried in looked.see(&facts.calls).into_iter().flatten() {
        let Some(problem) = &tried.problem else { continue };
        let remedy = match DENIED.iter().any(|word| problem.contains(word)) {
            true => "attach the policy that `lockstep aws policy` prints to the identity of this node",
            false => "look at the network to it, and at its throttling: docs/operations.md, Requirements in AWS",
        };
        looked.find(Severity::Error, &tried.call, problem, remedy);
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::super::super::CallTried;
    use super::*;

    #[test]
    fn a_denied_call_names_the_policy_and_another_failure_names_the_network() {
        let remedy = |problem: &str| {
            let calls = vec![CallTried { call: "read of the journal".into(), problem: Some(problem.into()) }];
            let facts = Facts { calls: Ok(calls), ..Facts::in_order() };
            let found = look(&facts).findings;
            assert_eq!(
                (found.len(), found[0].severity, found[0].subject.as_str()),
                (1, Severity::Error, "read of the journal")
            );
            found[0].remedy.clone()
        };
        assert!(remedy("User: x is not authorized to perform: GetItem").contains("`lockstep aws policy`"));
        assert!(remedy("connection refused").contains("network"));
    }
}
