//! Finds the repositories of a volume as Gerrit lists them.
//!
//! Gerrit walks through links, and lists each folder whose name ends with `.git`, and each other folder that is a bare
//! repository. Lockstep takes less: `<folder>/<project>.git`, on the volume itself. So the walk finds every repository
//! that Gerrit would list, and says of each whether it can be seeded, or why not and what to do.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use lockstep_proto::ProjectName;

use crate::base::base_paths::BasePaths;
use crate::base::ref_names::shown;

/// Part of the names of folders that Gerrit's delete-project plugin has set aside.
const SET_ASIDE: &[u8] = b"%project%";

/// The repositories of a volume.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The projects that can be seeded.
    pub projects: BTreeSet<ProjectName>,
    /// One line per folder that Gerrit would list and Lockstep cannot seed, with the reason and the remedy.
    pub problems: Vec<String>,
}

/// Walks through every folder of the volume.
pub(super) fn walk(base_paths: &BasePaths) -> Found {
    let mut walk = Walk { base_paths, found: Found::default() };
    for root in base_paths.all() {
        walk.folder(root, root, false, &mut vec![canonical(root)]);
    }
    walk.found.problems.sort();
    walk.found
}

struct Walk<'a> {
    base_paths: &'a BasePaths,
    found: Found,
}

impl Walk<'_> {
    /// Walks through one folder. `linked` says that a link led here; `above` are the folders that it is in.
    fn folder(&mut self, root: &Path, folder: &Path, linked: bool, above: &mut Vec<PathBuf>) {
        let entries = match std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
            Ok(entries) => entries,
            Err(error) => return self.problem(folder, format!("it cannot be read ({error}); repair it")),
        };
        let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().as_bytes();
            if name.starts_with(b".") || name.windows(SET_ASIDE.len()).any(|part| part == SET_ASIDE) || !path.is_dir() {
                continue;
            }
            let linked = linked || path.is_symlink();
            if name.ends_with(b".git") || is_repository(&path) {
                self.repository(root, &path, linked);
                continue;
            }
            let real = canonical(&path);
            // A link to a folder above would lead round and round.
            if !above.contains(&real) {
                above.push(real);
                self.folder(root, &path, linked, above);
                above.pop();
            }
        }
    }

    fn repository(&mut self, root: &Path, path: &Path, linked: bool) {
        match self.judge(root, path, linked) {
            Ok(project) => drop(self.found.projects.insert(project)),
            Err(why) => self.problem(path, why),
        }
    }

    /// The project of a repository, or the reason why it cannot be seeded.
    fn judge(&self, root: &Path, path: &Path, linked: bool) -> Result<ProjectName, String> {
        if !is_repository(path) {
            return Err("it is not a git repository; remove it, or rename it without `.git`".to_owned());
        }
        if linked {
            return Err(self.of_link(root, path));
        }
        let shell = |path: &Path| format!("'{}'", path.display());
        let Some(below) = path.as_os_str().as_bytes().strip_suffix(b".git") else {
            let named = PathBuf::from(format!("{}.git", path.display()));
            if named.exists() {
                return Err(format!(
                    "its name does not end with `.git`, and {} exists, too; rename it",
                    named.display()
                ));
            }
            return Err(format!("its name does not end with `.git`: `mv {} {}`", shell(path), shell(&named)));
        };
        let below = Path::new(OsStr::from_bytes(below));
        let below = below.strip_prefix(root).unwrap_or(below).as_os_str().as_bytes();
        let below = below.strip_suffix(b"/").unwrap_or(below);
        let name = std::str::from_utf8(below).map_err(|_| "its name is not UTF-8; rename it".to_owned())?;
        let project: ProjectName = name.parse().map_err(|error| format!("{error}; rename it"))?;
        if self.base_paths.of(&project) != root {
            let should = self.base_paths.git_dir(&project);
            return Err(format!("by setting git.base_paths it belongs at {}; move it there", should.display()));
        }
        Ok(project)
    }

    /// The remedy for a repository that only a link leads to.
    fn of_link(&self, root: &Path, path: &Path) -> String {
        let link = path.ancestors().find(|part| part.is_symlink()).unwrap_or(path);
        let real = canonical(link);
        if real.starts_with(canonical(root)) {
            let from = real.display();
            return format!(
                "the link {} leads to {from}, so two projects would have one repository; remove the link",
                link.display()
            );
        }
        format!(
            "the link {0} leads out of the volume, to {1}; move the folder here: `rm '{0}' && mv '{1}' '{0}'`, or make \
             {1} a base path (setting git.base_paths)",
            link.display(),
            real.display()
        )
    }

    fn problem(&mut self, path: &Path, why: String) {
        self.found.problems.push(format!("{}: {why}", shown(path.as_os_str().as_bytes())));
    }
}

