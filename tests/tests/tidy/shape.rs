//! The sizes of files and functions, and the essay at the beginning of each file.
//!
//! `rustfmt` formats the tree (`make lint`). So a function begins at its `fn` line, and ends at the first line that is
//! its closing brace at the same depth.

use crate::{Finding, Source};

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 80;

pub fn check(file: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let length = file.lines().count();
    if length > FILE_LINES {
        findings
            .push(file.finding(length, format!("{length} lines; a file has at most {FILE_LINES}: split it by idea")));
    }
    if !file.text.starts_with("//!") {
        findings.push(file.finding(1, "the file does not begin with `//!`: say in a few lines what it is for"));
    }
    findings.extend(long_functions(file));
    findings
}

/// Modules that are a file beside a folder of the same name. Such a module belongs into the folder's `mod.rs`.
pub fn twins(files: &[Source]) -> Vec<Finding> {
    let is_folder = |path: &str| files.iter().any(|file| file.path.starts_with(&format!("{path}/")));
    let rust = files.iter().filter(|file| file.is_rust());
    let beside = rust.filter(|file| file.path.strip_suffix(".rs").is_some_and(is_folder));
    beside
        .map(|file| file.finding(1, "a folder of the same name is beside it: move it to the folder's `mod.rs`"))
        .collect()
}

fn long_functions(file: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut open: Vec<(usize, &str)> = Vec::new();
    for (number, line) in file.lines() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if is_function(line.trim_start()) && !line.trim_end().ends_with(['}', ';']) {
            open.push((number, indent));
        } else if line.trim_end() == format!("{indent}}}")
            && let Some(at) = open.iter().position(|(_, of)| *of == indent)
        {
            let (start, _) = open[at];
            open.truncate(at);
            let length = number - start + 1;
            if length > FUNCTION_LINES {
                findings.push(file.finding(start, format!("{length} lines; a function has at most {FUNCTION_LINES}")));
            }
        } else if line.trim_end().ends_with(';') {
            // A trait's declaration over several lines ends at its own depth with a semicolon.
            open.retain(|(_, of)| *of != indent);
        }
    }
    findings
}

/// Whether a trimmed line begins a function: `fn`, after qualifiers.
fn is_function(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let is_qualifier = |word: &str| matches!(word, "const" | "async" | "unsafe" | "extern") || word.starts_with("pub");
    words.find(|word| !is_qualifier(word)).is_some_and(|word| word == "fn")
}

#[test]
fn a_long_file_is_found() {
    let file = |lines: usize| Source::new("x.rs", &format!("//! Essay.\n{}", "\n".repeat(lines - 1)));
    assert_eq!(check(&file(FILE_LINES)), []);
    assert!(check(&file(FILE_LINES + 1))[0].rule.starts_with("501 lines"));
}

#[test]
fn a_long_function_is_found_whatever_is_before_it() {
    let function = |head: &str, lines: usize| {
        let body = "        call();\n".repeat(lines - 2);
        let text = format!("//! Essay.\nimpl X {{\n    fn short(&self);\n    {head}() {{\n{body}    }}\n}}\n");
        check(&Source::new("x.rs", &text))
    };
    for head in ["fn f", "pub async fn f", "pub(super) const fn f"] {
        assert_eq!(function(head, FUNCTION_LINES), [], "{head}");
        let findings = function(head, FUNCTION_LINES + 1);
        assert_eq!(findings.iter().map(|it| it.line).collect::<Vec<_>>(), [4], "{head}");
    }
}

#[test]
fn a_declaration_over_several_lines_is_no_long_function() {
    let text = format!("//! E.\ntrait X {{\n    fn f(\n        a: A,\n    ) -> B;\n{}}}\n", "    // x\n".repeat(90));
    assert_eq!(check(&Source::new("x.rs", &text)), []);
}

#[test]
fn a_file_without_an_essay_is_found() {
    assert_eq!(check(&Source::new("x.rs", "use a::b;\n"))[0].line, 1);
}

#[test]
fn a_file_beside_its_folder_is_found() {
    let files = |paths: [&str; 2]| twins(&paths.map(|path| Source::new(path, "//! Essay.\n")));
    assert_eq!(files(["daemon/src/a.rs", "daemon/src/a/b.rs"]).len(), 1);
    assert_eq!(files(["daemon/src/a/mod.rs", "daemon/src/a/b.rs"]), []);
}
