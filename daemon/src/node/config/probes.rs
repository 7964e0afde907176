//! Reads the section `[probes]`: how users reach this site, so that a failover ends its clock when they can.

use std::path::PathBuf;
use std::time::Duration;

use super::fields::{folder, http_url, time};
use super::raw::{self, Leaf};
use super::report::Problems;
use super::settings::Probes;
use crate::seams::probe::Login;
use crate::seams::probe::ssh::SshKey;

/// The longest time of one command of a probe. A child process holds the volume's lock for as long.
const LONGEST: Duration = Duration::from_secs(10);
/// The port of Gerrit's SSH server.
const GERRIT_SSH: u16 = 29_418;

/// Checks the section, and builds the settings of the probes.
pub(super) fn read(raw: &raw::Probes, to: &mut Problems) -> Probes {
    let login = login(raw, to);
    let session = session(raw, to);
    let git = to.optional("probes.git", &raw.git, git_url);
    let ssh = to.optional("probes.ssh", &raw.ssh, destination);
    let key = key(raw, to);
    let needs_key = ssh.is_some() || git.as_ref().is_some_and(|url| url.starts_with("ssh://"));
    if needs_key && key.is_none() {
        let leaf = if raw.ssh.is_some() { ("probes.ssh", &raw.ssh) } else { ("probes.git", &raw.git) };
        to.wrong(leaf.0, leaf.1, "SSH needs probes.key_file and probes.known_hosts_file: set both");
    }
    Probes {
        git,
        email: to.or("probes.email", &raw.email, "probe@localhost".to_owned(), address),
        rest: to.optional("probes.rest", &raw.rest, page_url),
        session,
        ssh,
        login,
        key,
        timeout: to.or("probes.timeout", &raw.timeout, Duration::from_secs(5), bounded),
        interval: to.or("probes.interval", &raw.interval, Duration::from_millis(200), time),
    }
}

fn login(raw: &raw::Probes, to: &mut Problems) -> Option<Login> {
    let user = to.optional("probes.user", &raw.user, name);
    let password_file = to.optional("probes.password_file", &raw.password_file, folder);
    both("probes.user", &raw.user, "probes.password_file", &raw.password_file, to);
    let (user, password_file) = user.zip(password_file)?;
    Some(Login { user, password_file })
}

fn session(raw: &raw::Probes, to: &mut Problems) -> Option<(String, PathBuf)> {
    let page = to.optional("probes.session", &raw.session, page_url);
    let file = to.optional("probes.session_file", &raw.session_file, folder);
    both("probes.session", &raw.session, "probes.session_file", &raw.session_file, to);
    page.zip(file)
}

fn key(raw: &raw::Probes, to: &mut Problems) -> Option<SshKey> {
    let key_file = to.optional("probes.key_file", &raw.key_file, folder);
    let known_hosts_file = to.optional("probes.known_hosts_file", &raw.known_hosts_file, folder);
    both("probes.key_file", &raw.key_file, "probes.known_hosts_file", &raw.known_hosts_file, to);
    let (key_file, known_hosts_file) = key_file.zip(known_hosts_file)?;
    Some(SshKey { key_file, known_hosts_file })
}

/// Reports a field that is set without the other one.
fn both(one: &str, first: &Leaf, other: &str, second: &Leaf, to: &mut Problems) {
    match (first, second) {
        (Some(_), None) => to.wrong(one, first, format!("it needs {other}: set that too, or remove this")),
        (None, Some(_)) => to.wrong(other, second, format!("it needs {one}: set that too, or remove this")),
        (Some(_), Some(_)) | (None, None) => {}
    }
}

fn bounded(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    let most = format!("write at most {LONGEST:?}: a probe that hangs would delay the next start of this sidecar");
    if time <= LONGEST { Ok(time) } else { Err(most) }
}

fn name(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.len() <= 128 && !text.chars().any(|one| one == ':' || one.is_control());
    if fits { Ok(text.to_owned()) } else { Err("write a user name of 1 to 128 bytes, without ':'".to_owned()) }
}

/// An e-mail address, as git writes it between angle brackets.
fn address(text: &str) -> Result<String, String> {
    let is_odd = |one: char| one.is_whitespace() || one.is_control() || "<>".contains(one);
    let fits = text.contains('@') && text.len() <= 254 && !text.chars().any(is_odd);
    if fits { Ok(text.to_owned()) } else { Err("write an e-mail address such as probe@example.org".to_owned()) }
}

