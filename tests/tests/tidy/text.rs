//! Rules for every text: no path of a machine, no unfinished code, the declared width, no sentence and no clause that
//! begins with what or who as a noun, no heading that has one, and no doc comment that repeats a name.

use crate::{Finding, Source};

/// Folders that exist only on one developer's machine. The paths are built from two parts, so that this file passes.
const MACHINE_FOLDERS: [&str; 5] = ["work", "root", "farm", "home", "Users"];
/// Marks of unfinished or left-over code, in two parts for the same reason.
const UNFINISHED: [(&str, &str); 5] =
    [("todo", "!("), ("unimplemented", "!("), ("dbg", "!("), ("FIX", "ME"), ("XX", "X")];

/// The declared width of Rust, scripts and prose, in columns. Java has 100, which `make bridge-lint` checks.
const COLUMNS: usize = 120;

/// A doc comment with fewer words repeats the name of its item.
const DOC_WORDS: usize = 4;

/// The beginnings of sentences that make the reader wait for the noun (docs/STYLE.md).
const RIDDLES: [&str; 5] = ["What ", "Who ", "Whoever ", "Whatever ", "Whose "];
/// The beginnings of clauses that do so inside a sentence, and the words behind which such a clause is a noun.
const NOUNS: [&str; 3] = ["what", "whoever", "whatever"];
const BEFORE_NOUNS: [&str; 8] = ["is", "are", "of", "by", "from", "than", "about", "beside"];

pub fn check(file: &Source) -> Vec<Finding> {
    let paths = file.lines().filter(|(_, line)| has_machine_path(line));
    let mut findings: Vec<_> =
        paths.map(|(line, _)| file.finding(line, "the path of a machine: use a relative path")).collect();
    if file.is_rust() {
        findings.extend(file.lines().filter_map(|(line, text)| {
            unfinished(text).map(|what| file.finding(line, format!("`{what}`: finish the code, or remove it")))
        }));
    }
    findings.extend(wide(file));
    findings.extend(sentences(file).into_iter().filter(|(_, text)| begins_with_a_riddle(text)).map(|(line, _)| {
        file.finding(line, "the sentence begins with what or who as a noun: subject, verb, object (docs/STYLE.md)")
    }));
    let rule = "a clause that begins with what or whoever as a noun: name the thing (docs/STYLE.md)";
    findings.extend(clauses(file).into_iter().map(|line| file.finding(line, rule)));
    let headings = headings(file).into_iter().filter(|(_, text)| has_a_riddle(text));
    let rule = "the heading has what or who as a noun: name the thing (docs/STYLE.md)";
    findings.extend(headings.map(|(line, _)| file.finding(line, rule)));
    findings.extend(short_docs(file));
    findings
}

/// Doc comments of the product that are too short to say more than the name below them. A code span may stand alone.
fn short_docs(file: &Source) -> Vec<Finding> {
    if !file.is_rust() || !["daemon/src/", "proto/src/"].iter().any(|root| file.path.starts_with(root)) {
        return Vec::new();
    }
    let docs: Vec<Option<&str>> = file.text.lines().map(|line| line.trim_start().strip_prefix("///")).collect();
    let is_alone = |at: usize| {
        let before = at.checked_sub(1).and_then(|before| docs[before]);
        before.is_none() && docs.get(at + 1).copied().flatten().is_none()
    };
    let is_short = |text: &str| !text.contains('`') && text.split_whitespace().count() < DOC_WORDS;
    let short = docs.iter().enumerate().filter(|(at, text)| text.is_some_and(is_short) && is_alone(*at));
    let rule = format!("a doc comment of fewer than {DOC_WORDS} words: give shape, unit or meaning (docs/STYLE.md)");
    short.map(|(at, _)| file.finding(at + 1, rule.as_str())).collect()
}

/// Lines beyond the declared width. Tables, code blocks and links of a page may be longer, and so may a line of a
/// script with a URL and the help of a Make target.
fn wide(file: &Source) -> Vec<Finding> {
    let is_script = is_script(file);
    let lines = if file.is_rust() || is_script { file.lines().collect() } else { prose(file) };
    let is_help = |text: &str| file.path.ends_with("Makefile") && text.contains(" ## ");
    let may_be_long = |text: &str| text.contains("](http") || (is_script && text.contains("://")) || is_help(text);
    let long = lines.into_iter().filter(|(_, text)| text.chars().count() > COLUMNS && !may_be_long(text));
    long.map(|(line, _)| file.finding(line, format!("more than {COLUMNS} columns: wrap it"))).collect()
}

