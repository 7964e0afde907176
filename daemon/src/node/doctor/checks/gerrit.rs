//! The Gerrit of this node, as its handshake shows it: its release, its JGit, its bridge, and known traps.

use lockstep_proto::doctor::Severity;

use super::super::release::Release;
use super::super::traps::{SHIPPED, TRAPS};
use super::super::{Check, Facts, Looked};
use crate::node::config::settings::GerritRefresh;

pub(in super::super) const CHECK: Check = Check {
    name: "gerrit",
    looks_at: "the release of Gerrit with its JGit, the release of the bridge in it, and known traps of that release",
    look,
};

fn look(facts: &Facts) -> Looked {
    let mut looked = Looked::default();
    // A Gerrit without the bridge makes no handshake.
    if facts.settings.gerrit.refresh != GerritRefresh::Bridge {
        return looked;
    }
    let Some(seen) = looked.see(&facts.gerrit) else { return looked };
    bridge(&seen.bridge, &mut looked);
    let Some(release) = Release::find(&seen.version) else {
        let text = format!("its version {:?} tells no release, so known traps are not looked for", seen.version);
        looked.find(Severity::Note, "gerrit", text, "compare its release with docs/gerrit.md by hand");
        return looked;
    };
    let Some(shipped) = SHIPPED.iter().find(|one| one.gerrit == (release.0, release.1)) else {
        let text = format!("Gerrit {release} is none of the releases that Lockstep has a bridge for");
        looked.find(Severity::Warning, "gerrit", text, "run Gerrit 3.11 to 3.14, or upgrade Lockstep");
        return looked;
    };
    for trap in TRAPS.iter().filter(|trap| trap.concerns(release)) {
        let text = format!("Gerrit {release} (JGit {}): {} ({})", shipped.jgit, trap.text, trap.source);
        looked.find(trap.severity, "gerrit", text, trap.remedy);
    }
    looked
}

/// A bridge of another release than the sidecar is in order while they are neighbours.
fn bridge(version: &str, looked: &mut Looked) {
    let own = Release::find(env!("CARGO_PKG_VERSION"));
    let Some((bridge, own)) = Release::find(version).zip(own) else { return };
    if !bridge.is_beside(own) {
        let text = format!("the bridge is {bridge}, and the sidecar is {own}");
        looked.find(Severity::Error, "bridge", text, "run `lockstep bridge install`, and restart Gerrit");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lockstep_proto::doctor::GerritSeen;

    use super::super::super::NotSeen;
    use super::*;

    fn facts(version: &str, bridge: &str) -> Facts {
        let mut facts = Facts::in_order();
        let seen = GerritSeen { version: version.into(), bridge: bridge.into(), instance_id: "a".into(), at_ms: 1 };
        Arc::make_mut(&mut facts.settings).gerrit.refresh = GerritRefresh::Bridge;
        facts.gerrit = Ok(seen);
        facts
    }

    fn found(version: &str, bridge: &str) -> Vec<(Severity, String)> {
        look(&facts(version, bridge)).findings.into_iter().map(|one| (one.severity, one.subject)).collect()
    }

    #[test]
    fn traps_follow_the_release_of_the_handshake() {
        let own = env!("CARGO_PKG_VERSION");
        let of = |severity| (severity, "gerrit".to_owned());
        assert_eq!(found("3.13.5", own), []);
        assert_eq!(found("3.13.0", own), [of(Severity::Warning)]);
        assert_eq!(found("3.14.2", own), [of(Severity::Note), of(Severity::Note)]);
        assert_eq!(found("3.15.0", own), [of(Severity::Warning)], "no bridge is built for it");
        assert_eq!(found("(dev)", own), [of(Severity::Note)]);
        let text = &look(&facts("3.14.2", own)).findings[0].text;
        assert!(text.contains("JGit 7.5 to 7.7") && text.contains("454695136"), "{text}");
    }

    #[test]
    fn a_bridge_of_a_far_release_is_an_error() {
        assert_eq!(found("3.13.5", "99.0.0"), [(Severity::Error, "bridge".to_owned())]);
        assert_eq!(found("3.13.5", "unknown"), [], "a build without a version");
    }

    #[test]
    fn a_node_without_a_bridge_has_nothing_to_look_at_and_one_without_a_handshake_says_so() {
        let mut none = facts("3.13.0", "99.0.0");
        Arc::make_mut(&mut none.settings).gerrit.refresh = GerritRefresh::None;
        assert_eq!(look(&none), Looked::default());
        let mut silent = facts("", "");
        silent.gerrit = Err(NotSeen("no Gerrit has made its handshake".into()));
        assert_eq!(look(&silent).not_seen.as_deref(), Some("no Gerrit has made its handshake"));
    }
}