/// A URL of git. One that begins with a dash would be an option.
fn git_url(text: &str) -> Result<String, String> {
    let is_url = ["http://", "https://", "ssh://"].iter().any(|scheme| text.starts_with(scheme));
    let fits = (is_url || text.starts_with('/')) && !text.contains(char::is_whitespace);
    let remedy = "write https://host/project, ssh://user@host:29418/project, or the path of a repository";
    if fits { without_password(text) } else { Err(remedy.to_owned()) }
}

/// A page. Its user and password are not part of the URL.
fn page_url(text: &str) -> Result<String, String> {
    http_url(text).and_then(|text| without_password(&text))
}

/// Refuses a URL with a password: it would be in the arguments of git, and in the reason of a red probe.
fn without_password(text: &str) -> Result<String, String> {
    let authority = text.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(rest));
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    match user.is_some_and(|user| user.contains(':')) {
        true => Err("write no password into the URL; set probes.user and probes.password_file".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// `user@host` and the port.
fn destination(text: &str) -> Result<(String, u16), String> {
    let remedy = || "write user@host:29418".to_owned();
    let (destination, port) = match text.rsplit_once(':') {
        Some((destination, port)) => (destination, port.parse().map_err(|_| remedy())?),
        None => (text, GERRIT_SSH),
    };
    let fits = |one: char| one.is_ascii_alphanumeric() || "-._".contains(one);
    let parts = destination.split_once('@').filter(|(user, host)| {
        [user, host].iter().all(|part| !part.is_empty() && !part.starts_with('-') && part.chars().all(fits))
    });
    parts.map(|_| (destination.to_owned(), port)).ok_or_else(remedy)
}

#[cfg(test)]
mod tests {
    use super::super::{EXAMPLE, parse};
    use super::*;

    fn with(section: &str) -> Result<Probes, String> {
        let text = EXAMPLE.replace("[probes]", "[probes]\n").replace("[probes]\n", &format!("[probes]\n{section}\n#"));
        parse(&text).map(|settings| settings.probes).map_err(|error| error.to_string())
    }

    #[test]
    fn a_section_without_settings_probes_nothing_outside() {
        let none = with("").unwrap();
        assert_eq!((none.git, none.rest, none.session, none.ssh), (None, None, None, None));
        assert_eq!(none.email, "probe@localhost");
    }

    #[test]
    fn ssh_needs_a_key_and_known_hosts_and_a_user_needs_a_password() {
        let keys = "key_file = \"/k\"\nknown_hosts_file = \"/h\"";
        let all = with(&format!("ssh = \"probe@gerrit.example.org\"\n{keys}")).unwrap();
        assert_eq!(all.ssh, Some(("probe@gerrit.example.org".to_owned(), GERRIT_SSH)));
        for (section, part) in [
            ("git = \"ssh://p@h:29418/probe\"", "probes.git = \"ssh://p@h:29418/probe\": SSH needs probes.key_file"),
            ("key_file = \"/k\"", "it needs probes.known_hosts_file"),
            ("user = \"probe\"", "it needs probes.password_file"),
            ("ssh = \"-oProxyCommand=x@h\"", "write user@host:29418"),
            ("git = \"--upload-pack=x\"", "write https://host/project"),
            ("git = \"https://probe:secret@h/probe\"", "set probes.user and probes.password_file"),
            ("rest = \"https://probe:secret@h/\"", "set probes.user and probes.password_file"),
            ("timeout = \"11s\"", "write at most 10s"),
            ("session_file = \"/s\"", "it needs probes.session"),
            ("session = \"https://h/accounts/self/detail\"", "it needs probes.session_file"),
            ("email = \"probe <p@h>\"", "write an e-mail address"),
        ] {
            let error = with(section).unwrap_err();
            assert!(error.contains(part), "{section}: {error}");
        }
    }

    #[test]
    fn a_drill_may_name_a_site_that_joined_later_and_comes_at_most_every_minute() {
        let with = |section: &str| {
            let text = EXAMPLE.replace("[drill] ", &format!("[drill]\n{section}\n#"));
            parse(&text).map(|settings| settings.drill).map_err(|error| error.to_string())
        };
        assert_eq!(with("").unwrap().every, None);
        let daily = with("every = \"1d\"\nto = \"muc-1\"").unwrap();
        assert_eq!((daily.every, daily.to), (Some(Duration::from_secs(86_400)), Some("muc-1".parse().unwrap())));
        assert!(with("every = \"10s\"").unwrap_err().contains("write at least 60s"));
        let joined = with("to = \"muc-2\"").unwrap().to;
        assert_eq!(joined, Some("muc-2".parse().unwrap()), "`lockstep site add` has added it");
        assert!(with("to = \"muc_2\"").unwrap_err().contains("drill.to = \"muc_2\": "));
    }
}
