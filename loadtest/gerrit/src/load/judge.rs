//! Decides whether the repositories of a site show every fact that a client was told, each exactly once, and none that
//! was refused.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_loadtest::Fallible;
use lockstep_loadtest::load::ledger::Ended;
use lockstep_loadtest::load::oracle::{Kind, Violation};

use super::note_db::{self, Notes};
use super::shared::Place;
use super::told::{Fact, Told};

/// The content of a site's repositories.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Every change, by project and number.
    pub changes: BTreeMap<String, BTreeMap<u32, Notes>>,
    drafts: BTreeMap<u32, String>,
    accounts: String,
}

impl Shown {
    /// Reads the repositories of a site.
    ///
    /// # Errors
    /// A repository cannot be read.
    pub fn read<'a>(place: &Place, projects: impl Iterator<Item = &'a str>) -> Fallible<Self> {
        let users = place.repository("All-Users");
        let mut shown =
            Self { drafts: note_db::drafts(&users)?, accounts: note_db::accounts(&users)?, ..Self::default() };
        for project in projects {
            shown.changes.insert(project.to_owned(), note_db::changes(&place.repository(project))?);
        }
        Ok(shown)
    }

    fn change(&self, project: &str, number: u32) -> Option<&Notes> {
        self.changes.get(project)?.get(&number)
    }
}

/// The violations at one site.
///
/// # Errors
/// A repository cannot be read.
pub fn judge(place: &Place, shown: &Shown, told: &[Told]) -> Fallible<Vec<Violation>> {
    let removals = |ended: fn(Ended) -> bool| -> BTreeSet<&str> {
        let removed = told.iter().filter(|one| ended(one.ended));
        removed
            .filter_map(|one| if let Fact::DraftRemoved { text } = &one.fact { Some(&**text) } else { None })
            .collect()
    };
    let (gone, open) = (removals(|ended| ended == Ended::Committed), removals(|ended| ended == Ended::Unknown));
    let mut found = Vec::new();
    for one in told {
        let wrong = match &one.fact {
            Fact::PatchSet { project, change, commit } => {
                let is_there = shown
                    .change(project, *change)
                    .is_some_and(|notes| notes.noted.contains(commit) && notes.patch_sets.contains(commit));
                lost(is_there, || format!("{project}~{change} has no patch set {commit}"))
            }
            Fact::Message { project, change, text } => {
                let count = shown.change(project, *change).map_or(0, |notes| notes.text.matches(&**text).count());
                counted(one.ended, count, || format!("the message {text} of {project}~{change}"))
            }
            Fact::Draft { change, text } => {
                let count = shown.drafts.get(change).map_or(0, |drafts| drafts.matches(&**text).count());
                let ended = if gone.contains(&**text) {
                    Ended::Refused
                } else if open.contains(&**text) {
                    Ended::Unknown
                } else {
                    one.ended
                };
                counted(ended, count, || format!("the draft {text} of change {change}"))
            }
            Fact::DraftRemoved { .. } => None,
            Fact::Merged { project, change } => {
                let is_merged = shown.change(project, *change).is_some_and(|notes| notes.status == "merged");
                lost(is_merged, || format!("{project}~{change} is not merged"))
            }
            Fact::Ref { project, name, value } => {
                let is_there = note_db::contains(&place.repository(project), name, value)?;
                lost(is_there, || format!("{project} {name} does not contain {value}"))
            }
            Fact::Status { text } => {
                let count = usize::from(shown.accounts.contains(&**text));
                counted(one.ended, count, || format!("the status {text} of an account"))
            }
        };
        found.extend(wrong.map(|(kind, text)| Violation::new(kind, format!("{}: {text}", place.name))));
    }
    Ok(found)
}

fn lost(is_there: bool, text: impl FnOnce() -> String) -> Option<(Kind, String)> {
    (!is_there).then(|| (Kind::Lost, text()))
}

/// A thing that is there once if it was acknowledged, never if it was refused, and never twice.
fn counted(ended: Ended, count: usize, named: impl FnOnce() -> String) -> Option<(Kind, String)> {
    let (kind, why) = match (ended, count) {
        (_, 2..) => (Kind::AppliedTwice, "is there more than once"),
        (Ended::Committed, 0) => (Kind::Lost, "is not there"),
        (Ended::Refused, 1) => (Kind::RefusedAndApplied, "was refused or removed, and is there"),
        _ => return None,
    };
    Some((kind, format!("{} {why}", named())))
}

#[cfg(test)]
mod tests {
    use git2::{Oid, Repository, Signature, Time};
    use tempfile::TempDir;

    use super::*;

    /// A site with a change whose `meta` ref has commits with these messages, and one draft.
    struct Site {
        _folder: TempDir,
        place: Place,
        patch_set: String,
    }

