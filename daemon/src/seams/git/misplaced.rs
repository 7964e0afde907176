//! Finds repositories outside the folder that the configuration sets for them: an operator moved their projects to
//! another base path, and left their folders behind. A second repository is never created in silence.

use std::path::{Path, PathBuf};

use lockstep_proto::ProjectName;

use super::layout::{Layout, failed};
use super::repair::repositories;
use super::{GitError, small_file};

const OP: &str = "look for repositories in other folders";
/// Most repositories that one message names.
const NAMED: usize = 10;
/// Part of the names of folders that the delete-project plugin has put aside.
const PUT_ASIDE: &str = "%project%";

/// Refuses a volume with misplaced repositories, or without a former base path that may hold one of these projects.
/// Otherwise records the base paths for the next start. Blocks.
pub(super) fn check(layout: &Layout, living: &[ProjectName]) -> Result<(), GitError> {
    let found = all(layout).map_err(|error| failed("(all)", OP, error))?;
    if found.is_empty() {
        let away = away(layout, living).map_err(|error| failed("(all)", OP, error))?;
        return match away {
            Some(why) => Err(failed("(all)", OP, why)),
            None => remember(layout).map_err(|error| failed("(all)", OP, error)),
        };
    }
    let named =
        found.iter().take(NAMED).map(|(is, should)| format!("{} (should be {})", is.display(), should.display()));
    let named: Vec<String> = named.collect();
    let more = if found.len() > NAMED { format!(" and {} more", found.len() - NAMED) } else { String::new() };
    let why = format!(
        "{}: {}{more}. Move each repository to the path that it should have, or correct the settings. Move \
         repositories that nobody needs out of the folder. If a folder was a base path once and does not belong to \
         this node now, remove its line from {}. Then start again",
        if found.len() == 1 {
            "root and git.base_paths set another folder for a repository than the one it is in"
        } else {
            "root and git.base_paths set other folders for some repositories than those they are in"
        },
        named.join(", "),
        layout.used().display()
    );
    Err(failed("(all)", OP, why))
}

/// Returns the error text when a former base path may hold missing repositories: it is not mounted, and a project has
/// no repository.
fn away(layout: &Layout, living: &[ProjectName]) -> std::io::Result<Option<String>> {
    let now = layout.base_paths().all();
    let left = used(layout)?.into_iter().filter(|before| !now.contains(&before.as_path()));
    let away: Vec<String> =
        left.filter(|before| !before.join(".lockstep").is_dir()).map(|path| path.display().to_string()).collect();
    let without: Vec<&str> =
        living.iter().filter(|one| !layout.git_dir(one).join("objects").is_dir()).map(ProjectName::as_str).collect();
    let (false, false) = (away.is_empty(), without.is_empty()) else { return Ok(None) };
    let named = without[..without.len().min(NAMED)].join(", ");
    let more = if without.len() > NAMED { format!(" and {} more", without.len() - NAMED) } else { String::new() };
    Ok(Some(format!(
        "former base paths without a folder .lockstep (not mounted?): {}. These projects have no repository: \
         {named}{more}. Mount the file systems, and move the repositories to the folders that the settings set, or put \
         the base paths back into git.base_paths. To start without these repositories (peers send what was committed), \
         remove the lines of the base paths from {}. Then start again",
        away.join(", "),
        layout.used().display()
    )))
}

/// Refuses to create a repository that exists below another folder of the volume. Blocks.
pub(super) fn refuse(layout: &Layout, project: &ProjectName) -> Result<(), GitError> {
    let own = layout.base_paths().of(project);
    let others = layout.base_paths().all().into_iter().filter(|root| *root != own);
    match others.map(|root| root.join(format!("{project}.git"))).find(|path| path.join("objects").is_dir()) {
        None => Ok(()),
        Some(path) => Err(failed(
            project,
            "create the repository",
            format!(
                "the project has a repository at {}, and setting git.base_paths says {}; move it there",
                path.display(),
                own.display()
            ),
        )),
    }
}

/// Returns every misplaced repository, and the path that it should have.
fn all(layout: &Layout) -> std::io::Result<Vec<(PathBuf, PathBuf)>> {
    let now = layout.base_paths().all();
    let mut folders: Vec<PathBuf> =
        used(layout)?.into_iter().filter(|before| !now.contains(&before.as_path())).collect();
    if now.len() > 1 {
        folders.extend(now.into_iter().map(Path::to_owned));
    }
    let mut found = Vec::new();
    for folder in folders {
        found.extend(misplaced_in(layout, &folder)?);
    }
    Ok(found)
}

/// Returns the misplaced repositories of one folder.
fn misplaced_in(layout: &Layout, folder: &Path) -> std::io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut found = Vec::new();
    for path in repositories(folder)? {
        let name = path.strip_prefix(folder).ok().and_then(Path::to_str).and_then(|name| name.strip_suffix(".git"));
        let name = name.filter(|name| !name.contains(PUT_ASIDE));
        let project: Option<ProjectName> = name.and_then(|name| name.parse().ok());
        let belongs = project.map(|project| layout.git_dir(&project)).filter(|belongs| *belongs != path);
        found.extend(belongs.map(|belongs| (path, belongs)));
    }
    Ok(found)
}

