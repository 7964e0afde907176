//! The secrets that are known at this node: the contents of the files that the configuration names, and the values of
//! variables of the environment. They are looked for by their value, wherever they stand.

use std::path::Path;

use super::redact::is_secret;
use crate::node::config::Settings;
use crate::node::config::settings::{GerritRefresh, Peer};

/// The largest file of a secret that is read, in bytes.
const MOST_BYTES: u64 = 64 * 1024;
/// The shortest word of a key or of a hash that counts as a secret.
const WORD: usize = 16;

/// The secrets of a configuration and of the environment. A file that cannot be read has none for this program, and
/// its content is in nothing that this program can read.
pub(super) fn known(settings: Option<&Settings>, environment: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let values = environment.filter(|(name, _)| is_secret(name)).map(|(_, value)| value);
    let mut found: Vec<String> = values.collect();
    let Some(settings) = settings else { return found };
    found.extend(settings.handover.webhook.as_deref().and_then(path_of));
    lines_of(settings).into_iter().for_each(|path| found.extend(text(path).lines().map(|one| one.trim().to_owned())));
    for path in words_of(settings) {
        let text = text(path);
        let words = text.split_whitespace().filter(|word| word.len() >= WORD && !word.starts_with("-----"));
        found.extend(words.map(str::to_owned));
    }
    found
}

/// The path of a webhook with its query. Services that know no bearer token have their secret in it.
fn path_of(url: &str) -> Option<String> {
    let uri = url.parse::<http::Uri>().ok()?;
    uri.path_and_query().map(|path| path.as_str().to_owned()).filter(|path| path.len() >= WORD)
}

/// The files of which each line is a secret.
fn lines_of(settings: &Settings) -> Vec<&Path> {
    let mut files: Vec<&Path> = Vec::new();
    files.extend(settings.api.tcp.as_ref().map(|(_, file)| file.as_path()));
    files.extend(settings.handover.token_file.as_deref());
    files.extend(settings.probes.login.as_ref().map(|login| login.password_file.as_path()));
    files.extend(settings.probes.session.as_ref().map(|(_, file)| file.as_path()));
    if let GerritRefresh::Rest(rest) = &settings.gerrit.refresh {
        files.push(&rest.password_file);
    }
    for peer in settings.peers.values() {
        if let Peer::Tcp(_, file) = peer {
            files.push(file);
        }
    }
    files
}

/// The files of which each long word is a secret: keys, and hashes of tokens.
fn words_of(settings: &Settings) -> Vec<&Path> {
    let mut files: Vec<&Path> = Vec::new();
    files.extend(settings.tls.as_ref().map(|tls| tls.files.key.as_path()));
    files.extend(settings.signing_key.as_deref());
    files.extend(settings.operators.as_ref().and_then(|operators| operators.token_file.as_deref()));
    let oidc = settings.console.as_ref().and_then(|console| console.oidc.as_ref());
    files.extend(oidc.and_then(|login| login.provider.client_secret_file.as_deref()));
    files.extend(settings.probes.key.as_ref().map(|key| key.key_file.as_path()));
    files
}

fn text(path: &Path) -> String {
    match std::fs::metadata(path) {
        Ok(found) if found.len() <= MOST_BYTES => std::fs::read_to_string(path).unwrap_or_default(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::config;

    #[test]
    fn files_of_the_configuration_and_variables_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (token, peer) = (path("token", "one-token\n\ntwo-token\n"), path("peer", "peer-token\n"));
        let key = path("key", "-----BEGIN\u{20}PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n");
        let text = format!(
            "site = \"a\"\nnode = \"a-0\"\nsites = [\"a\"]\nroot = \"/git\"\nstate = \"/git/.lockstep\"\n[blobs]\n\
             url = \"file:///blobs\"\n[handover]\n\
             webhook = \"https://h/services/T0/s3cr3t-path\"\ntoken_file = \"{token}\"\n[signing]\n\
             key_file = \"{key}\"\n[peers.b-0]\nurl = \"http://localhost:7420\"\ntoken_file = \"{peer}\"\n"
        );
        let settings = config::parse(&text).unwrap_or_else(|error| panic!("{error}"));
        let variables =
            [("AWS_SECRET_ACCESS_KEY", "s3cr3t"), ("LOCKSTEP_OPERATOR_TOKEN_FILE", "/path"), ("HOME", "/h")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let known = known(Some(&settings), variables.into_iter());
        for secret in
            ["one-token", "two-token", "peer-token", "MIGHAgEAMBMGByqGSM49", "s3cr3t", "/services/T0/s3cr3t-path"]
        {
            assert!(known.iter().any(|one| one == secret), "{secret}: {known:?}");
        }
        assert!(!known.iter().any(|one| one == "/path" || one == "/h"), "{known:?}");
    }
}
