//! SSH with a strict list of known hosts: the host must have a key that users know already.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::failover::ProbeResult;

use super::child::{Group, Run};
use super::{Probe, ProbeError, result};

/// The key of the probe's user, and the hosts that it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshKey {
    /// The file with the private key.
    pub key_file: PathBuf,
    /// The file with the known hosts. A host that is not in it is refused.
    pub known_hosts_file: PathBuf,
}

impl SshKey {
    /// The options of `ssh`, without anything from the machine's own configuration.
    fn options(&self) -> Vec<String> {
        let option = |text: String| ["-o".to_owned(), text];
        let fixed = [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "GlobalKnownHostsFile=/dev/null",
            "UpdateHostKeys=no",
            "IdentitiesOnly=yes",
        ];
        let mut options = vec!["-F".to_owned(), "none".to_owned()];
        options.extend(fixed.into_iter().flat_map(|text| option(text.to_owned())));
        options.extend(option(format!("UserKnownHostsFile={}", self.known_hosts_file.display())));
        options.extend(option(format!("IdentityFile={}", self.key_file.display())));
        options
    }

    /// The command for git, which a shell reads.
    pub(super) fn git_command(&self) -> String {
        let quoted = |word: String| format!("'{}'", word.replace('\'', "'\\''"));
        let words: Vec<String> = self.options().into_iter().map(quoted).collect();
        format!("ssh {}", words.join(" "))
    }
}

/// Runs `gerrit version` at a host.
pub struct SshProbe {
    /// `user@host`.
    pub destination: String,
    /// The port of the SSH server.
    pub port: u16,
    /// The key of the user, and the known hosts.
    pub key: SshKey,
    /// The bound of one run.
    pub limit: Duration,
}

impl SshProbe {
    /// Asks for the version, with these variables in the environment of `ssh`.
    async fn version(&self, envs: Vec<(&str, String)>) -> Result<(), ProbeError> {
        let (options, port) = (self.key.options(), self.port.to_string());
        let mut args: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        args.extend(["-p", &port, &self.destination, "gerrit", "version"].map(OsStr::new));
        let run = Run { program: "ssh", args, envs, limit: self.limit, group: Group::Own };
        run.output().await.map(|_| ())
    }
}

#[async_trait]
impl Probe for SshProbe {
    async fn run(&self) -> Vec<ProbeResult> {
        vec![result("ssh", self.version(Vec::new()).await)]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    /// The arguments with which `ssh` must begin for [`key`].
    pub(in super::super) const STRICT: [&str; 16] = [
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "GlobalKnownHostsFile=/dev/null",
        "-o",
        "UpdateHostKeys=no",
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "UserKnownHostsFile=/k/known_hosts",
        "-o",
        "IdentityFile=/k/it's",
    ];

    pub(in super::super) fn key() -> SshKey {
        SshKey { key_file: "/k/it's".into(), known_hosts_file: "/k/known_hosts".into() }
    }

    /// Puts a program `ssh` into a folder, which notes its arguments and fails. Answers a `PATH` on which it is first.
    pub(in super::super) fn noting(folder: &Path) -> String {
        let (program, folder) = (folder.join("ssh"), folder.display());
        let script = format!("#!/bin/sh\nprintf '%s\\n' \"$@\" > '{folder}/args'\necho noted >&2\nexit 1\n");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        format!("{folder}:{}", std::env::var("PATH").unwrap())
    }

    /// The arguments that it has noted.
    pub(in super::super) fn noted(folder: &Path) -> Vec<String> {
        std::fs::read_to_string(folder.join("args")).unwrap().lines().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn the_probe_by_ssh_takes_only_hosts_that_it_knows() {
        let folder = tempfile::tempdir().unwrap();
        let (destination, limit) = ("probe@host".to_owned(), Duration::from_secs(20));
        let probe = SshProbe { destination, port: 29418, key: key(), limit };
        let red = probe.version(vec![("PATH", noting(folder.path()))]).await.unwrap_err().to_string();
        assert!(red.contains("noted"), "{red}");
        let args = noted(folder.path());
        assert_eq!(args, [&STRICT[..], &["-p", "29418", "probe@host", "gerrit", "version"]].concat());
    }

    #[test]
    fn unknown_hosts_are_refused_and_paths_are_quoted_for_git() {
        let key = SshKey { key_file: "/k/it's".into(), known_hosts_file: "/k/known hosts".into() };
        let command = key.git_command();
        for part in ["'StrictHostKeyChecking=yes'", "'UserKnownHostsFile=/k/known hosts'", r"'IdentityFile=/k/it'\''s'"]
        {
            assert!(command.contains(part), "{command}");
        }
    }
}