/// Returns the base paths of the previous start.
fn used(layout: &Layout) -> std::io::Result<Vec<PathBuf>> {
    let text = small_file::read(&layout.used())?.unwrap_or_default();
    Ok(text.lines().map(PathBuf::from).collect())
}

fn remember(layout: &Layout) -> std::io::Result<()> {
    let now: Vec<PathBuf> = layout.base_paths().all().into_iter().skip(1).map(Path::to_owned).collect();
    if used(layout)? == now {
        return Ok(());
    }
    let lines: Vec<String> = now.iter().map(|path| path.display().to_string()).collect();
    small_file::write(&layout.used(), &lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::base_paths::BasePaths;

    /// Creates the folders `git` and `big`, and the given repositories in them.
    fn volume(repositories: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for path in ["git", "big"].iter().chain(repositories) {
            std::fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        for path in repositories {
            std::fs::create_dir_all(folder.path().join(path).join("objects")).unwrap();
        }
        folder
    }

    fn open(folder: &tempfile::TempDir, projects: Option<&str>) -> Layout {
        let others = projects.map(|projects| (projects.to_owned(), folder.path().join("big")));
        Layout::open(&BasePaths::new(folder.path().join("git"), others.into_iter().collect::<BTreeMap<_, _>>()))
            .unwrap()
    }

    fn refused(layout: &Layout) -> String {
        check(layout, &[]).unwrap_err().to_string()
    }

    #[test]
    fn a_repository_in_its_own_folder_is_accepted() {
        let folder =
            volume(&["git/app.git", "big/big/x.git", "git/big/y.20260101.%project%.git", "git/big/y/z.git/hooks"]);
        let layout = open(&folder, Some("big/*"));
        std::fs::create_dir_all(layout.owns()[1].tmp().join("x/repository.git/objects")).unwrap();
        check(&layout, &[]).unwrap();
        check(&layout, &[]).unwrap();
    }

    #[test]
    fn a_project_that_was_moved_without_its_folder_is_named_with_both() {
        let folder = volume(&["git/big/x.git", "big/app.git"]);
        let why = refused(&open(&folder, Some("big/*")));
        for part in ["git/big/x.git (should be", "big/big/x.git)", "big/app.git (should be", "git/app.git)"] {
            assert!(why.contains(part), "no {part} in {why}");
        }
    }

    #[test]
    fn a_base_path_that_is_no_longer_set_is_not_forgotten_while_it_holds_repositories() {
        let folder = volume(&["big/big/x.git"]);
        check(&open(&folder, Some("big/*")), &[]).unwrap();
        let layout = open(&folder, None);
        assert!(refused(&layout).contains("big/big/x.git (should be"));
        assert!(refused(&layout).contains(".lockstep/base-paths"), "the second check refuses too");
        std::fs::create_dir(folder.path().join("git/big")).unwrap();
        std::fs::rename(folder.path().join("big/big/x.git"), folder.path().join("git/big/x.git")).unwrap();
        check(&layout, &[]).unwrap();
        assert!(used(&layout).unwrap().is_empty());
    }

    #[test]
    fn a_base_path_that_is_neither_set_nor_mounted_is_not_forgotten_while_a_repository_is_missing() {
        let folder = volume(&["git/app.git", "big/big/x.git"]);
        let projects = ["app", "big/x"].map(|name| name.parse().unwrap());
        check(&open(&folder, Some("big/*")), &projects).unwrap();
        let (big, put_aside) = (folder.path().join("big"), folder.path().join("aside"));
        std::fs::rename(&big, &put_aside).unwrap();
        let layout = open(&folder, None);
        for is_mount_point in [false, true] {
            if is_mount_point {
                std::fs::create_dir(&big).unwrap();
            }
            let why = check(&layout, &projects).unwrap_err().to_string();
            assert!(why.contains("no repository: big/x.") && why.contains(".lockstep/base-paths"), "{why}");
            assert!(why.contains(&big.display().to_string()), "{why}");
        }
        std::fs::create_dir(folder.path().join("git/big")).unwrap();
        std::fs::rename(put_aside.join("big/x.git"), folder.path().join("git/big/x.git")).unwrap();
        check(&layout, &projects).unwrap();
        assert!(used(&layout).unwrap().is_empty());
    }

    #[test]
    fn no_second_repository_is_made_in_silence() {
        let folder = volume(&["git/big/x.git"]);
        let layout = open(&folder, Some("big/*"));
        let why = refuse(&layout, &"big/x".parse().unwrap()).unwrap_err().to_string();
        assert!(why.contains("git/big/x.git") && why.contains("move it there"), "{why}");
        refuse(&layout, &"big/y".parse().unwrap()).unwrap();
    }
}
