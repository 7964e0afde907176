//! No two files import each other, directly or through others.

use std::collections::BTreeSet;

use crate::exports::{Exports, module, named};
use crate::paths::code;
use crate::{Finding, Source};

/// The circles of files that import each other: one finding per circle, at the first of its files.
pub fn circles(files: &[Source]) -> Vec<Finding> {
    let roots = ["daemon/src/", "proto/src/", "loadtest/src/"];
    roots.iter().flat_map(|root| circles_below(root, files)).collect()
}

fn circles_below(root: &str, files: &[Source]) -> Vec<Finding> {
    let sources: Vec<(&Source, Vec<String>)> =
        files.iter().filter_map(|file| Some((file, module(file.path.strip_prefix(root)?)?))).collect();
    let exports = Exports::of(root, files);
    let index = |path: &[String]| {
        // A name belongs to the deepest file on its path.
        (1..=path.len()).rev().find_map(|end| sources.iter().position(|(_, module)| module == &path[..end]))
    };
    let edges: Vec<BTreeSet<usize>> = sources
        .iter()
        .enumerate()
        .map(|(here, (file, module))| {
            let named = named(&code(file), module).into_iter().filter_map(|(_, path)| index(&exports.follow(&path)));
            // A folder's `mod.rs` lists the files below it, and these files use its types. That is no circle.
            named.filter(|there| *there != here && !related(module, &sources[*there].1)).collect()
        })
        .collect();
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    for start in 0..sources.len() {
        let reach = reachable(start, &edges);
        if reach.contains(&start) && seen.insert(start) {
            let circle: Vec<usize> = reach.into_iter().filter(|it| reachable(*it, &edges).contains(&start)).collect();
            seen.extend(circle.iter().copied());
            let names: Vec<&str> = circle.iter().map(|it| sources[*it].0.path.as_str()).collect();
            findings.push(sources[start].0.finding(1, format!("imports run in a circle: {}", names.join(", "))));
        }
    }
    findings
}

fn related(one: &[String], other: &[String]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn reachable(start: usize, edges: &[BTreeSet<usize>]) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut next: Vec<usize> = edges[start].iter().copied().collect();
    while let Some(node) = next.pop() {
        if seen.insert(node) {
            next.extend(&edges[node]);
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
