//! Maps the name of a ref to the subject that Gerrit must refresh when the ref moves.

use lockstep_proto::refresh::Subject;
use lockstep_proto::{ProjectName, RefKey, RefName};

/// The subject that Gerrit must refresh when this ref of this project moves. None when Gerrit's index and caches do not
/// depend on the ref, or when Gerrit reads the ref anew each time. `all_users` is the project that holds accounts and
/// groups.
#[must_use]
pub fn of(project: &ProjectName, key: &RefKey, all_users: &ProjectName) -> Option<Subject> {
    let name = match key {
        RefKey::State => return Some(Subject::Project { project: project.clone() }),
        // Gerrit reads it from the repository each time.
        RefKey::Head => return None,
        RefKey::Ref(name) => name,
    };
    let parts: Vec<&str> = name.as_str().split('/').skip(1).collect();
    match parts.as_slice() {
        ["heads", ..] => Some(branch(project, name)),
        ["meta", "config"] => Some(Subject::ProjectConfig { project: project.clone() }),
        ["changes", shard, number, ..] => change(project, number).filter(|_| is_shard_of(shard, number)),
        // An edit lies in the project of its change, and Gerrit's document of the change names the edit's author.
        ["users", _, _, edit, _] => change(project, edit.strip_prefix("edit-")?),
        rest if project == all_users => of_all_users(rest),
        _ => None,
    }
}

fn of_all_users(parts: &[&str]) -> Option<Subject> {
    match parts {
        ["users", shard, account] if is_shard_of(shard, account) => {
            Some(Subject::Account { account: number(account)? })
        }
        ["groups", shard, group] if group.len() > 2 && group.starts_with(shard) && shard.len() == 2 => {
            Some(Subject::Group { group: (*group).to_owned() })
        }
        ["meta", "group-names"] => Some(Subject::GroupNames),
        ["meta", "external-ids"] => Some(Subject::ExternalIds),
        _ => None,
    }
}

fn branch(project: &ProjectName, name: &RefName) -> Subject {
    Subject::Branch { project: project.clone(), name: name.clone() }
}

fn change(project: &ProjectName, text: &str) -> Option<Subject> {
    Some(Subject::Change { project: project.clone(), number: number(text)? })
}

/// Whether `shard` is the last two digits of a number.
fn is_shard_of(shard: &str, text: &str) -> bool {
    number(text).is_some_and(|number| format!("{:02}", number % 100) == shard)
}

/// Parses a number as Gerrit writes it: decimal digits without a leading zero, at most `i32::MAX`.
fn number(text: &str) -> Option<u32> {
    let is_plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u32 = text.parse().ok().filter(|_| is_plain)?;
    i32::try_from(number).is_ok().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row: the project, the ref, and the subject as text.
    const ROWS: &[(&str, &str, Option<&str>)] = &[
        ("p", "@state", Some("project p")),
        ("p", "@HEAD", None),
        ("p", "refs/heads/main", Some("refs/heads/main of project p")),
        ("p", "refs/heads/a/b", Some("refs/heads/a/b of project p")),
        ("All-Users", "refs/heads/main", Some("refs/heads/main of project All-Users")),
        ("p", "refs/tags/v1", None),
        ("p", "refs/notes/review", None),
        ("p", "refs/meta/config", Some("configuration of project p")),
        ("All-Users", "refs/meta/config", Some("configuration of project All-Users")),
        ("All-Projects", "refs/meta/version", None),
        ("p", "refs/meta/dashboards/x", None),
        ("p", "refs/changes/34/1234/5", Some("change p~1234")),
        ("p", "refs/changes/34/1234/meta", Some("change p~1234")),
        ("p", "refs/changes/34/1234/robot-comments", Some("change p~1234")),
        ("p", "refs/changes/04/4/1", Some("change p~4")),
        ("p", "refs/changes/00/100/1", Some("change p~100")),
        ("p", "refs/changes/4/4/1", None),
        ("p", "refs/changes/35/1234/5", None),
        ("p", "refs/changes/04/04/1", None),
        ("p", "refs/changes/48/2147483648/1", None),
        ("p", "refs/cache-automerge/ab/cd", None),
        ("p", "refs/sequences/changes", None),
        ("All-Users", "refs/sequences/accounts", None),
        ("All-Users", "refs/sequences/groups", None),
        ("All-Users", "refs/users/03/1000003", Some("account 1000003")),
        ("All-Users", "refs/users/04/1000003", None),
        ("All-Users", "refs/users/default/x", None),
        ("All-Users", "refs/users/self/x", None),
        ("p", "refs/users/03/1000003", None),
        ("p", "refs/users/03/1000003/edit-12/1", Some("change p~12")),
        ("p", "refs/users/03/1000003/edit-x/1", None),
        ("All-Users", "refs/groups/ab/abcdef0123", Some("group abcdef0123")),
        ("All-Users", "refs/groups/cd/abcdef0123", None),
        ("p", "refs/groups/ab/abcdef0123", None),
        ("All-Users", "refs/deleted-groups/ab/abcdef0123", None),
        ("All-Users", "refs/meta/group-names", Some("names of groups")),
        ("p", "refs/meta/group-names", None),
        ("All-Users", "refs/meta/external-ids", Some("external ids")),
        ("p", "refs/meta/external-ids", None),
        ("All-Users", "refs/starred-changes/34/1234/1000003", None),
        ("All-Users", "refs/draft-comments/34/1234/1000003", None),
    ];

    #[test]
    fn every_kind_of_ref_has_its_subject() {
        let all_users: ProjectName = "All-Users".parse().unwrap();
        for (project, key, subject) in ROWS {
            let found = of(&project.parse().unwrap(), &key.parse().unwrap(), &all_users);
            assert_eq!(found.map(|subject| subject.to_string()).as_deref(), *subject, "{project} {key}");
        }
    }
}
