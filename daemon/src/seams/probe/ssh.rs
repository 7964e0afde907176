//! SSH with a strict list of known hosts: the host must have a key that users know already.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use lockstep_proto::failover::ProbeResult;

use super::child::{Group, Run};
use super::{Probe, result};

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

#[async_trait]
impl Probe for SshProbe {
    async fn run(&self) -> Vec<ProbeResult> {
        let (options, port) = (self.key.options(), self.port.to_string());
        let mut args: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        args.extend(["-p", &port, &self.destination, "gerrit", "version"].map(OsStr::new));
        let run = Run { program: "ssh", args, envs: Vec::new(), limit: self.limit, group: Group::Own };
        vec![result("ssh", run.output().await.map(|_| ()))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
