//! The programs of all nodes: releases that run beside each other must be neighbours.

use std::collections::BTreeMap;

use lockstep_proto::doctor::Severity;

use super::super::release::Release;
use super::super::{Check, Facts, Looked};

pub(in super::super) const CHECK: Check =
    Check { name: "versions", looks_at: "the programs of all nodes, as their digests in the refdb tell", look };

fn look(facts: &Facts) -> Looked {
    let mut looked = Looked::default();
    let mut releases: BTreeMap<Release, &str> = BTreeMap::new();
    for one in looked.see(&facts.programs).into_iter().flatten() {
        match Release::find(&one.program) {
            Some(release) => _ = releases.insert(release, &one.node),
            None => {
                let text = format!("its digest tells no version ({:?})", one.program);
                looked.find(Severity::Note, &one.node, text, "look at that node with `lockstep --version`");
            }
        }
    }
    let (Some((least, old)), Some((most, new))) = (releases.first_key_value(), releases.last_key_value()) else {
        return looked;
    };
    let text = format!("{old} runs {least}, and {new} runs {most}");
    if !least.is_beside(*most) {
        let remedy = format!("bring {old} to the release after {least} first; only neighbours understand each other");
        looked.find(Severity::Error, *old, text, remedy);
    } else if least != most {
        looked.find(Severity::Note, *old, text, "complete the upgrade: docs/install/upgrade.md");
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::super::super::NodeProgram;
    use super::*;

    #[test]
    fn releases_that_are_no_neighbours_are_an_error_and_an_upgrade_in_progress_is_a_note() {
        let found = |programs: &[&str]| {
            let program =
                |(at, program): (usize, &&str)| NodeProgram { node: format!("n-{at}"), program: (*program).into() };
            let programs = Ok(programs.iter().enumerate().map(program).collect());
            let found = look(&Facts { programs, ..Facts::in_order() }).findings;
            found.into_iter().map(|one| (one.severity, one.subject)).collect::<Vec<_>>()
        };
        assert_eq!(found(&["0.1.0", "0.1.0"]), []);
        assert_eq!(found(&["0.2.0", "0.1.0"]), [(Severity::Note, "n-1".to_owned())]);
        assert_eq!(found(&["0.3.0", "0.1.0"]), [(Severity::Error, "n-1".to_owned())]);
        assert_eq!(found(&["0.1.0", ""]), [(Severity::Note, "n-1".to_owned())]);
    }
}
