//! The tests that a page names exist. A table whose last column is `test` names in each row some tests, as a part of
//! the name of a function or of its module, or says `none` and why.

use crate::{Finding, Source};

/// The folders with tests.
const HOMES: [&str; 5] = ["bridge/", "daemon/", "deploy/", "proto/", "tests/"];
/// The words that introduce the name of a function in Rust, Python and Java.
const INTRODUCTIONS: [&str; 3] = ["fn ", "def ", "void "];

pub fn check(page: &Source, files: &[Source]) -> Vec<Finding> {
    let homes: Vec<&Source> = files.iter().filter(|file| is_code(&file.path)).collect();
    let mut findings = Vec::new();
    for (number, cell) in cells(page) {
        if cell.is_empty() {
            findings.push(page.finding(number, "the row names no test; say `none` and why, if there is none"));
        }
        let names = cell.split('`').skip(1).step_by(2).map(bare);
        let names = names.filter(|name| name.starts_with(|first: char| first.is_ascii_lowercase()));
        let absent = names.filter(|name| !homes.iter().any(|file| has(file, name)));
        findings.extend(absent.map(|name| page.finding(number, format!("there is no test `{name}`"))));
    }
    findings
}

fn is_code(path: &str) -> bool {
    let is_at_home = HOMES.iter().any(|home| path.starts_with(home));
    is_at_home && [".rs", ".py", ".java"].iter().any(|end| path.ends_with(end))
}

/// The last cells of the rows of tables whose last column is `test`, with their lines.
fn cells(page: &Source) -> Vec<(usize, &str)> {
    let mut is_of_tests = false;
    let mut cells = Vec::new();
    for (number, line) in page.lines() {
        let row = line.strip_prefix('|').and_then(|row| row.trim_end().strip_suffix('|'));
        let Some((_, cell)) = row.and_then(|row| row.rsplit_once('|')) else {
            is_of_tests = false;
            continue;
        };
        match cell.trim() {
            "test" => is_of_tests = true,
            cell if is_of_tests && !cell.starts_with("--") => cells.push((number, cell)),
            _ => {}
        }
    }
    cells
}

/// The name of a test behind its suite (`e2e tls`) or behind a command (`make gerrit-e2e ONLY=offline::`).
fn bare(span: &str) -> &str {
    span.rsplit([' ', '=']).next().unwrap_or(span)
}

/// Whether a file has this test. The name may begin with modules (`api::fetches`).
fn has(file: &Source, name: &str) -> bool {
    let mut parts: Vec<&str> = name.split("::").filter(|part| !part.is_empty()).collect();
    let Some(last) = parts.pop() else { return false };
    let path = file.path.rsplit_once('.').map_or(file.path.as_str(), |(path, _)| path);
    let is_module = |part: &str| path.split('/').any(|module| module == part);
    parts.iter().all(|part| is_module(part)) && (is_module(last) || declares(file, last))
}

/// Whether a file declares a test whose name contains a text.
fn declares(file: &Source, part: &str) -> bool {
    let declared = |line: &str| {
        let behind = INTRODUCTIONS.iter().find_map(|word| line.split_once(word)).map(|(_, rest)| rest);
        behind.and_then(|rest| rest.split(['(', '<']).next()).is_some_and(|name| name.contains(part))
    };
    let lines: Vec<&str> = file.text.lines().collect();
    let is_test = |at: usize| {
        let before = lines[..at].iter().rev().take_while(|line| line.trim_start().starts_with(['#', '@', '/', '*']));
        !file.is_rust() || before.into_iter().any(|line| line.contains("test"))
    };
    let is_one = |at: usize, line: &str| !line.trim_start().starts_with("//") && declared(line) && is_test(at);
    file.text.contains(part) && lines.iter().enumerate().any(|(at, line)| is_one(at, line))
}

#[test]
fn a_test_that_does_not_exist_and_a_row_without_one_are_found() {
    let files = [
        Source::new(
            "tests/tests/e2e/tls.rs",
            "#[test]\n#[ignore]\nfn a_stranger_is_refused() {\n}\n// fn a_ghost_is_refused() {\nfn a_helper() {\n",
        ),
        Source::new("docs/x.rs", "fn it_is_elsewhere() {\n"),
    ];
    let found = |cell: &str| {
        let page = format!("| who | test |\n|---|---|\n| a thief | {cell} |\n\n| key | note |\n|---|---|\n| k | |\n");
        check(&Source::new("docs/x.md", &page), &files).len()
    };
    let good = ["`e2e tls`", "`e2e tls::a_stranger`, `a_stranger_is`", "`make e2e ONLY=tls::`", "none", "`AProgram`"];
    for good in good {
        assert_eq!(found(good), 0, "{good}");
    }
    for bad in ["`a_ghost`", "`a_helper`", "`hooks::a_stranger`", "`e2e tls::strangers`", "`it_is_elsewhere`", ""] {
        assert_eq!(found(bad), 1, "{bad}");
    }
}
