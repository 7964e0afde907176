//! The rules of receive-pack for the refs of a push. git does not check them for refs that go through `proc-receive`,
//! so the hook does, with git's words. `docs/git-servers.md` lists every setting. Decides without I/O.

use std::collections::{BTreeMap, BTreeSet};

use super::pushed::Pushed;

/// The reaction to a push that touches the branch of a `HEAD`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Deny {
    /// Refuse. It is git's default, and Lockstep's reading of `updateInstead`, which would change a work tree.
    #[default]
    Refuse,
    /// Accept, with a warning.
    Warn,
    /// Accept, without a warning.
    Ignore,
}

/// The prohibitions of the repository's git configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// `receive.denyDeletes`: refuses deletions of branches.
    pub deny_deletes: bool,
    /// `receive.denyNonFastForwards`: refuses updates of branches that are not fast-forwards.
    pub deny_non_fast_forwards: bool,
    /// `receive.denyDeleteCurrent`: a deletion of the branch that `HEAD` names.
    pub deny_delete_current: Deny,
    /// `receive.denyCurrentBranch`: an update of a branch that a linked work tree has checked out.
    pub deny_current_branch: Deny,
}

/// The state of the repository that the rules look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The branch that `HEAD` names.
    pub head: Option<Vec<u8>>,
    /// The branches that linked work trees have checked out.
    pub checked_out: BTreeSet<Vec<u8>>,
    /// The pushed refs that are symbolic, with their targets.
    pub symbolic: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The verdict of the rules on one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// No rule forbids the command.
    Fits,
    /// The command goes on, and its user reads this warning.
    Warned(String),
    /// The command is refused, for this reason.
    Refused(String),
}

impl Rules {
    /// Reads the settings `receive.deny*`: name, and value or none. The last of a name counts.
    pub(super) fn read<'a>(settings: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let mut rules = Self::default();
        for (name, value) in settings {
            match name.to_ascii_lowercase().as_str() {
                "receive.denydeletes" => rules.deny_deletes = is_true(value),
                "receive.denynonfastforwards" => rules.deny_non_fast_forwards = is_true(value),
                "receive.denydeletecurrent" => rules.deny_delete_current = Deny::read(value),
                "receive.denycurrentbranch" => rules.deny_current_branch = Deny::read(value),
                _ => {}
            }
        }
        rules
    }

    /// Whether an update of the ref must be a fast-forward.
    pub(super) fn wants_fast_forward(self, name: &[u8]) -> bool {
        self.deny_non_fast_forwards && is_branch(name)
    }

    /// Judges one command, in git's order.
    pub(super) fn judge(self, one: &Pushed, state: &State) -> Judgement {
        if let Some(target) = state.symbolic.get(&one.name) {
            let target = crate::base::ref_names::shown(target);
            return Judgement::Refused(format!(
                "it is a symbolic ref to {target}, which Lockstep does not replicate; push to {target}, or have an \
                 administrator delete it"
            ));
        }
        let checked_out = state.checked_out.contains(&one.name);
        let touched = if checked_out { self.deny_current_branch } else { Deny::Ignore };
        if touched == Deny::Refuse {
            return Judgement::Refused("branch is currently checked out (receive.denyCurrentBranch)".to_owned());
        }
        let is_current = checked_out || state.head.as_ref() == Some(&one.name);
        match self.deny_delete_current {
            _ if one.deletes() && self.deny_deletes && is_branch(&one.name) => {
                Judgement::Refused("deletion prohibited (receive.denyDeletes)".to_owned())
            }
            Deny::Refuse if one.deletes() && is_current => {
                Judgement::Refused("deletion of the current branch prohibited (receive.denyDeleteCurrent)".to_owned())
            }
            Deny::Warn if one.deletes() && is_current => Judgement::Warned("deleting the current branch".to_owned()),
            _ if touched == Deny::Warn => Judgement::Warned("updating the current branch".to_owned()),
            _ => Judgement::Fits,
        }
    }
}

impl Deny {
    fn read(value: Option<&str>) -> Self {
        match value.map(str::to_ascii_lowercase).as_deref() {
            Some("ignore") => Self::Ignore,
            Some("warn") => Self::Warn,
            Some("refuse" | "updateinstead") => Self::Refuse,
            _ if is_true(value) => Self::Refuse,
            _ => Self::Ignore,
        }
    }
}

fn is_branch(name: &[u8]) -> bool {
    name.starts_with(b"refs/heads/")
}

/// git's reading of a boolean. A name without a value is true, an empty value is false.
fn is_true(value: Option<&str>) -> bool {
    !matches!(value.map(str::to_ascii_lowercase).as_deref(), Some("" | "false" | "no" | "off" | "0"))
}

#[cfg(test)]
mod tests {
    use super::super::pushed::push;
    use super::*;

    fn refused(rules: Rules, one: &Pushed) -> bool {
        let state = State { head: Some(b"refs/heads/main".to_vec()), ..State::default() };
        matches!(rules.judge(one, &state), Judgement::Refused(_))
    }

    #[test]
    fn the_prohibitions_are_for_branches() {
        let rules = Rules::read([("receive.denydeletes", Some("true")), ("receive.denyNonFastForwards", None)]);
        assert!(refused(rules, &push("refs/heads/a", 1, 0)));
        assert!(!refused(rules, &push("refs/tags/a", 1, 0)));
        assert!(rules.wants_fast_forward(b"refs/heads/a") && !rules.wants_fast_forward(b"refs/tags/a"));
    }

    #[test]
    fn the_branch_of_head_is_not_deleted_unless_a_setting_allows_it() {
        for (value, wanted) in [
            (None, true),
            (Some("true"), true),
            (Some("updateInstead"), true),
            (Some("warn"), false),
            (Some("Ignore"), false),
            (Some("no"), false),
        ] {
            let rules = Rules::read(value.map(|value| ("receive.denyDeleteCurrent", Some(value))));
            assert_eq!(refused(rules, &push("refs/heads/main", 1, 0)), wanted, "{value:?}");
            assert!(!refused(rules, &push("refs/heads/main", 1, 2)));
            assert!(!refused(rules, &push("refs/heads/other", 1, 0)));
        }
    }
}
