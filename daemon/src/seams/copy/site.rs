//! The folder of a Gerrit, for a second Gerrit on the copy: its configuration, the libraries and plugins that are
//! chosen, and its index. Everything else stays behind: logs, caches, and every plugin that nobody has named, because a
//! plugin may call out.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use git2::Config;

use super::{Copied, CopyError, Stop, Way, file};

/// The folders that are copied with all that is in them.
pub const SITE_PARTS: [&str; 4] = ["etc", "bin", "static", INDEX];
/// The index, which changes meanwhile.
const INDEX: &str = "index";
/// How often an index that changes is copied again.
const ROUNDS: usize = 5;
/// Sections of `gerrit.config` and `secure.config` that lead out of the copy, and are left out: mail, plugins, other
/// listeners, other base paths, another sidecar, a database of reviewed flags that may be shared, files elsewhere.
const LEFT_OUT: [&str; 13] = [
    "sendemail",
    "receiveemail",
    "remote",
    "plugin",
    "plugins",
    "repository",
    "tracing",
    "httpd",
    "sshd",
    "lockstep",
    "accountpatchreviewdb",
    "include",
    "includeif",
];

/// The values of the copy that differ from those of the original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overrides<'a> {
    /// The folder of the repositories.
    pub base_path: &'a Path,
    /// The URL at which it listens, such as `http://127.0.0.1:8099/`.
    pub listen: &'a str,
    /// The socket of the sidecar on the copy.
    pub socket: &'a Path,
}

/// Copies the folder of a Gerrit from `from` to `to`, where nothing is. `keep` are paths below `lib/` and `plugins/`
/// that the copy has too.
///
/// # Errors
/// See [`CopyError`]. A part of the copy may be there.
pub fn copy_site(
    from: &Path,
    to: &Path,
    way: Way,
    keep: &[PathBuf],
    with: &Overrides<'_>,
    stop: &Stop,
) -> Result<Copied, CopyError> {
    let mut copied = Copied::default();
    for name in SITE_PARTS.into_iter().filter(|name| *name != INDEX) {
        copy_folder(&from.join(name), &to.join(name), way, stop, &mut copied)?;
    }
    for path in keep {
        let place = to.join(path);
        let folder = place.parent().unwrap_or(to);
        fs::create_dir_all(folder).map_err(|error| CopyError::io(folder, error))?;
        let bytes = file::copy(way, &from.join(path), &place, stop)?;
        if bytes.is_none() {
            let gone = std::io::Error::other("it is not there; correct drill.silent.gerrit_keep");
            return Err(CopyError::io(&from.join(path), gone));
        }
        copied.count(bytes);
    }
    copy_index(&from.join(INDEX), &to.join(INDEX), way, stop, &mut copied)?;
    for name in ["data", "logs", "tmp", "cache", "lib", "plugins"] {
        fs::create_dir_all(to.join(name)).map_err(|error| CopyError::io(&to.join(name), error))?;
    }
    silence(&to.join("etc"), with)?;
    Ok(copied)
}

fn copy_folder(from: &Path, to: &Path, way: Way, stop: &Stop, copied: &mut Copied) -> Result<(), CopyError> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CopyError::io(from, error)),
    };
    fs::create_dir_all(to).map_err(|error| CopyError::io(to, error))?;
    for entry in entries {
        let name = entry.map_err(|error| CopyError::io(from, error))?.file_name();
        let (source, target) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            copy_folder(&source, &target, way, stop, copied)?;
        } else if name != "write.lock" {
            copied.count(file::copy(way, &source, &target, stop)?);
        }
    }
    Ok(())
}

/// Copies an index. Lucene never changes a file that it has written; a commit writes new ones, then a new
/// `segments_N`, and removes old ones. So a copy during which no `segments_N` has come or gone is a state of the index.
fn copy_index(from: &Path, to: &Path, way: Way, stop: &Stop, copied: &mut Copied) -> Result<(), CopyError> {
    for _ in 0..ROUNDS {
        let before = commits(from)?;
        let mut these = Copied::default();
        match copy_folder(from, to, way, stop, &mut these) {
            Ok(()) if commits(from)? == before => {
                copied.add(these);
                return Ok(());
            }
            Ok(()) => {}
            Err(error) => return Err(error),
        }
        super::remove(to).map_err(|error| CopyError::io(to, error))?;
    }
    Err(CopyError::Restless { path: from.to_owned(), rounds: ROUNDS })
}

/// The names of the commits of all indexes below a folder.
fn commits(folder: &Path) -> Result<BTreeSet<OsString>, CopyError> {
    let mut found = BTreeSet::new();
    let Ok(entries) = fs::read_dir(folder) else { return Ok(found) };
    for entry in entries {
        let entry = entry.map_err(|error| CopyError::io(folder, error))?;
        let path = entry.path();
        if path.is_dir() {
            found.extend(commits(&path)?);
        } else if entry.file_name().to_string_lossy().starts_with("segments_") {
            found.insert(path.into_os_string());
        }
    }
    Ok(found)
}

