//! Reads the git volume: the root, and the base paths of projects that lie below other folders.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lockstep_proto::ProjectName;

use super::fields::folder;
use super::raw::Raw;
use super::report::Problems;
use crate::base::base_paths::{APART, BasePaths};

const SECTION: &str = "git.base_paths";

pub(super) fn read(raw: &Raw, to: &mut Problems) -> Option<BasePaths> {
    let root = to.need("root", &raw.root, "name the git volume's folder", folder);
    let mut others = BTreeMap::new();
    for (projects, value) in &raw.git.base_paths {
        let (field, leaf) = (field(projects), Some(value.clone()));
        if let Err(why) = pattern(projects) {
            to.wrong(&field, &leaf, why);
        }
        others.extend(to.optional(&field, &leaf, plain).map(|path| (projects.clone(), path)));
    }
    let base_paths = BasePaths::new(root?, others);
    together(raw, &base_paths, to);
    Some(base_paths)
}

/// Reports problems between folders that are valid by themselves: nested folders, and patterns without a clear
/// precedence.
fn together(raw: &Raw, base_paths: &BasePaths, to: &mut Problems) {
    if let Some((inner, outer)) = base_paths.nested() {
        let entry = raw.git.base_paths.iter().find(|(projects, _)| base_paths.entry(projects) == Some(inner));
        let outer_name = if outer == base_paths.root() { "root".to_owned() } else { "another base path".to_owned() };
        let why = format!("it is in {} ({outer_name}); {APART}", outer.display());
        match entry {
            Some((projects, value)) => to.wrong(&field(projects), &Some(value.clone()), why),
            None => to.wrong("root", &raw.root, why),
        }
    }
    if let Some((name, other)) = base_paths.tie() {
        let why = format!(
            "{name} and {other} match the same project and are equally long, so the order in Gerrit's configuration \
             would decide; change one of them, or give both the same folder"
        );
        to.wrong(&field(name), &raw.git.base_paths.get(name).cloned(), why);
    }
}

fn field(projects: &str) -> String {
    format!("{SECTION}.{projects:?}")
}

/// Checks a pattern: the name of a project, or a prefix of names that ends with `*`.
fn pattern(projects: &str) -> Result<(), String> {
    let remedy = || "write the name of a project, or a prefix of names with a * at the end: \"big/*\"".to_owned();
    match projects.strip_suffix('*') {
        Some(beginning) if beginning.contains('*') => Err(remedy()),
        Some(_) => Ok(()),
        None => projects.parse::<ProjectName>().map(|_| ()).map_err(|error| format!("{error}; {}", remedy())),
    }
}

/// An absolute path without `..`. Symbolic links are resolved only at the start of the sidecar.
fn plain(text: &str) -> Result<PathBuf, String> {
    let path = folder(text)?;
    let goes_back = path.components().any(|part| part == std::path::Component::ParentDir);
    if goes_back { Err("write it without `..`".to_owned()) } else { Ok(path) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::node::config::{Settings, parse};

    fn configured(base_paths: &str) -> Result<Settings, String> {
        let text = format!(
            "site = \"a\"\nnode = \"a-0\"\nsites = [\"a\"]\nroot = \"/git\"\nstate = \"/git/.lockstep\"\n\
             [embedded]\ndir = \"/aws\"\n[git.base_paths]\n{base_paths}"
        );
        parse(&text).map_err(|error| error.to_string())
    }

    fn refused(base_paths: &str, parts: &[&str]) {
        let why = configured(base_paths).expect_err(base_paths);
        for part in parts {
            assert!(why.contains(part), "no {part:?} in:\n{why}");
        }
    }

    #[test]
    fn projects_lie_where_their_pattern_says() {
        let base_paths = configured("\"big/*\" = \"/mnt/big\"\n\"big/app\" = \"/git\"").unwrap().base_paths;
        let of = |project: &str| base_paths.of(&project.parse().unwrap());
        assert_eq!(of("app"), Path::new("/git"));
        assert_eq!(of("big/x"), Path::new("/mnt/big"));
        assert_eq!(of("big/app"), Path::new("/git"), "the longest pattern puts it back below the root");
        assert_eq!(configured("").unwrap().base_paths.all(), [Path::new("/git")]);
    }

    #[test]
    fn an_error_names_the_field_and_its_value() {
        refused("\"big/*\" = \"mnt\"", &["git.base_paths.\"big/*\" = \"mnt\": write an absolute path"]);
        refused("\"big/*\" = \"/mnt/../git\"", &["write it without `..`"]);
        refused("\"big/*\" = 3", &["git.base_paths.\"big/*\" = 3"]);
        refused("\"big/*\" = [\"/a\"]", &["write one value"]);
        refused(
            "\"b*g/*\" = \"/mnt\"\n\"/x\" = \"/mnt\"",
            &["git.base_paths.\"b*g/*\"", "git.base_paths.\"/x\"", "\"big/*\""],
        );
        refused("\"big/*\" = \"/a\"\n\"big/*\" = \"/b\"", &["duplicate key", "big/*"]);
    }

    #[test]
    fn no_folder_lies_in_another() {
        refused("\"big/*\" = \"/git/big\"", &["git.base_paths.\"big/*\" = \"/git/big\": it is in /git (root)"]);
        refused("\"big/*\" = \"/\"", &["root = \"/git\": it is in / (another base path)"]);
        refused("\"a/*\" = \"/mnt\"\n\"b/*\" = \"/mnt/b\"", &["git.base_paths.\"b/*\" = \"/mnt/b\": it is in /mnt"]);
    }

    #[test]
    fn two_patterns_that_match_one_project_are_refused() {
        refused("\"big\" = \"/a\"\n\"bi*\" = \"/b\"", &["git.base_paths.\"big\" = \"/a\": big and bi* match"]);
    }
}
