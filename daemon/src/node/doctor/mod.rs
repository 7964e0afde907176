//! The doctor: checks of a node and its surroundings that are made while everything is up.
//!
//! A check is a pure function of [`Facts`]: it has a name, says what it looks at, and gives findings, each with its
//! remedy. The facts are gathered before, so a test breaks a fact, or the thing itself. A fact that could not be seen
//! makes its check say so: nothing is reported as in order that was not looked at.
//!
//! The sidecar gathers all facts. The command `lockstep doctor` gathers those of the machine by itself when the sidecar
//! does not answer.
//!
//! | file | idea |
//! |---|---|
//! | `facts` | the facts |
//! | `gather` | gathers those of this machine, of names, and of clocks |
//! | `places` | the places at which the node calls AWS |
//! | `checks` | the checks, one per file |
//! | `shared` | the settings that all nodes should share, and a hash of the configuration |
//! | `traps` | known traps of Gerrit's releases |
//! | `release` | numbers of releases |

mod checks;
mod facts;
pub mod gather;
mod places;
pub mod release;
pub mod shared;
mod traps;

use lockstep_proto::doctor::{CheckResult, Finding, Severity};

pub use checks::disk::{FREE, scarce};
pub use facts::{
    Access, CallTried, Certificate, Facts, Folder, Host, NodeProgram, NotSeen, OwnedFile, PeerSeen, Process, Seen,
    ServerClock, Space, StreamComplaint,
};

/// A check of the doctor.
pub struct Check {
    /// Its name, one word or two with a hyphen.
    pub name: &'static str,
    /// The facts that it looks at, for people.
    pub looks_at: &'static str,
    /// Looks at the facts.
    look: fn(&Facts) -> Looked,
}

/// The result of a look: findings, and why something could not be seen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Looked {
    findings: Vec<Finding>,
    not_seen: Option<String>,
}

impl Looked {
    /// A finding with its subject and its remedy.
    fn find(&mut self, severity: Severity, subject: impl ToString, text: impl ToString, remedy: impl ToString) {
        let (subject, text, remedy) = (subject.to_string(), text.to_string(), remedy.to_string());
        self.findings.push(Finding { severity, subject, text, remedy });
    }

    /// The value of a fact. One that could not be seen is noted.
    fn see<'a, T>(&mut self, fact: &'a Seen<T>) -> Option<&'a T> {
        match fact {
            Ok(value) => Some(value),
            Err(why) => {
                let noted = self.not_seen.get_or_insert_default();
                if !noted.contains(&why.0) {
                    let gap = if noted.is_empty() { "" } else { "; " };
                    noted.push_str(&format!("{gap}{why}"));
                }
                None
            }
        }
    }
}

/// All checks, in the order in which they are shown.
pub static CHECKS: [Check; 12] = [
    checks::dns::CHECK,
    checks::tls::CHECK,
    checks::permissions::CHECK,
    checks::clock::CHECK,
    checks::disk::CHECK,
    checks::process::CHECK,
    checks::git::CHECK,
    checks::peers::CHECK,
    checks::drift::CHECK,
    checks::retention::CHECK,
    checks::versions::CHECK,
    checks::gerrit::CHECK,
];

/// Runs all checks over the facts.
#[must_use]
pub fn examine(facts: &Facts) -> Vec<CheckResult> {
    let result = |check: &Check| {
        let Looked { findings, not_seen } = (check.look)(facts);
        CheckResult { check: check.name.to_owned(), looks_at: check.looks_at.to_owned(), findings, not_seen }
    };
    CHECKS.iter().map(result).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_node_in_order_has_no_findings_and_every_check_has_seen_its_facts() {
        for result in examine(&Facts::in_order()) {
            assert_eq!((&result.findings, &result.not_seen), (&Vec::new(), &None), "{}", result.check);
        }
    }

    #[test]
    fn names_of_checks_are_unique() {
        let names: BTreeSet<&str> = CHECKS.iter().map(|check| check.name).collect();
        assert_eq!(names.len(), CHECKS.len());
    }

    #[test]
    fn a_fact_that_was_not_seen_is_no_fact_in_order() {
        let away = || NotSeen("the sidecar does not answer".to_owned());
        let facts = Facts {
            process: Err(away()),
            certificate: Some(Err(away())),
            git: Err(away()),
            servers: vec![ServerClock { server: "DynamoDB".into(), ahead_ms: Err(away()) }],
            calls: Err(away()),
            streams: Err(away()),
            peers: Err(away()),
            programs: Err(away()),
            gerrit: Err(away()),
            ..Facts::in_order()
        };
        let seen: Vec<String> =
            examine(&facts).into_iter().filter(|one| one.not_seen.is_none()).map(|one| one.check).collect();
        assert_eq!(seen, ["dns", "tls", "disk"], "the others say that they have not looked");
    }
}