/// Whether the file is a script, or settings that people write. YAML is not: most of it is generated.
fn is_script(file: &Source) -> bool {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    let is_known = matches!(name.rsplit('.').next(), Some("py" | "toml" | "sh" | "Makefile" | "run"));
    is_known || (file.text.starts_with("#!") && !file.is_rust())
}

/// The lines that people read as sentences: the comments of Rust, and a page without its tables and code blocks.
fn prose(file: &Source) -> Vec<(usize, &str)> {
    if file.is_rust() {
        return file.lines().filter(|(_, text)| text.trim_start().starts_with("//")).collect();
    }
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let mut in_code = false;
    let mut lines = Vec::new();
    for (line, text) in file.lines() {
        in_code ^= text.trim_start().starts_with("```");
        if !in_code && !text.starts_with(['|', '#', '`']) {
            lines.push((line, text));
        }
    }
    lines
}

/// The lines that may begin a sentence: those of [`prose`], and the comments of the other languages of the tree.
fn sentences(file: &Source) -> Vec<(usize, &str)> {
    let marks: &[&str] = match file.path.rsplit('.').next() {
        Some("java") => &["//", "/*", "*"],
        Some("tpl" | "yaml" | "yml") => &["#", "{{/*", "{{- /*"],
        _ if is_script(file) => &["#", "\"\"\""],
        _ => return prose(file),
    };
    file.lines().filter(|(_, text)| marks.iter().any(|mark| text.trim_start().starts_with(mark))).collect()
}

/// The headings of a page.
fn headings(file: &Source) -> Vec<(usize, &str)> {
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let mut in_code = false;
    let is_heading = |(_, text): &(usize, &str)| {
        in_code ^= text.trim_start().starts_with("```");
        !in_code && text.starts_with('#')
    };
    file.lines().filter(is_heading).collect()
}

/// Whether a heading has such a word, and is no question.
fn has_a_riddle(heading: &str) -> bool {
    let is_riddle = |word: &str| RIDDLES.iter().any(|riddle| riddle.trim_end().eq_ignore_ascii_case(word));
    !heading.contains('?') && heading.split(|letter: char| !letter.is_alphanumeric()).any(is_riddle)
}

/// Whether a sentence on the line begins with such a word, and is no question.
fn begins_with_a_riddle(line: &str) -> bool {
    let text = without_marks(line);
    let starts = |sentence: &str| RIDDLES.iter().any(|word| sentence.starts_with(word));
    !text.contains('?') && (starts(text) || text.match_indices(". ").any(|(at, stop)| starts(&text[at + stop.len()..])))
}

/// The lines on which a clause that stands for a noun is inside a sentence, which may begin on the line before. The
/// texts of Rust are looked at too. Questions are left alone, and the changelog.
fn clauses(file: &Source) -> Vec<usize> {
    if file.path == "CHANGELOG.md" {
        return Vec::new();
    }
    let is_mark = |letter: char| !letter.is_alphanumeric();
    let is_clause = |pair: &[&str]| {
        let [before, word] = pair else { return false };
        let is_before = BEFORE_NOUNS.contains(&before.trim_start_matches(is_mark));
        is_before && NOUNS.contains(&word.trim_end_matches(is_mark))
    };
    let lines = if file.is_rust() { file.lines().collect() } else { sentences(file) };
    let mut found = Vec::new();
    let mut last = (0, "");
    for (line, text) in lines {
        let text = without_marks(text);
        let before = if last.0 + 1 == line { last.1 } else { "" };
        let words: Vec<&str> = std::iter::once(before).chain(text.split_whitespace()).collect();
        if !text.contains('?') && words.windows(2).any(is_clause) {
            found.push(line);
        }
        last = (line, text.split_whitespace().next_back().unwrap_or_default());
    }
    found
}

