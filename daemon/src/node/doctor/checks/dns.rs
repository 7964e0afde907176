//! Whether the names of hosts in the configuration lead to addresses.

use lockstep_proto::doctor::Severity;

use super::super::{Check, Facts, Looked};

pub(in super::super) const CHECK: Check =
    Check { name: "dns", looks_at: "the names of all hosts that the configuration names", look };

fn look(facts: &Facts) -> Looked {
    let mut looked = Looked::default();
    for host in &facts.hosts {
        if let Some(problem) = &host.problem {
            let text = format!("the name {} leads to no address ({problem})", host.name);
            let remedy = format!("correct {}, or the DNS of this machine", host.setting);
            looked.find(Severity::Error, &host.setting, text, remedy);
        }
    }
    looked
}

#[cfg(test)]
mod tests {
    use super::super::super::Host;
    use super::*;

    #[test]
    fn a_name_without_an_address_is_an_error_at_its_setting() {
        let mut facts = Facts::in_order();
        let (name, setting) = ("gone.example.org".to_owned(), "peers.muc-1-0.url".to_owned());
        facts.hosts.push(Host { name, setting, problem: Some("no such host".into()) });
        let found = look(&facts).findings;
        assert_eq!((found.len(), found[0].severity), (1, Severity::Error));
        assert_eq!(found[0].subject, "peers.muc-1-0.url");
        assert!(found[0].text.contains("gone.example.org") && found[0].remedy.contains("correct peers.muc-1-0.url"));
    }
}
