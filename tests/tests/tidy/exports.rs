//! The names that files import, and the file that defines a name which a `mod.rs` re-exports.

use std::collections::BTreeMap;

use crate::paths::{code, paths, re_exports};
use crate::{Finding, Source};

/// The re-exports of one crate: from the path of the new name to the path of the definition, both from its root.
pub struct Exports(BTreeMap<Vec<String>, Vec<String>>);

impl Exports {
    /// Reads the re-exports of all files below the root of a crate.
    pub fn of(root: &str, files: &[Source]) -> Self {
        let mut all = BTreeMap::new();
        for file in files.iter().filter(|file| file.is_rust()) {
            let Some(module) = file.path.strip_prefix(root).and_then(home) else { continue };
            for (_, path) in re_exports(&code(file)) {
                let Some(name) = path.last() else { continue };
                let new = module.iter().chain([name]).cloned().collect();
                all.insert(new, absolute(&path, &module));
            }
        }
        all.retain(|new, definition| new != definition);
        Self(all)
    }

    /// The path of the definition of a name. A path that no re-export concerns stays as it is.
    pub fn follow(&self, path: &[String]) -> Vec<String> {
        let mut path = path.to_vec();
        // A chain of re-exports is shorter than that. A circle of them does not compile.
        for _ in 0..8 {
            let longest = (1..=path.len()).rev().find_map(|end| Some((end, self.0.get(&path[..end])?)));
            let Some((end, definition)) = longest else { break };
            path = definition.iter().chain(&path[end..]).cloned().collect();
        }
        path
    }
}

/// Re-exports that cannot be followed: of everything in a module, or under another name.
pub fn check(file: &Source) -> Vec<Finding> {
    let is_ours = file.path.starts_with("daemon/src/") || file.path.starts_with("proto/src/");
    let hidden = re_exports_of(file).into_iter().filter(|(_, text)| text.contains('*') || text.contains(" as "));
    let rule = "re-export names one by one and unchanged, so that their imports can be followed";
    hidden.filter(|_| is_ours).map(|(line, _)| file.finding(line, rule)).collect()
}

fn re_exports_of(file: &Source) -> Vec<(usize, &str)> {
    let is_one = |text: &str| text.trim_start().starts_with("pub") && text.contains(" use ");
    code(file).into_iter().filter(|(_, text)| is_one(text)).collect()
}

/// A path of a `use` from the root of the crate. A path that begins with another name begins in the module itself.
fn absolute(path: &[String], module: &[String]) -> Vec<String> {
    let ups = path.iter().take_while(|it| *it == "super").count();
    match path.first().map(String::as_str) {
        Some("crate") => path[1..].to_vec(),
        Some("self") => module.iter().chain(&path[1..]).cloned().collect(),
        _ => module[..module.len().saturating_sub(ups)].iter().chain(&path[ups..]).cloned().collect(),
    }
}

/// The module of a file, and the empty path for the root of a crate.
fn home(path: &str) -> Option<Vec<String>> {
    if matches!(path, "lib.rs" | "main.rs") { Some(Vec::new()) } else { module(path) }
}

/// The module of a file: `a/b.rs` and `a/b/mod.rs` are `a::b`. None for roots and tests.
pub fn module(path: &str) -> Option<Vec<String>> {
    let path = path.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path);
    let is_ours = !matches!(path, "lib" | "main") && !path.split('/').any(|it| it == "tests");
    is_ours.then(|| path.split('/').map(str::to_owned).collect())
}

/// The paths that code of a module names by `crate::` or `super::`, from the crate's root, with their lines.
pub fn named(code: &[(usize, &str)], module: &[String]) -> Vec<(usize, Vec<String>)> {
    let mut all = paths(code, "crate");
    for (line, path) in paths(code, "super") {
        let ups = path.iter().take_while(|it| *it == "super").count() + 1;
        let Some(keep) = module.len().checked_sub(ups) else { continue };
        all.push((line, module[..keep].iter().chain(&path[ups - 1..]).cloned().collect()));
    }
    all
}

#[test]
fn a_name_is_followed_to_its_definition() {
    let file = |path: &str, text: &str| Source::new(path, text);
    let files = [
        file("daemon/src/lib.rs", "pub use stages::Api;\n"),
        file("daemon/src/stages/mod.rs", "pub use self::api::{\n    Api,\n    b::B,\n};\n"),
        file("daemon/src/stages/api/mod.rs", "pub(crate) use context::Api;\npub use super::ports::Port;\n"),
    ];
    let exports = Exports::of("daemon/src/", &files);
    let follow = |path: &str| exports.follow(&path.split("::").map(str::to_owned).collect::<Vec<_>>()).join("::");
    assert_eq!(follow("Api::new"), "stages::api::context::Api::new");
    assert_eq!(follow("stages::B"), "stages::api::b::B");
    assert_eq!(follow("stages::api::Port"), "stages::ports::Port");
    assert_eq!(follow("stages::api::Other"), "stages::api::Other");
}

#[test]
fn a_re_export_that_cannot_be_followed_is_found() {
    let found = |path: &str, text: &str| check(&Source::new(path, text)).len();
    assert_eq!(found("daemon/src/stages/api/mod.rs", "pub use context::*;"), 1);
    assert_eq!(found("daemon/src/stages/api/mod.rs", "pub(super) use context::Api as Interface;"), 1);
    assert_eq!(found("daemon/src/stages/api/mod.rs", "pub use context::Api;\nuse super::*;\nlet x = y as u64;"), 0);
    assert_eq!(found("tests/src/contract/mod.rs", "pub use cases::*;"), 0);
}
