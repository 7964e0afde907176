//! Reads the section `[peers]`: other nodes' sidecars, and how each is reached.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lockstep_proto::NodeId;

use super::fields::{folder, url_address};
use super::raw::{self, Leaf, Raw};
use super::report::{Problems, path, scalar};
use super::settings::{Api, Peer};
use crate::seams::tls::{PeerName, PeerNameError};

/// Reads all peers. The section with the name of this node is checked and left out, so that all replicas of a site can
/// share one file.
pub(super) fn read(raw: &Raw, node: Option<&NodeId>, api: &Api, to: &mut Problems) -> BTreeMap<String, Peer> {
    itself(raw, node, api, to);
    let with_tls = raw.tls.certificate_file.is_some();
    let all = raw.peers.iter().filter_map(|(name, raw)| Some((name.clone(), peer(name, raw, with_tls, to)?)));
    all.filter(|(name, _)| !is_itself(name, node)).collect()
}

fn is_itself(name: &str, node: Option<&NodeId>) -> bool {
    node.is_some_and(|node| node.as_str() == name)
}

/// Refuses a peer that has another name, but the socket or the address of the node itself: it has no objects that the
/// node lacks.
fn itself(raw: &Raw, node: Option<&NodeId>, api: &Api, to: &mut Problems) {
    const REMEDY: &str = "this is the node itself, and a peer must be another node: remove it, or correct it";
    for (name, peer) in raw.peers.iter().filter(|(name, _)| !is_itself(name, node)) {
        let section = format!("peers.{name}");
        let text = |leaf: &Leaf| leaf.as_ref().and_then(scalar);
        if text(&peer.socket).is_some_and(|socket| api.socket.as_os_str() == socket.as_str()) {
            to.wrong(&path(&section, "socket"), &peer.socket, REMEDY);
        }
        let own = api.tcp.as_ref().map(|(address, _)| *address);
        let named = text(&peer.url).and_then(|url| url_address("http", &url));
        let named = named.and_then(|address| address.replace("localhost", "127.0.0.1").parse::<SocketAddr>().ok());
        if own.is_some() && own == named {
            to.wrong(&path(&section, "url"), &peer.url, REMEDY);
        }
    }
}

/// The URL of a peer, by its scheme.
enum Url {
    /// The local end of a tunnel to the peer's `api.listen`.
    Tunnel(String),
    /// The peer's listener for mutual TLS.
    Tls(String),
}

fn url(text: &str) -> Result<Url, String> {
    let tunnel = || url_address("http", text).map(Url::Tunnel);
    url_address("https", text).map(Url::Tls).or_else(tunnel).ok_or_else(|| {
        "write https://host:port of the peer's tls.listen, or http://host:port of the local end of a tunnel".to_owned()
    })
}

/// The name that a certificate has.
fn certified(text: &str) -> Result<PeerName, String> {
    text.parse().map_err(|error: PeerNameError| error.to_string())
}

/// Reads one peer: a socket, or the URL of a tunnel with a token file, or the URL of a listener for mutual TLS.
fn peer(name: &str, raw: &raw::Peer, with_tls: bool, to: &mut Problems) -> Option<Peer> {
    let section = format!("peers.{name}");
    let field = |name: &str| path(&section, name);
    let socket = to.optional(&field("socket"), &raw.socket, folder);
    let url = to.optional(&field("url"), &raw.url, url);
    let token_file = to.optional(&field("token_file"), &raw.token_file, folder);
    let identity = to.optional(&field("identity"), &raw.identity, certified);
    match (socket, url) {
        (Some(socket), None) if raw.url.is_none() => Some(Peer::Socket(socket)),
        (None, Some(Url::Tunnel(address))) => {
            if raw.token_file.is_none() {
                let remedy = "an http url needs it: name a file with a token of the peer";
                to.wrong(&field("token_file"), &raw.token_file, remedy);
            }
            token_file.map(|file| Peer::Tcp(address, file))
        }
        (None, Some(Url::Tls(address))) => {
            if !with_tls {
                to.wrong(&field("url"), &raw.url, "an https url needs a certificate of this node: fill in [tls]");
            }
            if raw.token_file.is_some() {
                let remedy = "an https url needs no token, because the certificates tell who both sides are: remove it";
                to.wrong(&field("token_file"), &raw.token_file, remedy);
            }
            let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
            let host = host.trim_matches(['[', ']']).parse().ok();
            if identity.is_none() && host.is_none() {
                let remedy = "the host of url is no name that a certificate can have: name the peer here";
                to.wrong(&field("identity"), &raw.identity, remedy);
            }
            Some(Peer::Tls { address, identity: identity.or(host)? })
        }
        _ => {
            if raw.socket.is_some() == raw.url.is_some() {
                to.wrong(&field("url"), &raw.url, "write either url or socket");
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EXAMPLE, parse};

    /// The example with other text in place of the section of its peer, and with these lines in `[tls]`.
    fn example(peer: &str, tls: &str) -> String {
        let (before, after) = EXAMPLE.split_once("[peers.muc-1]").unwrap();
        let (_, after) = after.split_once("[embedded]").unwrap();
        let before = before.replacen("[tls]", &format!("[tls]\n{tls}#"), 1);
        format!("{before}[peers.muc-1]\n{peer}[embedded]{after}")
    }

    #[test]
    fn an_https_peer_needs_a_certificate_and_no_token() {
        let tls = "certificate_file = \"/c\"\nkey_file = \"/k\"\ntrust_file = \"/t\"\n";
        let peer = "url = \"https://muc-1.example.org:7422\"\n";
        assert!(parse(&example(peer, tls)).is_ok());
        let error = parse(&example(peer, "")).unwrap_err().to_string();
        assert!(error.contains("peers.muc-1.url") && error.contains("[tls]"), "{error}");
        let error = parse(&example(&format!("{peer}token_file = \"/x\"\n"), tls)).unwrap_err().to_string();
        assert!(error.contains("peers.muc-1.token_file"), "{error}");
        let error = parse(&example(&format!("{peer}identity = \"spiffe://\"\n"), tls)).unwrap_err().to_string();
        assert!(error.contains("peers.muc-1.identity"), "{error}");
    }
}
