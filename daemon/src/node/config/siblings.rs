//! Reads the section `[siblings]`: how the other nodes of this site are reached, whichever nodes these are.

use lockstep_proto::NodeId;

use super::fields::url_address;
use super::raw::Raw;
use super::report::Problems;
use super::settings::{Peer, SiblingsAt};

/// The remedy for a URL that leads to no listener, or to the same one for all nodes.
const URL: &str = "write https://host:port of the nodes' tls.listen, with {node} for the name of the node: \
                   \"https://{node}.gerrit-muc-1.gerrit.svc:7422\"";
/// The remedy for an identity that no certificate can have.
const IDENTITY: &str = "write a SPIFFE id or a host name, with {node} for the name of the node if each node has a \
                        certificate of its own: \"spiffe://lockstep/muc-1/{node}\"";

/// Reads the section. Returns `None` if it is not filled in, or if a field is wrong.
pub(super) fn read(raw: &Raw, to: &mut Problems) -> Option<SiblingsAt> {
    let of = &raw.siblings;
    if of.url.is_none() && of.identity.is_some() {
        to.wrong("siblings.url", &of.url, "siblings.identity needs it: write https://{node}.host:port");
    }
    let address = to.optional("siblings.url", &of.url, address)?;
    if raw.tls.certificate_file.is_none() {
        to.wrong("siblings.url", &of.url, "it needs a certificate of this node: fill in [tls]");
    }
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
    let named = match &of.identity {
        Some(_) => to.optional("siblings.identity", &of.identity, identity),
        None => identity(host).map_err(|why| to.wrong("siblings.identity", &of.identity, why)).ok(),
    };
    Some(SiblingsAt { identity: named?, address })
}

/// A name that a node can have, to try a pattern with.
fn example() -> Result<NodeId, String> {
    "muc-1-0".parse::<NodeId>().map_err(|error| error.to_string())
}

/// `host:port` of the URL, with `{node}` in it.
fn address(text: &str) -> Result<String, String> {
    let refused = || URL.to_owned();
    let node = example()?;
    let found = url_address("https", &text.replace(SiblingsAt::NODE, node.as_str())).ok_or_else(refused)?;
    // A part behind the port would be dropped silently.
    let pattern = text.strip_prefix("https://").map(|rest| rest.trim_end_matches('/')).ok_or_else(refused)?;
    let at = SiblingsAt { address: pattern.to_owned(), identity: "host".to_owned() };
    let is_pattern = pattern.contains(SiblingsAt::NODE) && at.address(&node) == found;
    if is_pattern { Ok(at.address) } else { Err(refused()) }
}

/// The identity, with `{node}` in it or without.
fn identity(text: &str) -> Result<String, String> {
    let at = SiblingsAt { address: String::new(), identity: text.to_owned() };
    let fits = matches!(at.peer(&example()?), Some(Peer::Tls { .. }));
    if fits { Ok(at.identity) } else { Err(IDENTITY.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    const URL: &str = "url = \"https://{node}.gerrit-a.gerrit.svc:7422\"\n";
    const TLS: &str = "[tls]\ncertificate_file = \"/c\"\nkey_file = \"/k\"\ntrust_file = \"/t\"\n";

    fn read(tls: &str, section: &str) -> Result<Option<SiblingsAt>, String> {
        let text = format!(
            "site = \"a\"\nnode = \"a-0\"\nsites = [\"a\"]\nroot = \"/git\"\nstate = \"/git/.lockstep\"\n[blobs]\n\
             url = \"file:///blobs\"\n{tls}[siblings]\n{section}"
        );
        parse(&text).map(|settings| settings.siblings).map_err(|error| error.to_string())
    }

    fn way(section: &str, node: &str) -> (String, String) {
        let at = read(TLS, section).unwrap().unwrap();
        match at.peer(&node.parse().unwrap()) {
            Some(Peer::Tls { address, identity }) => (address, identity.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_node_has_an_address_and_a_name_of_its_own() {
        let address = "gerrit-a-2.gerrit-a.gerrit.svc:7422".to_owned();
        let host = "gerrit-a-2.gerrit-a.gerrit.svc".to_owned();
        assert_eq!(way(URL, "gerrit-a-2"), (address.clone(), host));
        let each = format!("{URL}identity = \"spiffe://lockstep/a/{{node}}\"\n");
        assert_eq!(way(&each, "gerrit-a-2"), (address.clone(), "spiffe://lockstep/a/gerrit-a-2".to_owned()));
        let all = format!("{URL}identity = \"spiffe://lockstep/a/gerrit-a\"\n");
        assert_eq!(way(&all, "gerrit-a-2"), (address, "spiffe://lockstep/a/gerrit-a".to_owned()));
        assert_eq!(read(TLS, ""), Ok(None));
    }

    #[test]
    fn a_pattern_that_reaches_no_node_is_refused_by_its_field() {
        for wrong in [
            "url = \"https://gerrit-a.gerrit.svc:7422\"\n",
            "url = \"https://{node}.gerrit.svc\"\n",
            "url = \"http://{node}.gerrit.svc:7422\"\n",
            "url = \"https://{node}.gerrit.svc:7422/path\"\n",
            "url = \"https://{pod}.{node}.svc:7422\"\n",
        ] {
            let error = read(TLS, wrong).unwrap_err();
            assert!(error.contains("siblings.url = ") && error.contains("{node}"), "{wrong}{error}");
        }
        let without = read("", URL).unwrap_err();
        assert!(without.contains("siblings.url") && without.contains("fill in [tls]"), "{without}");
        let error = read(TLS, &format!("{URL}identity = \"spiffe://lockstep//{{node}}\"\n")).unwrap_err();
        assert!(error.contains("siblings.identity"), "{error}");
        let error = read(TLS, "identity = \"spiffe://lockstep/a/{node}\"\n").unwrap_err();
        assert!(error.contains("siblings.url is not set"), "{error}");
        let error = read(TLS, &format!("{URL}identify = \"a\"\n")).unwrap_err();
        assert!(error.contains("did you mean siblings.identity?"), "{error}");
    }
}