/// Whether JGit takes the folder for a bare repository.
fn is_repository(path: &Path) -> bool {
    path.join("objects").is_dir() && path.join("refs").is_dir() && path.join("HEAD").symlink_metadata().is_ok()
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(path: &Path) {
        for folder in ["objects", "refs"] {
            std::fs::create_dir_all(path.join(folder)).unwrap();
        }
        std::fs::write(path.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    }

    fn names(found: &Found) -> Vec<&str> {
        found.projects.iter().map(ProjectName::as_str).collect()
    }

    #[test]
    fn every_repository_that_gerrit_lists_is_found_or_named_and_the_advice_works() {
        let folder = tempfile::tempdir().unwrap();
        let (root, away) = (folder.path().join("git"), folder.path().join("away"));
        for path in ["app.git", "a/b/c.git", "plain", "Team A/app.git", "deep/plain", "a/b/c.git/hooks/x.git"] {
            repository(&root.join(path));
        }
        for path in ["lib.git", "group/one.git"] {
            repository(&away.join(path));
        }
        repository(&root.join("gone.20260101.%project%.git"));
        repository(&root.join(".lockstep/tmp/x.git"));
        repository(&root.join(OsStr::from_bytes(b"caf\xe9.git")));
        std::fs::create_dir_all(root.join("empty.git")).unwrap();
        let link = |to: &Path, at: &str| std::os::unix::fs::symlink(to, root.join(at)).unwrap();
        link(&away.join("lib.git"), "lib.git");
        link(&away.join("group"), "group");
        link(&root.join("app.git"), "alias.git");
        link(&root, "a/round");
        let base_paths = BasePaths::at(&root);
        let found = walk(&base_paths);
        assert_eq!(names(&found), ["a/b/c", "app"]);
        let problem = |end: &str| {
            let is = |one: &&String| one.split(": ").next().unwrap().trim_end_matches('"').ends_with(end);
            found.problems.iter().find(is).unwrap_or_else(|| panic!("no {end} in {:?}", found.problems)).clone()
        };
        for (end, why) in [
            ("/plain", "does not end with `.git`"),
            ("deep/plain", "does not end with `.git`"),
            ("Team A/app.git", "space"),
            ("/lib.git", "leads out of the volume"),
            ("group/one.git", "leads out of the volume"),
            ("alias.git", "remove the link"),
            ("empty.git", "not a git repository"),
            ("caf\\351.git", "not UTF-8"),
        ] {
            assert!(problem(end).contains(why), "{end}: {}", problem(end));
        }
        for end in ["git/plain", "deep/plain", "/lib.git", "group/one.git"] {
            let problem = problem(end);
            let advice = problem.rsplit_once('`').and_then(|(text, _)| text.rsplit_once('`')).unwrap().1;
            let advice = if advice == ".git" { problem.split('`').nth(3).unwrap() } else { advice };
            let ran = std::process::Command::new("sh").args(["-c", advice]).status().unwrap();
            assert!(ran.success(), "{advice}");
        }
        std::fs::rename(root.join("Team A"), root.join("team-a")).unwrap();
        let found = walk(&base_paths);
        assert_eq!(
            names(&found),
            ["a/b/c", "app", "deep/plain", "group/one", "lib", "plain", "team-a/app"],
            "{:?}",
            found.problems
        );
        assert_eq!(found.problems.len(), 3, "{:?}", found.problems);
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let found = walk(&BasePaths::at(&folder.path().join("nowhere")));
        assert!(found.problems[0].contains("cannot be read"), "{:?}", found.problems);
    }
}
