//! The git program that the sidecar and the hooks run.

use lockstep_proto::doctor::Severity;

use super::super::release::Release;
use super::super::{Check, Facts, Looked};

pub(in super::super) const CHECK: Check =
    Check { name: "git", looks_at: "the version of the git program on the PATH of the sidecar", look };

/// The first release that serves peers in version 2 of git's protocol as Lockstep asks for it.
const LEAST: Release = Release(2, 29, 0);
/// The oldest release with which Lockstep is tested.
const TESTED: Release = Release(2, 39, 0);
/// The first release whose hook sees `git symbolic-ref HEAD`.
const SEES_HEAD: Release = Release(2, 46, 0);

fn look(facts: &Facts) -> Looked {
    let mut looked = Looked::default();
    let Some(words) = looked.see(&facts.git) else { return looked };
    let Some(release) = Release::find(words) else {
        looked.find(Severity::Warning, "git", format!("{words:?} is no version of git"), "install git 2.46 or later");
        return looked;
    };
    let told = |why: &str| format!("git {release}: {why}");
    if release < LEAST {
        let why = told("it cannot serve peers");
        looked.find(Severity::Error, "git", why, "install git 2.46 or later");
    } else if release < TESTED {
        let why = told("Lockstep is tested with git 2.39 and later");
        looked.find(Severity::Warning, "git", why, "install git 2.46 or later");
    } else if release < SEES_HEAD && facts.settings.install_hooks {
        let why = told("no hook sees `git symbolic-ref HEAD`, so such a change of HEAD stays at this node");
        looked.find(Severity::Note, "git", why, "use `lockstep head set`, or install git 2.46 or later");
    }
    looked
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_old_git_is_told_by_its_consequence() {
        let found = |words: &str, hooks: bool| {
            let mut facts = Facts { git: Ok(words.into()), ..Facts::in_order() };
            Arc::make_mut(&mut facts.settings).install_hooks = hooks;
            look(&facts).findings.into_iter().map(|one| one.severity).collect::<Vec<_>>()
        };
        assert_eq!(found("git version 2.47.3", true), []);
        assert_eq!(found("git version 2.39.5", true), [Severity::Note]);
        assert_eq!(found("git version 2.39.5", false), [], "a Gerrit has no hooks");
        assert_eq!(found("git version 2.34.1", false), [Severity::Warning]);
        assert_eq!(found("git version 2.25.1", false), [Severity::Error]);
        assert_eq!(found("not git", false), [Severity::Warning]);
    }
}
