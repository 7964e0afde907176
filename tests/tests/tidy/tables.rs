//! The table of files at the beginning of a folder's `mod.rs`. A table names the files of its folder, and no other. A
//! folder of the sidecar with many files has one.

use std::collections::BTreeSet;

use crate::{Finding, Source};

/// A folder of the sidecar with this many files needs a table.
const MANY: usize = 5;
/// The heads of the first column of a table of files.
const HEADS: [&str; 4] = ["file", "layer", "module", "room"];

pub fn check(file: &Source, files: &[Source]) -> Vec<Finding> {
    let Some((folder, "mod.rs" | "lib.rs")) = file.path.rsplit_once('/') else { return Vec::new() };
    let children = children(folder, files);
    let Some(named) = named(file) else {
        let is_needed = folder.starts_with("daemon/src/") && children.len() >= MANY;
        let rule = format!("{} files and no table of them (`//! | file | idea |`)", children.len());
        return is_needed.then(|| file.finding(1, rule)).into_iter().collect();
    };
    let is_there =
        |name: &str| children.contains(name) || files.iter().any(|file| file.path == format!("{folder}/{name}"));
    let absent = named.iter().filter(|(_, name)| !is_there(name));
    let absent = absent.map(|(line, name)| file.finding(*line, format!("the folder has no `{name}`")));
    let names: BTreeSet<&str> = named.iter().map(|(_, name)| *name).collect();
    let missing = children.iter().filter(|child| !names.contains(*child));
    absent.chain(missing.map(|child| file.finding(1, format!("the table of files lacks `{child}`")))).collect()
}

/// The modules of a folder: its files and its folders, without `tests`.
fn children<'a>(folder: &str, files: &'a [Source]) -> BTreeSet<&'a str> {
    let prefix = format!("{folder}/");
    let below = files.iter().filter_map(|file| file.path.strip_prefix(&prefix));
    let modules = below.filter_map(|path| path.strip_suffix("/mod.rs").or_else(|| path.strip_suffix(".rs")));
    modules.filter(|name| !name.contains('/') && !matches!(*name, "mod" | "lib" | "main" | "tests")).collect()
}

/// The names in the first column of the first table of files, with their lines. None if the file has no such table.
fn named<'a>(file: &'a Source) -> Option<Vec<(usize, &'a str)>> {
    let head = |line: &str| HEADS.iter().any(|head| line.starts_with(&format!("//! | {head} |")));
    let rows = file.lines().take_while(|(_, line)| line.starts_with("//!")).skip_while(|(_, line)| !head(line));
    let rows: Vec<(usize, &str)> = rows.take_while(|(_, line)| line.starts_with("//! |")).collect();
    let spans = |(number, line): &(usize, &'a str)| {
        let (number, cell) = (*number, line.split('|').nth(1).unwrap_or_default());
        cell.split('`').skip(1).step_by(2).map(move |name| (number, name)).collect::<Vec<_>>()
    };
    (!rows.is_empty()).then(|| rows.iter().flat_map(spans).collect())
}

#[test]
fn a_table_that_differs_from_its_folder_is_found() {
    let folder = |table: &str| {
        let list = Source::new("daemon/src/a/mod.rs", &format!("//! Essay.\n//!\n{table}\nmod b;\n"));
        let others = ["b.rs", "c/mod.rs", "c/deep.rs", "tests.rs", "note.toml"];
        let mut files = vec![list];
        files.extend(others.map(|name| Source::new(&format!("daemon/src/a/{name}"), "//! Essay.\n")));
        check(&files[0], &files).iter().map(|it| format!("{}: {}", it.line, it.rule)).collect::<Vec<_>>()
    };
    let table = |rows: &str| format!("//! | file | idea |\n//! |---|---|\n{rows}");
    assert_eq!(folder(&table("//! | `b`, [`c`] | both, not `d` |\n//! | `note.toml` | a note |")), [""; 0]);
    assert_eq!(folder(&table("//! | `b` | one |")), ["1: the table of files lacks `c`"]);
    assert_eq!(folder(&table("//! | `b`, `c` | both |\n//! | `d` | gone |")), ["6: the folder has no `d`"]);
    assert_eq!(folder("//! | state | meaning |\n//! | `x` | no file |"), [""; 0]);
}

#[test]
fn a_large_folder_without_a_table_is_found() {
    let found = |root: &str, count: usize| {
        let list = Source::new(&format!("{root}/mod.rs"), "//! Essay.\n");
        let others = (0..count).map(|number| Source::new(&format!("{root}/f{number}.rs"), "//! Essay.\n"));
        let files: Vec<Source> = [list].into_iter().chain(others).collect();
        check(&files[0], &files).len()
    };
    assert_eq!(found("daemon/src/a", MANY), 1);
    assert_eq!(found("daemon/src/a", MANY - 1), 0);
    assert_eq!(found("tests/src/a", MANY), 0);
}
