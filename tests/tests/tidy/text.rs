//! Text that must not be in any file: paths of a machine, and unfinished code.

use crate::{Finding, Source};

/// Folders that exist only on one developer's machine. The paths are built from two parts, so that this file passes.
const MACHINE_FOLDERS: [&str; 5] = ["work", "root", "farm", "home", "Users"];
/// Marks of unfinished or left-over code, in two parts for the same reason.
const UNFINISHED: [(&str, &str); 5] =
    [("todo", "!("), ("unimplemented", "!("), ("dbg", "!("), ("FIX", "ME"), ("XX", "X")];

pub fn check(file: &Source) -> Vec<Finding> {
    let paths = file.lines().filter(|(_, line)| has_machine_path(line));
    let mut findings: Vec<_> =
        paths.map(|(line, _)| file.finding(line, "the path of a machine: use a relative path")).collect();
    if file.is_rust() {
        findings.extend(file.lines().filter_map(|(line, text)| {
            unfinished(text).map(|what| file.finding(line, format!("`{what}`: finish the code, or remove it")))
        }));
    }
    findings
}

/// Whether an absolute path below one of the folders begins in the line.
fn has_machine_path(line: &str) -> bool {
    MACHINE_FOLDERS.iter().any(|folder| {
        let path = format!("/{folder}/");
        line.match_indices(&path).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|before| before.is_ascii_alphanumeric() || "_.".contains(before))
        })
    })
}

fn unfinished(line: &str) -> Option<String> {
    let words = UNFINISHED.iter().map(|(start, end)| format!("{start}{end}"));
    words.into_iter().find(|word| line.contains(word.as_str()))
}

#[test]
fn a_machine_path_is_found() {
    for folder in MACHINE_FOLDERS {
        let seeded = Source::new("docs/x.md", &format!("fine\nsee `/{folder}/me/notes`\n"));
        assert_eq!(check(&seeded).iter().map(|it| it.line).collect::<Vec<_>>(), [2], "{folder}");
    }
    let url = format!("https://example.org/{}/x and refs/{}/y", MACHINE_FOLDERS[0], MACHINE_FOLDERS[1]);
    assert_eq!(check(&Source::new("docs/x.md", &url)), []);
}

#[test]
fn unfinished_code_is_found_in_code_only() {
    for (start, end) in UNFINISHED {
        let line = format!("    {start}{end}");
        assert_eq!(check(&Source::new("daemon/src/x.rs", &line)).len(), 1, "{line}");
        assert_eq!(check(&Source::new("docs/x.md", &line)), []);
    }
}
