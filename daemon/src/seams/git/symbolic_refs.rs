//! Symbolic refs below `refs/`. Lockstep does not replicate them, so one may stand in the place of a ref that another
//! site has committed, or in the way of its name. It gives way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lockstep_proto::{ProjectName, RefName};

use super::GitError;
use super::layout::failed;
use super::ref_files::{self, Shown};
use super::update_ref::Line;
use super::writer::read_ref;
use crate::base::ref_names::{directories, shown};

/// Up to this number of names, each is looked at for itself. Beyond it, the files of all refs are read once.
const FEW: usize = 500;

/// Symbolic refs, with their targets.
type Found = BTreeMap<String, Vec<u8>>;

/// The lines that make the symbolic ones of these refs direct, and that delete those whose names exclude one of them.
/// Blocks.
pub(super) fn lines(project: &ProjectName, git_dir: &Path, names: &[RefName]) -> Result<Vec<Line>, GitError> {
    let found = if names.len() > FEW { among_all(git_dir, names) } else { near(git_dir, names) };
    let found = found.map_err(|error| failed(project, "look for symbolic refs", error))?;
    let names: BTreeSet<&str> = names.iter().map(RefName::as_str).collect();
    let mut lines = Vec::new();
    for (name, target) in found {
        let value = if names.contains(name.as_str()) { read_ref(project, git_dir, &name)? } else { None };
        let target = shown(&target);
        tracing::warn!(%project, name, target, ?value, "a symbolic ref gives way to a committed ref");
        lines.push(match value {
            Some(value) => Line::Move { name, old: Some(value), new: Some(value), message: String::new() },
            None => Line::Delete(name),
        });
    }
    Ok(lines)
}

/// Looks at the file of each name, at the files that it excludes above it, and at those below it.
fn near(git_dir: &Path, names: &[RefName]) -> std::io::Result<Found> {
    let mut found = Found::new();
    for name in names {
        for one in std::iter::once(name.clone()).chain(directories(name)) {
            if let Some(target) = ref_files::symbolic(git_dir, one.as_str())? {
                found.insert(one.to_string(), target);
            }
        }
        if git_dir.join(name.as_str()).is_dir() {
            found.extend(all_below(git_dir, &format!("{name}/"))?);
        }
    }
    Ok(found)
}

/// Finds the symbolic refs of the whole repository that one of the names meets.
fn among_all(git_dir: &Path, names: &[RefName]) -> std::io::Result<Found> {
    let mut taken: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
    taken.extend(names.iter().flat_map(directories).map(|directory| directory.to_string()));
    let names: BTreeSet<&str> = names.iter().map(RefName::as_str).collect();
    let meets = |symbolic: &str| {
        let mut above = symbolic.match_indices('/').map(|(at, _)| &symbolic[..at]);
        taken.contains(symbolic) || above.any(|directory| names.contains(directory))
    };
    let mut found = all_below(git_dir, "refs/")?;
    found.retain(|name, _| meets(name));
    Ok(found)
}

fn all_below(git_dir: &Path, prefix: &str) -> std::io::Result<Found> {
    let symbolic = |(name, content): (Vec<u8>, Shown)| match content {
        Shown::Symbolic(target) => Some((String::from_utf8(name).ok()?, target)),
        Shown::Direct(_) => None,
    };
    Ok(ref_files::list_all(git_dir, prefix)?.into_iter().filter_map(symbolic).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_names_and_many_meet_the_same_symbolic_refs() {
        let folder = tempfile::tempdir().unwrap();
        for symbolic in ["a", "b", "c/d", "e/f/g", "h"] {
            let file = folder.path().join("refs/heads").join(symbolic);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "ref: refs/heads/main\n").unwrap();
        }
        let names = ["refs/heads/a", "refs/heads/b/x/y", "refs/heads/c", "refs/heads/e/f/gg", "refs/heads/i"];
        let names = names.map(|name| name.parse().unwrap());
        let near = near(folder.path(), &names).unwrap();
        assert_eq!(near.keys().collect::<Vec<_>>(), ["refs/heads/a", "refs/heads/b", "refs/heads/c/d"]);
        assert_eq!(among_all(folder.path(), &names).unwrap(), near);
    }
}