    fn commit(repository: &Repository, name: &str, message: &str, file: &str) -> Oid {
        let user = Signature::new("T", "t@example.com", &Time::new(7, 0)).unwrap();
        let mut tree = repository.treebuilder(None).unwrap();
        tree.insert("file", repository.blob(file.as_bytes()).unwrap(), 0o100_644).unwrap();
        let tree = repository.find_tree(tree.write().unwrap()).unwrap();
        let parent = repository.refname_to_id(name).ok().map(|oid| repository.find_commit(oid).unwrap());
        let parents: Vec<_> = parent.iter().collect();
        repository.commit(Some(name), &user, &user, message, &tree, &parents).unwrap()
    }

    impl Site {
        fn new(messages: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let place =
                Place { name: "a-0".to_owned(), http: ([127, 0, 0, 1], 1).into(), root: folder.path().to_owned() };
            let project = Repository::init_bare(place.repository("p")).unwrap();
            let users = Repository::init_bare(place.repository("All-Users")).unwrap();
            let patch_set = commit(&project, "refs/changes/12/12/1", "a change", "x").to_string();
            let first = format!("Create change\n\nPatch-set: 1\nStatus: new\nCommit: {patch_set}\n");
            for message in [&[&*first], messages].concat() {
                commit(&project, "refs/changes/12/12/meta", message, "notes");
            }
            commit(&users, "refs/draft-comments/12/12/1000000", "drafts", "{\"message\": \"note-9;\"}");
            commit(&users, "refs/users/00/1000000", "account", "[account]\n\tstatus = \"note-8;\"\n");
            commit(&users, "refs/users/00/1000000", "account", "[account]\n\tstatus = busy\n");
            Self { _folder: folder, place, patch_set }
        }

        fn found(&self, facts: &[(Ended, Fact)]) -> Vec<Kind> {
            let told = facts.iter().map(|(ended, fact)| Told { site: 0, ended: *ended, fact: fact.clone() });
            let shown = Shown::read(&self.place, ["p"].into_iter()).unwrap();
            let found = judge(&self.place, &shown, &told.collect::<Vec<_>>()).unwrap();
            found.into_iter().map(|violation| violation.kind).collect()
        }
    }

    fn message(text: &str) -> Fact {
        Fact::Message { project: "p".to_owned(), change: 12, text: text.to_owned() }
    }

    fn draft(text: &str) -> Fact {
        Fact::Draft { change: 12, text: text.to_owned() }
    }

    #[test]
    fn facts_that_are_shown_once_are_no_violation() {
        let site = Site::new(&["Update\n\nnote-1;\n\nPatch-set: 1\n", "Merged\n\nStatus: merged\n"]);
        let project = || "p".to_owned();
        let patch_set = Fact::PatchSet { project: project(), change: 12, commit: site.patch_set.clone() };
        let name = "refs/changes/12/12/1".to_owned();
        let facts = [
            (Ended::Committed, patch_set),
            (Ended::Committed, message("note-1;")),
            (Ended::Unknown, message("note-2;")),
            (Ended::Refused, message("note-3;")),
            (Ended::Committed, draft("note-9;")),
            (Ended::Committed, draft("note-7;")),
            (Ended::Committed, Fact::DraftRemoved { text: "note-7;".to_owned() }),
            (Ended::Committed, Fact::Merged { project: project(), change: 12 }),
            (Ended::Committed, Fact::Ref { project: project(), name, value: site.patch_set.clone() }),
            (Ended::Committed, Fact::Status { text: "note-8;".to_owned() }),
        ];
        assert_eq!(site.found(&facts), []);
    }

    #[test]
    fn each_kind_of_violation_is_found() {
        let site = Site::new(&["Update\n\nnote-1;\n", "Update\n\nnote-1;\n"]);
        let absent = "0123456789012345678901234567890123456789".to_owned();
        let project = || "p".to_owned();
        let name = "refs/changes/12/12/1".to_owned();
        for (ended, fact, kind) in [
            (Ended::Committed, message("note-1;"), Kind::AppliedTwice),
            (Ended::Unknown, message("note-1;"), Kind::AppliedTwice),
            (Ended::Committed, message("note-2;"), Kind::Lost),
            (Ended::Committed, Fact::PatchSet { project: project(), change: 12, commit: absent.clone() }, Kind::Lost),
            (Ended::Committed, Fact::Merged { project: project(), change: 12 }, Kind::Lost),
            (Ended::Committed, Fact::Merged { project: project(), change: 13 }, Kind::Lost),
            (Ended::Committed, Fact::Ref { project: project(), name, value: absent }, Kind::Lost),
            (Ended::Committed, draft("note-6;"), Kind::Lost),
            (Ended::Refused, draft("note-9;"), Kind::RefusedAndApplied),
            (Ended::Committed, Fact::Status { text: "note-5;".to_owned() }, Kind::Lost),
            (Ended::Refused, Fact::Status { text: "note-8;".to_owned() }, Kind::RefusedAndApplied),
        ] {
            assert_eq!(site.found(&[(ended, fact.clone())]), [kind], "{fact:?}");
        }
        let removed = Fact::DraftRemoved { text: "note-9;".to_owned() };
        let found = site.found(&[(Ended::Committed, draft("note-9;")), (Ended::Committed, removed)]);
        assert_eq!(found, [Kind::RefusedAndApplied]);
    }
}
