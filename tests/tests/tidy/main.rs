//! Tests of the tree itself: its imports, the sizes of its files and functions, and content that must not be in it.
//!
//! Every rule is a pure function from a file (its path and text) to findings. One test runs all rules over the tree.
//! Each rule also has a test with a seeded violation. A finding names file, line and rule.

mod cases;
mod circles;
mod claims;
mod docs;
mod errors;
mod exports;
mod layers;
mod names;
mod operators;
mod paths;
mod rates;
mod reads;
mod shape;
mod tables;
mod text;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of the tree.
pub struct Source {
    /// The path from the root of the repository, with `/`.
    pub path: String,
    /// The content of the file.
    pub text: String,
}

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// The path of the file, from the root of the repository.
    pub path: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The broken rule, and the remedy.
    pub rule: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

impl Source {
    /// A file that a test makes up.
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// A finding in this file.
    pub fn finding(&self, line: usize, rule: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, rule: rule.into() }
    }

    /// Lines with their numbers, counted from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Whether the file is Rust.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every text file that git tracks or would track. Ignored files do not belong to the tree.
fn tree() -> Vec<Source> {
    let listing = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
    let output = Command::new("git").args(listing).current_dir(root()).output().expect("git lists the tree");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let paths = String::from_utf8(output.stdout).expect("paths are UTF-8");
    let read = |path: &str| std::fs::read_to_string(root().join(path)).ok().map(|text| Source::new(path, &text));
    paths.split_terminator('\0').filter_map(read).collect()
}

fn check(file: &Source, files: &[Source], exports: &exports::Exports) -> Vec<Finding> {
    let mut findings = text::check(file);
    findings.extend(names::check(file));
    if file.is_rust() {
        findings.extend(shape::check(file));
        findings.extend(layers::check(file, exports));
        findings.extend(exports::check(file));
        findings.extend(words::check(file));
        findings.extend(errors::check(file));
        findings.extend(reads::check(file));
        findings.extend(tables::check(file, files));
    }
    if file.path.ends_with(".md") {
        findings.extend(docs::check(file, files));
        findings.extend(claims::check(file, files));
    }
    if file.path == "docs/security.md" {
        findings.extend(operators::check(file, files));
    }
    if layers::PAGES.contains(&file.path.as_str()) {
        findings.extend(layers::rooms(file));
    }
    findings
}

#[test]
fn the_tree_is_tidy() {
    let files = tree();
    assert!(files.iter().any(|file| file.path == "daemon/src/lib.rs"), "the tree was not found");
    let exports = exports::Exports::of("daemon/src/", &files);
    let each = files.iter().flat_map(|file| check(file, &files, &exports));
    let found = each
        .chain(circles::circles(&files))
        .chain(shape::twins(&files))
        .chain(errors::unneeded(&files))
        .chain(cases::idle(&files));
    let findings: Vec<String> = found.map(|it| it.to_string()).collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}