/// Takes everything out of the configuration that leads out of the machine. Gerrit prefers a value in `secure.config`
/// to the same one in `gerrit.config`.
fn silence(etc: &Path, with: &Overrides<'_>) -> Result<(), CopyError> {
    let (path, secure) = (&etc.join("gerrit.config"), etc.join("secure.config"));
    strip(path)?;
    if secure.exists() {
        strip(&secure)?;
    }
    let broken = |error: git2::Error| CopyError::io(path, std::io::Error::other(error.message().to_owned()));
    let mut config = Config::open(path).map_err(broken)?;
    let (base_path, socket) = (with.base_path.display().to_string(), with.socket.display().to_string());
    let values = [
        ("gerrit.basePath", base_path.as_str()),
        ("gerrit.canonicalWebUrl", with.listen),
        ("sendemail.enable", "false"),
        ("receiveemail.protocol", "NONE"),
        ("cache.directory", "cache"),
        ("plugins.allowRemoteAdmin", "false"),
        ("httpd.listenUrl", with.listen),
        ("sshd.listenAddress", "off"),
        ("lockstep.socket", &socket),
    ];
    values.iter().try_for_each(|(name, value)| config.set_str(name, value)).map_err(broken)
}

fn strip(path: &Path) -> Result<(), CopyError> {
    let text = fs::read_to_string(path).map_err(|error| CopyError::io(path, error))?;
    fs::write(path, without(&text)).map_err(|error| CopyError::io(path, error))
}

/// A configuration without the sections that are left out.
fn without(text: &str) -> String {
    let mut is_out = false;
    let mut kept = String::new();
    for line in text.lines() {
        let begin = line.trim_start();
        if let Some(section) = begin.strip_prefix('[') {
            let name: String = section.chars().take_while(|one| one.is_ascii_alphanumeric() || *one == '-').collect();
            is_out = LEFT_OUT.contains(&name.to_ascii_lowercase().as_str());
        }
        if !is_out {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[gerrit]\n\tbasePath = /var/git\n\tserverId = abc\n[sendemail]\n\tsmtpServer = mail\n\
        [httpd]\n\tlistenUrl = http://*:8080\n\tlistenUrl = https://*:8443\n[plugin \"webhooks\"]\n\turl = x\n\
        [lockstep]\n\turl = http://127.0.0.1:1/\n[repository \"*\"]\n\tbasePath = /elsewhere\n\
        [cache]\n\tdirectory = /var/cache\n[index]\n\ttype = lucene\n[include]\n\tpath = /elsewhere\n";
    const SECURE: &str = "[accountPatchReviewDb]\n\turl = jdbc:x\n[sendemail]\n\tsmtpPass = y\n[auth]\n\tkey = z\n";

    #[test]
    fn the_copy_of_a_gerrit_keeps_what_was_chosen_and_leads_nowhere() {
        let home = tempfile::tempdir().unwrap();
        let (from, to) = (home.path().join("site"), home.path().join("copy"));
        for (path, text) in [
            ("etc/gerrit.config", CONFIG),
            ("etc/secure.config", SECURE),
            ("etc/ssh_host_key", "key"),
            ("lib/bridge.jar", "bridge"),
            ("lib/events.jar", "events"),
            ("plugins/webhooks.jar", "webhooks"),
            ("index/changes_0086/open/segments_1", "commit"),
            ("index/changes_0086/open/write.lock", ""),
            ("logs/error_log", "x"),
        ] {
            fs::create_dir_all(from.join(path).parent().unwrap()).unwrap();
            fs::write(from.join(path), text).unwrap();
        }
        let (base_path, socket) = (home.path().join("git"), home.path().join("api.sock"));
        let with = Overrides { base_path: &base_path, listen: "http://127.0.0.1:8099/", socket: &socket };
        let keep = [PathBuf::from("lib/bridge.jar")];
        copy_site(&from, &to, Way::Full, &keep, &with, &Stop::default()).unwrap();
        let names = |folder: &str| {
            let mut names: Vec<String> = fs::read_dir(to.join(folder))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        };
        assert_eq!((names("lib"), names("plugins"), names("logs")), (vec!["bridge.jar".to_owned()], vec![], vec![]));
        assert_eq!((names("etc").len(), names("index/changes_0086/open")), (3, vec!["segments_1".to_owned()]));
        let config = Config::open(&to.join("etc/gerrit.config")).unwrap();
        let text = |name: &str| config.get_string(name).ok();
        assert_eq!(text("gerrit.basepath"), Some(base_path.display().to_string()));
        assert_eq!(text("lockstep.socket"), Some(socket.display().to_string()));
        assert_eq!(text("sendemail.enable").as_deref(), Some("false"));
        assert_eq!(text("gerrit.serverid").as_deref(), Some("abc"));
        let gone =
            ["lockstep.url", "sendemail.smtpserver", "plugin.webhooks.url", "repository.*.basepath", "include.path"];
        assert_eq!(gone.map(text), [const { None }; 5]);
        assert_eq!(fs::read_to_string(to.join("etc/secure.config")).unwrap(), "[auth]\n\tkey = z\n");
        let missing =
            copy_site(&from, &home.path().join("again"), Way::Full, &["lib/x.jar".into()], &with, &Stop::default());
        assert!(missing.unwrap_err().to_string().contains("drill.silent.gerrit_keep"));
    }
}
