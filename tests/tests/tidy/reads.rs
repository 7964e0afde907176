//! Objects are read in one way. libgit2 reads a loose object that is cut off for ever, so `daemon/src/seams/git/odb.rs`
//! never lets it: no other file of the product reads objects through libgit2.

use crate::paths::code;
use crate::{Finding, Source};

/// The one file that may.
const HOME: &str = "daemon/src/seams/git/odb.rs";

/// The calls of `git2` that read objects, or lead to such a call, as they stand in code. The list leaves out names that
/// other types have, too: without one of these, they have nothing to work on.
const CALLS: [&str; 28] = [
    ".odb()",
    "Odb::new",
    "use git2::Odb",
    "git2::Odb",
    ".read_header(",
    ".add_disk_alternate(",
    ".find_object(",
    ".find_commit(",
    ".find_tree(",
    ".find_blob(",
    ".find_tag(",
    ".find_annotated_commit(",
    ".revwalk(",
    ".packbuilder(",
    ".peel_to_",
    ".peel(",
    ".revparse",
    ".merge_base",
    ".graph_ahead_behind(",
    ".graph_descendant_of(",
    ".reachable_from_any(",
    ".diff_tree_to_",
    ".treebuilder(",
    ".tag_foreach(",
    ".blame_file(",
    ".describe(",
    ".note_foreach(",
    ".notes(",
];

pub fn check(file: &Source) -> Vec<Finding> {
    if !file.path.starts_with("daemon/src/") || file.path == HOME || !file.text.contains("git2::") {
        return Vec::new();
    }
    let rule = |call: &str| format!("`{call}` reads objects by libgit2, which may never end: use `ObjectDb` of {HOME}");
    let found = code(file).into_iter().filter_map(|(number, line)| {
        let call = CALLS.iter().copied().find(|call| line.contains(call));
        call.map(|call| file.finding(number, rule(call)))
    });
    found.collect()
}

#[test]
fn a_read_by_libgit2_is_found_outside_of_its_file() {
    let findings = |path: &str, line: &str| check(&Source::new(path, &format!("use git2::Repository;\n{line}\n")));
    for line in ["let it = repository.odb()?;", "it.find_commit(oid)", "head.peel_to_commit()", "r.revwalk()?"] {
        assert_eq!(findings("daemon/src/seams/git/walk.rs", line).len(), 1, "{line}");
        assert_eq!(findings(HOME, line), []);
        assert_eq!(findings("tests/src/local_git.rs", line), []);
    }
    let test = "#[cfg(test)]\nmod tests {\n    fn f() {\n        it.find_commit(oid)\n    }\n}";
    assert_eq!(findings("daemon/src/seams/git/walk.rs", test), []);
    assert_eq!(findings("daemon/src/seams/git/walk.rs", "objects.commit(oid)?;"), []);
}
