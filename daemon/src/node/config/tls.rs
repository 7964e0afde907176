//! Reads the section `[tls]`: the certificate of the node, whom it trusts, and the listener for peers.

use figment::value::Value;

use super::fields::{address, folder, requests};
use super::raw::{self, Leaf};
use super::report::{Problems, scalar};
use super::settings::Tls;
use crate::seams::tls::{NamePattern, TlsFiles};
use crate::stages::api::peer_listener::{DEFAULT_REQUESTS_PER_PEER, PeerListenerSettings};

/// Reads the section. Returns `None` if it is not filled in, or if a field is wrong.
pub(super) fn read(raw: &raw::Tls, to: &mut Problems) -> Option<Tls> {
    let files = [
        ("tls.certificate_file", &raw.certificate_file),
        ("tls.key_file", &raw.key_file),
        ("tls.trust_file", &raw.trust_file),
    ];
    let others = [&raw.listen, &raw.allow, &raw.requests_per_peer];
    if files.iter().all(|(_, leaf)| leaf.is_none()) && others.iter().all(|leaf| leaf.is_none()) {
        return None;
    }
    let need = "[tls] needs it: name a file in PEM format; `lockstep certs` makes one";
    let [certificate, key, trust] = files.map(|(field, leaf)| to.need(field, leaf, need, folder));
    let listen = to.optional("tls.listen", &raw.listen, address);
    let allow = names("tls.allow", &raw.allow, PEERS, to);
    let requests = to.or("tls.requests_per_peer", &raw.requests_per_peer, DEFAULT_REQUESTS_PER_PEER, requests);
    if listen.is_some() && raw.allow.is_none() {
        to.wrong("tls.allow", &raw.allow, "tls.listen needs it: list the names of the peers that may ask this node");
    }
    let listener = listen.map(|address| PeerListenerSettings { address, allow, requests });
    Some(Tls { files: TlsFiles { certificate: certificate?, key: key?, trust: trust? }, listener })
}

const PEERS: &str =
    "list names in the certificates of peers: [\"spiffe://lockstep/muc-1/*\", \"gerrit-0.example.org\"]";

/// A list of names in certificates. `remedy` is the advice for a wrong one.
pub(super) fn names(field: &str, leaf: &Leaf, remedy: &str, to: &mut Problems) -> Vec<NamePattern> {
    let items = match leaf {
        None => return Vec::new(),
        Some(Value::Array(_, items)) => items.as_slice(),
        Some(_) => &[],
    };
    let names: Vec<NamePattern> = items.iter().filter_map(|item| scalar(item)?.parse().ok()).collect();
    if names.is_empty() || names.len() < items.len() {
        to.wrong(field, leaf, remedy);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::{EXAMPLE, parse};

    fn problem(section: &str) -> String {
        parse(&EXAMPLE.replacen("[tls]", &format!("[tls]\n{section}\n#"), 1))
            .map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn the_section_is_whole_or_empty() {
        let files = "certificate_file = \"/c\"\nkey_file = \"/k\"\ntrust_file = \"/t\"\n";
        assert_eq!(problem(""), "");
        assert_eq!(problem(&format!("{files}listen = \"0.0.0.0:7422\"\nallow = [\"spiffe://lockstep/muc-1/*\"]")), "");
        assert!(problem("key_file = \"/k\"").contains("tls.certificate_file"));
        assert!(problem(&format!("{files}listen = \"0.0.0.0:7422\"")).contains("tls.allow"));
        for allow in ["[]", "[\"*\"]", "\"a\"", "[\"a\", \"b c\"]"] {
            let text = problem(&format!("{files}listen = \"0.0.0.0:7422\"\nallow = {allow}"));
            assert!(text.contains("tls.allow"), "{allow}: {text}");
        }
    }
}
