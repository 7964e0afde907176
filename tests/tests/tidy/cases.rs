//! Every case of a contract runs: a list names it. The compiler does not tell, because cases are public.

use crate::{Finding, Source};

/// The folder with the contracts.
const HOME: &str = "tests/src/contract/";

/// The cases that nothing but their declaration names.
pub fn idle(files: &[Source]) -> Vec<Finding> {
    let tests: Vec<&Source> = files.iter().filter(|file| file.path.starts_with("tests/")).collect();
    let mut findings = Vec::new();
    for file in tests.iter().filter(|file| file.path.starts_with(HOME)) {
        let idle = file.lines().filter_map(case).filter(|(_, name)| !tests.iter().any(|other| mentions(other, name)));
        findings.extend(idle.map(|(number, name)| file.finding(number, format!("no list of cases has `{name}`"))));
    }
    findings
}

/// The name of the case that a line declares.
fn case((number, line): (usize, &str)) -> Option<(usize, &str)> {
    let (name, _) = line.trim_start().strip_prefix("pub async fn ")?.split_once(['(', '<'])?;
    Some((number, name))
}

/// Whether a file names a case elsewhere than in its declaration.
fn mentions(file: &Source, case: &str) -> bool {
    let goes_on = |one: char| one.is_ascii_alphanumeric() || one == '_';
    file.text.match_indices(case).any(|(at, _)| {
        let (before, behind) = (&file.text[..at], &file.text[at + case.len()..]);
        !before.ends_with("fn ") && !before.ends_with(goes_on) && !behind.starts_with(goes_on)
    })
}

#[test]
fn a_case_that_is_in_no_list_is_found() {
    let cases = "pub async fn one(db: Db) {}\n    pub async fn one_more(db: Db) {}\npub async fn third(db: Db) {}\n";
    let list = Source::new("tests/src/contract/mod.rs", "slots::one,\nslots::third_of_all,\n");
    let files = [Source::new("tests/src/contract/slots.rs", cases), list, Source::new("docs/x.md", "one_more third")];
    let found: Vec<String> = idle(&files).iter().map(ToString::to_string).collect();
    let at = |line: usize, name: &str| format!("tests/src/contract/slots.rs:{line}: no list of cases has `{name}`");
    assert_eq!(found, [at(2, "one_more"), at(3, "third")]);
}
