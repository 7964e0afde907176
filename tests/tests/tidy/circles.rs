//! No two files, and no two folders side by side, import each other, directly or through others.

use std::collections::{BTreeMap, BTreeSet};

use crate::exports::{Exports, module, named};
use crate::paths::code;
use crate::{Finding, Source};

/// The roots of crates in which nothing runs in a circle.
const ROOTS: [&str; 5] = ["daemon/src/", "proto/src/", "loadtest/src/", "loadtest/gerrit/src/", "tests/src/"];

/// The children of one folder, each with the siblings that its files import, and the first file that does.
type Imports = BTreeMap<String, BTreeMap<String, usize>>;

/// The circles of siblings, files or folders, that import each other: one finding per circle, at the first of the files
/// that import a sibling. A circle of files anywhere is a circle of siblings in the folder that they share.
pub fn circles(files: &[Source]) -> Vec<Finding> {
    ROOTS.iter().flat_map(|root| circles_below(root, files)).collect()
}

fn circles_below(root: &str, files: &[Source]) -> Vec<Finding> {
    let sources: Vec<(&Source, Vec<String>)> =
        files.iter().filter_map(|file| Some((file, module(file.path.strip_prefix(root)?)?))).collect();
    let mut findings = Vec::new();
    for (folder, imports) in folders(&sources, &Exports::of(root, files)) {
        let mut seen: BTreeSet<&String> = BTreeSet::new();
        for start in imports.keys() {
            let reach = reachable(start, &imports);
            if seen.contains(start) || !reach.contains(start) {
                continue;
            }
            let circle: BTreeSet<&String> =
                reach.into_iter().filter(|it| reachable(it, &imports).contains(start)).collect();
            let within = circle.iter().flat_map(|from| &imports[*from]).filter(|(to, _)| circle.contains(to));
            let first = within.map(|(_, file)| *file).min().unwrap_or_default();
            let names = circle.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            let of = if folder.is_empty() { root.to_owned() } else { folder.join("::") };
            findings.push(sources[first].0.finding(1, format!("imports run in a circle in {of}: {names}")));
            seen.extend(circle);
        }
    }
    findings
}

/// The imports between the children of each folder.
fn folders(sources: &[(&Source, Vec<String>)], exports: &Exports) -> BTreeMap<Vec<String>, Imports> {
    let index = |path: &[String]| {
        // A name belongs to the deepest file on its path.
        (1..=path.len()).rev().find_map(|end| sources.iter().position(|(_, module)| module == &path[..end]))
    };
    let mut folders: BTreeMap<Vec<String>, Imports> = BTreeMap::new();
    for (here, (file, module)) in sources.iter().enumerate() {
        let found = named(&code(file), module).into_iter().filter_map(|(_, path)| index(&exports.follow(&path)));
        for other in found.map(|there| &sources[there].1) {
            let shared = module.iter().zip(other).take_while(|(one, other)| one == other).count();
            // A folder's `mod.rs` lists the files below it, and these files use its types. That is no circle.
            if let (Some(from), Some(to)) = (module.get(shared), other.get(shared)) {
                let siblings = folders.entry(module[..shared].to_vec()).or_default();
                siblings.entry(from.clone()).or_default().entry(to.clone()).or_insert(here);
            }
        }
    }
    folders
}

/// The siblings that a child imports, directly or through others.
fn reachable<'a>(start: &str, imports: &'a Imports) -> BTreeSet<&'a String> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<&String> = imports.get(start).into_iter().flat_map(|to| to.keys()).collect();
    while let Some(child) = next.pop() {
        if seen.insert(child) {
            next.extend(imports.get(child).into_iter().flat_map(|to| to.keys()));
        }
    }
    seen
}

#[test]
fn a_circle_is_found_and_a_folder_with_its_files_is_none() {
    let file = |path: &str, line: &str| Source::new(path, line);
    let a = file("daemon/src/stages/api/a.rs", "use super::b::B;");
    let b = file("daemon/src/stages/api/b.rs", "use crate::stages::api::c::C;");
    let back = file("daemon/src/stages/api/c.rs", "use super::{a::A, d};");
    let mut files = vec![a, b, back];
    assert_eq!(circles(&files).iter().map(|it| it.path.as_str()).collect::<Vec<_>>(), ["daemon/src/stages/api/a.rs"]);
    files[2] = file("daemon/src/stages/api/c.rs", "use super::Api;");
    files.push(file("daemon/src/stages/api/mod.rs", "use self::a::A;\nuse crate::stages::api::a::A;"));
    assert_eq!(circles(&files), []);
}

#[test]
fn a_circle_through_a_re_export_is_found() {
    let file = |path: &str, line: &str| Source::new(path, line);
    let list =
        file("daemon/src/stages/api/mod.rs", "mod a;\nmod b;\npub use b::B;\npub(super) use self::a::{A, x::Y};");
    let mut files =
        vec![list, file("daemon/src/stages/api/a.rs", "use super::B;"), file("daemon/src/stages/api/b.rs", "")];
    assert_eq!(circles(&files), []);
    files[2] = file("daemon/src/stages/api/b.rs", "use crate::stages::api::A;");
    assert_eq!(circles(&files).iter().map(|it| it.path.as_str()).collect::<Vec<_>>(), ["daemon/src/stages/api/a.rs"]);
}

#[test]
fn a_circle_of_folders_is_found_even_if_no_two_files_import_each_other() {
    let file = |path: &str, line: &str| Source::new(path, line);
    let mut files = vec![
        file("daemon/src/stages/failover/desk.rs", "use super::drill::Stage;"),
        file("daemon/src/stages/failover/drill/mod.rs", "pub struct Stage;"),
        file("daemon/src/stages/failover/drill/schedule.rs", "use super::super::desk::Desk;"),
    ];
    let found = circles(&files);
    assert_eq!(found.iter().map(|it| it.path.as_str()).collect::<Vec<_>>(), ["daemon/src/stages/failover/desk.rs"]);
    assert_eq!(found[0].rule, "imports run in a circle in stages::failover: desk, drill");
    files[2].path = "daemon/src/stages/failover/drill_schedule.rs".to_owned();
    files[2].text = "use super::desk::Desk;".to_owned();
    assert_eq!(circles(&files), []);
}
