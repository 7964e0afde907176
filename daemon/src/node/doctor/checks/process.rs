//! The user of the sidecar, and the modes of the files that it makes. Sidecar, git and Gerrit write the same
//! repositories, so they must be able to read and replace each other's files.

use lockstep_proto::doctor::Severity;

use super::super::{Access, Check, Facts, Looked};

pub(in super::super) const CHECK: Check = Check {
    name: "process",
    looks_at: "the sidecar's user id and umask, and the owners and modes of its folders and repositories",
    look,
};

/// The bits of a file's mode by class of user.
const OWNER: u32 = 0o700;
const GROUP_READS: u32 = 0o050;
const OTHERS_WRITE: u32 = 0o002;

/// The remedy of a wrong owner.
const SAME_USER: &str =
    "run sidecar, Gerrit and git as one user, and give the files to it: `chown -R` while all of them are stopped";

fn look(facts: &Facts) -> Looked {
    let mut looked = Looked::default();
    for folder in &facts.folders {
        if let Some(Access { writes: false, .. }) = looked.see(&folder.access) {
            let text = format!("the sidecar may not write into {}", folder.path.display());
            looked.find(Severity::Error, folder.setting, text, SAME_USER);
        }
    }
    let Some(process) = looked.see(&facts.process).copied() else { return looked };
    // Root may replace the files of everybody, but git refuses repositories of another user.
    let foreign: Vec<_> = facts.files.iter().filter(|file| file.uid != process.uid).collect();
    if let Some(first) = foreign.first() {
        let text = format!(
            "the sidecar runs as user {}, and {} of {} files that were looked at belong to others: {} to user {}",
            process.uid,
            foreign.len(),
            facts.files.len(),
            first.path.display(),
            first.uid
        );
        looked.find(Severity::Error, "uid", text, SAME_USER);
    }
    // No mode keeps root out.
    let other = foreign.iter().map(|file| file.uid).find(|uid| *uid != 0);
    umask(process.umask, other, facts, &mut looked);
    looked
}

/// Judges the umask. `other` is another user than root who works on the repositories, if files of one were seen.
fn umask(umask: u32, other: Option<u32>, facts: &Facts, looked: &mut Looked) {
    let text = |why: &str| format!("the umask is {umask:03o}: {why}");
    if umask & OWNER != 0 {
        let why = text("the sidecar could not use the files that it makes");
        looked.find(Severity::Error, "umask", why, "start the sidecar with umask 027 or 022");
        return;
    }
    if umask & OTHERS_WRITE == 0 {
        let why = text("every user of this machine could change new repositories");
        looked.find(Severity::Warning, "umask", why, "start the sidecar with umask 027 or 022");
    }
    if umask & GROUP_READS == 0 {
        return;
    }
    if let Some(other) = other {
        let why =
            format!("user {other} works on these repositories, too, and cannot read those that the sidecar makes");
        let remedy = format!("{SAME_USER}; until then, start the sidecar with umask 027 and a group that both have");
        looked.find(Severity::Error, "umask", text(&why), remedy);
        return;
    }
    let shared = facts.folders.iter().find(|folder| {
        folder.setting == "root" && folder.access.as_ref().is_ok_and(|access| access.mode & GROUP_READS == GROUP_READS)
    });
    let Some(root) = shared else { return };
    let root = root.path.display();
    // Only the sidecar's own user can reach the socket of the API, so a Gerrit of another user needs the listener.
    let (severity, whose) = match facts.settings.api.tcp {
        Some(_) => (Severity::Warning, "api.listen is set, so Gerrit may run as another user"),
        None => (Severity::Note, "Gerrit runs as the sidecar's user, because nobody else reaches its socket"),
    };
    let why = format!("the group may read {root}, and not the repositories that the sidecar makes; {whose}");
    let remedy = "start the sidecar with umask 027, or take the rights of the group off the root (chmod 700)";
    looked.find(severity, "umask", text(&why), remedy);
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::super::super::{OwnedFile, Process};
    use super::*;

    fn found(break_it: impl FnOnce(&mut Facts)) -> Vec<(Severity, String)> {
        let mut facts = Facts::in_order();
        break_it(&mut facts);
        look(&facts).findings.into_iter().map(|one| (one.severity, one.subject)).collect()
    }

    fn with_umask(umask: u32) -> Vec<(Severity, String)> {
        found(|facts| facts.process = Ok(Process { uid: 1_000, umask }))
    }

    #[test]
    fn a_file_of_another_user_and_a_folder_that_cannot_be_written_are_errors() {
        let uid = found(|facts| facts.files.push(OwnedFile { path: PathBuf::from("/git/q.git"), uid: 0 }));
        assert_eq!(uid, [(Severity::Error, "uid".to_owned())]);
        let folder = found(|facts| facts.folders[0].access = Ok(Access { mode: 0o755, writes: false }));
        assert_eq!(folder, [(Severity::Error, "root".to_owned())]);
    }

    #[test]
    fn an_umask_is_judged_beside_the_mode_of_the_root() {
        let umask = |severity| vec![(severity, "umask".to_owned())];
        assert_eq!((with_umask(0o022), with_umask(0o027)), (vec![], vec![]));
        assert_eq!(
            with_umask(0o077),
            umask(Severity::Warning),
            "the root is open to the group, as it may be to Gerrit"
        );
        let alone = found(|facts| {
            facts.process = Ok(Process { uid: 1_000, umask: 0o077 });
            Arc::make_mut(&mut facts.settings).api.tcp = None;
        });
        assert_eq!(alone, umask(Severity::Note), "no other user can reach the socket");
        assert_eq!(with_umask(0o000), umask(Severity::Warning), "others write");
        assert_eq!(with_umask(0o277), umask(Severity::Error), "the owner may not write");
        let closed = found(|facts| {
            facts.process = Ok(Process { uid: 1_000, umask: 0o077 });
            facts.folders[0].access = Ok(Access { mode: 0o700, writes: true });
        });
        assert_eq!(closed, []);
    }

    #[test]
    fn an_umask_that_keeps_the_user_of_gerrit_out_is_an_error() {
        let beside = |umask: u32| {
            found(|facts| {
                facts.process = Ok(Process { uid: 1_000, umask });
                facts.files.push(OwnedFile { path: PathBuf::from("/git/p.git/objects/4b"), uid: 1_001 });
                // Others may enter the root, so the group is not the way of that user.
                facts.folders[0].access = Ok(Access { mode: 0o705, writes: true });
            })
        };
        let [uid, umask] = ["uid", "umask"].map(|subject| (Severity::Error, subject.to_owned()));
        assert_eq!(beside(0o077), [uid.clone(), umask]);
        assert_eq!(beside(0o027), std::slice::from_ref(&uid));
        let of_root = found(|facts| {
            facts.process = Ok(Process { uid: 1_000, umask: 0o077 });
            facts.files.push(OwnedFile { path: PathBuf::from("/git/p.git"), uid: 0 });
        });
        assert_eq!(of_root, [uid, (Severity::Warning, "umask".to_owned())], "root reads every file");
    }
}
