//! `lockstep bridge install`: puts the bridge's jar for a Gerrit release into Gerrit's folder `lib`.
//!
//! Images of Lockstep carry the jars of all releases and no shell, so an init container of Gerrit's pod runs this.

use std::fs;
use std::path::{Path, PathBuf};

use super::CliError;
use crate::cli::out;

/// Where the image has the jars.
const JARS: &str = "/usr/share/lockstep/bridge";
/// The beginning of a jar's name, before the release of Gerrit and the version of Lockstep.
const PREFIX: &str = "lockstep-bridge-gerrit-";

#[derive(Debug, clap::Subcommand)]
pub(super) enum BridgeCommand {
    /// Put the jar for a Gerrit release into a folder, and remove those for other releases from it
    #[command(after_help = "Example, in an init container that runs before Gerrit:\n  lockstep bridge install \
                            --gerrit-version 3.13.5 --to /var/gerrit/lib")]
    Install(InstallArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct InstallArgs {
    /// Gerrit's version, such as 3.13.5
    #[arg(long, env = "GERRIT_VERSION")]
    gerrit_version: String,
    /// Gerrit's folder `lib`; it is created if it is missing
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Folder with the jars of all releases
    #[arg(long, value_name = "FOLDER", default_value = JARS)]
    from: PathBuf,
    /// Print all fields as JSON instead of text
    #[arg(long)]
    json: bool,
}

/// The jar that was installed, for `--json`.
#[derive(serde::Serialize)]
struct Installed<'a> {
    jar: &'a str,
    folder: &'a Path,
}

pub(super) fn run(command: BridgeCommand) -> Result<(), CliError> {
    let BridgeCommand::Install(args) = command;
    let jar = jar_for(&args.gerrit_version, &jars(&args.from)?, &args.from)?;
    install(&args.from.join(&jar), &args.to, &jar)?;
    let text = match args.json {
        true => super::json(&Installed { jar: &jar, folder: &args.to })?,
        false => format!("{} is in {}\n", jar, args.to.display()),
    };
    Ok(out::put(&text)?)
}

/// The names of the jars in a folder, sorted.
fn jars(folder: &Path) -> Result<Vec<String>, CliError> {
    let failed = |error| CliError::Failed(format!("{}: {error}", folder.display()));
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        names.extend(name.to_str().filter(|name| is_jar(name)).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn is_jar(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(".jar")
}

/// The release of Gerrit that a jar is for: `3.13`.
fn release(jar: &str) -> &str {
    let rest = jar.strip_prefix(PREFIX).unwrap_or_default();
    rest.split_once('-').map_or(rest, |(release, _)| release)
}

/// Picks the jar for a version of Gerrit.
fn jar_for(version: &str, jars: &[String], from: &Path) -> Result<String, CliError> {
    let mut numbers = version.split(['.', '-']);
    let wanted = match [numbers.next(), numbers.next()] {
        [Some(major), Some(minor)] if [major, minor].iter().all(|one| one.parse::<u16>().is_ok()) => {
            format!("{major}.{minor}")
        }
        _ => {
            let remedy = "write the version as Gerrit prints it (`java -jar gerrit.war version`), such as 3.13.5";
            return Err(CliError::Usage(format!("--gerrit-version {version}: {remedy}")));
        }
    };
    let fitting: Vec<&String> = jars.iter().filter(|jar| release(jar) == wanted).collect();
    match fitting[..] {
        [jar] => Ok(jar.clone()),
        [] => {
            let known: Vec<&str> = jars.iter().map(|jar| release(jar)).collect();
            Err(CliError::Usage(format!(
                "--gerrit-version {version}: {} has no bridge for Gerrit {wanted}; it has those for: {}",
                from.display(),
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            )))
        }
        [..] => Err(CliError::Usage(format!(
            "--from {}: it has {} jars for Gerrit {wanted}; leave one there",
            from.display(),
            fitting.len()
        ))),
    }
}

/// Copies the jar beside its final name and renames it, then removes the other ones: Gerrit loads each jar of its
/// folder.
fn install(jar: &Path, to: &Path, name: &str) -> Result<(), CliError> {
    let failed = |path: &Path, error| CliError::Failed(format!("{}: {error}", path.display()));
    fs::create_dir_all(to).map_err(|error| failed(to, error))?;
    let (draft, target) = (to.join(format!("{name}.new")), to.join(name));
    fs::copy(jar, &draft).map_err(|error| failed(&draft, error))?;
    let synced = fs::File::open(&draft).and_then(|file| file.sync_all());
    synced.and_then(|()| fs::rename(&draft, &target)).map_err(|error| failed(&target, error))?;
    for other in jars(to)?.into_iter().filter(|other| other != name) {
        let path = to.join(other);
        fs::remove_file(&path).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| fs::write(folder.path().join(name), name).unwrap());
        folder
    }

    fn install_for(version: &str, from: &Path, to: &Path) -> Result<(), String> {
        let jar = jar_for(version, &jars(from).map_err(|error| error.to_string())?, from);
        let jar = jar.map_err(|error| error.to_string())?;
        install(&from.join(&jar), to, &jar).map_err(|error| error.to_string())
    }

    #[test]
    fn the_jar_of_the_release_replaces_those_of_others_and_touches_nothing_else() {
        let from = folder(&["lockstep-bridge-gerrit-3.12-0.1.0.jar", "lockstep-bridge-gerrit-3.13-0.1.0.jar", "x.jar"]);
        let to = folder(&["lockstep-bridge-gerrit-3.12-0.0.9.jar", "postgresql.jar"]);
        install_for("3.13.5-12-gabc", from.path(), to.path()).unwrap();
        install_for("3.13.5", from.path(), to.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(to.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["lockstep-bridge-gerrit-3.13-0.1.0.jar", "postgresql.jar"]);
        let text = fs::read_to_string(to.path().join("lockstep-bridge-gerrit-3.13-0.1.0.jar")).unwrap();
        assert_eq!(text, "lockstep-bridge-gerrit-3.13-0.1.0.jar");
    }

    #[test]
    fn an_unknown_release_and_a_bad_version_are_refused_with_the_known_ones() {
        let from = folder(&["lockstep-bridge-gerrit-3.12-0.1.0.jar", "lockstep-bridge-gerrit-3.13-0.1.0.jar"]);
        let to = folder(&["lockstep-bridge-gerrit-3.12-0.0.9.jar"]);
        let said = install_for("3.9.1", from.path(), to.path()).unwrap_err();
        assert!(said.contains("no bridge for Gerrit 3.9; it has those for: 3.12, 3.13"), "{said}");
        for bad in ["latest", "3", "", "v3.13"] {
            let said = install_for(bad, from.path(), to.path()).unwrap_err();
            assert!(said.contains("--gerrit-version") && said.contains("such as 3.13.5"), "{said}");
        }
        assert!(to.path().join("lockstep-bridge-gerrit-3.12-0.0.9.jar").exists());
    }

    #[test]
    fn two_jars_for_one_release_are_refused() {
        let from = folder(&["lockstep-bridge-gerrit-3.13-0.1.0.jar", "lockstep-bridge-gerrit-3.13-0.2.0.jar"]);
        let to = tempfile::tempdir().unwrap();
        let said = install_for("3.13.5", from.path(), to.path()).unwrap_err();
        assert!(said.contains("2 jars for Gerrit 3.13"), "{said}");
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
    }
}