/// A line from its first word on, without the marks of a comment, a list or a text.
fn without_marks(line: &str) -> &str {
    line.trim_start().trim_start_matches(['/', '!', '-', '*', '#', '"', '{', ' '])
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

#[test]
fn a_wide_line_is_found() {
    let file = |path: &str, text: &str| check(&Source::new(path, text)).len();
    let wide = "x".repeat(COLUMNS + 1);
    assert_eq!(file("daemon/src/x.rs", &format!("// {wide}")), 1);
    assert_eq!(file("daemon/src/x.rs", &wide), 1);
    assert_eq!(file("docs/x.md", &wide), 1);
    assert_eq!(file("docs/x.md", &format!("|{wide}|\n```\n{wide}\n```\n{}", "x".repeat(COLUMNS))), 0);
    assert_eq!(file("Cargo.lock", &wide), 0);
    for path in ["x.py", "x.toml", "x.sh", "Makefile", ".ci/run"] {
        assert_eq!(file(path, &wide), 1, "{path}");
        assert_eq!(file(path, &format!("# https://{wide}")), 0, "{path}");
    }
    assert_eq!(file("deploy/build", &format!("#!/bin/sh\n{wide}")), 1);
    assert_eq!(file("Makefile", &format!("test: tools ## {wide}")), 0);
    assert_eq!(file("deploy/x.yaml", &wide), 0);
}

#[test]
fn a_riddle_is_found() {
    let file = |path: &str, text: &str| check(&Source::new(path, text)).len();
    let what = "What";
    assert_eq!(file("daemon/src/x.rs", &format!("/// {what} comes above is sent away.")), 1);
    assert_eq!(file("docs/x.md", &format!("It waits. {what} comes above is sent away.")), 1);
    assert_eq!(file("docs/x.md", &format!("{what} is a lane?\nRequests above the limit are rejected.")), 0);
    assert_eq!(file("daemon/src/x.rs", &format!("let x = \"{what} ever\";")), 0);
    for (path, start) in [
        ("bridge/X.java", "  /** "),
        ("bridge/X.java", "   * It waits. "),
        ("deploy/x.py", "    \"\"\""),
        ("deploy/x.py", "# "),
        ("deploy/x.yaml", "# "),
        ("deploy/x.tpl", "{{/* "),
        ("deploy/x.tpl", "{{- /* "),
        ("x.toml", "key = 1\n# "),
        ("x.sh", "# "),
        ("Makefile", "# It waits. "),
        (".ci/run", "# "),
        ("deploy/build", "#!/bin/sh\n# "),
    ] {
        assert_eq!(file(path, &format!("{start}{what} comes above is sent away.")), 1, "{path}: {start}");
    }
    assert_eq!(file("deploy/x.yaml", &format!("label: {what} comes above\n")), 0);
}

#[test]
fn a_clause_that_stands_for_a_noun_is_found() {
    let lines = |path: &str, text: &str| check(&Source::new(path, text)).iter().map(|it| it.line).collect::<Vec<_>>();
    let (what, whoever) = ("what", "whoever");
    for text in [
        format!("// The size of {what} was sent.\n"),
        format!("call(\"It is the work of {whoever} called\");\n"),
        format!("// It ends (by {what} follows).\n"),
    ] {
        assert_eq!(lines("daemon/src/x.rs", &text), [1], "{text}");
    }
    assert_eq!(lines("docs/x.md", &format!("A debt is\n{what} a node owes.\n")), [2]);
    assert!(lines("docs/x.md", &format!("A debt is\n\n{what} a node owes.\n")).is_empty());
    assert!(lines("docs/x.md", &format!("It differs from {what}, and why?\nIt says {what} to do.\n")).is_empty());
    assert_eq!(lines("x.py", &format!("# The text\n# of {what} follows.\nx = \"of {what}\"\n")), [2]);
    assert_eq!(lines("bridge/X.java", &format!("  /** The thread of {whoever} called. */\n")), [1]);
    assert!(lines("CHANGELOG.md", &format!("The size of {what} was sent.\n")).is_empty());
}

#[test]
fn a_doc_comment_that_repeats_the_name_is_found() {
    let file = |path: &str, text: &str| check(&Source::new(path, text)).len();
    assert_eq!(file("proto/src/x.rs", "    /// The step.\n    pub step: Step,\n"), 1);
    assert_eq!(file("daemon/src/x.rs", "fn f();\n/// Reads the section.\n"), 1);
    assert_eq!(file("proto/src/x.rs", "/// The step that failed.\n\n/// `host:port`.\n"), 0);
    assert_eq!(file("daemon/src/x.rs", "/// A step.\n///\n/// # Errors\n/// None.\n"), 0);
    assert_eq!(file("tests/src/x.rs", "/// The step.\n"), 0);
}

#[test]
fn a_heading_with_a_riddle_is_found() {
    let page = |text: &str| check(&Source::new("docs/x.md", text)).len();
    assert_eq!(page("# Security: who can reach what"), 1);
    assert_eq!(page("## What goes wrong"), 1);
    assert_eq!(page("## What is a lane?\n### Whatsoever, and somebody\n```\n# What a script does\n```\n"), 0);
}
