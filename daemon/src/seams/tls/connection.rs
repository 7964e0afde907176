//! Both sides of a handshake. The caller bounds the time.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::client::ClientMaterial;
use super::expected::Expected;
use super::material::{Callers, Material, provider};
use super::name::PeerName;
use super::pem::describe;

/// A caller after its handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// It has a certificate of a trusted authority, with these names.
    Certified(Vec<PeerName>),
    /// It has presented no certificate.
    Unknown,
}

/// Answers a handshake, and says who the caller is.
///
/// # Errors
/// The caller speaks another protocol, or has no certificate of a trusted authority although `callers` demands one, or
/// has one of another authority.
pub async fn accept(
    material: &Material,
    callers: Callers,
    stream: TcpStream,
) -> io::Result<(server::TlsStream<TcpStream>, Caller)> {
    let config = match callers {
        Callers::Certified => &material.server,
        Callers::Anyone => &material.open_server,
    };
    let stream = TlsAcceptor::from(Arc::clone(config)).accept(stream).await?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let caller = leaf.map_or(Caller::Unknown, |leaf| {
        Caller::Certified(describe(leaf).map(|described| described.names).unwrap_or_default())
    });
    Ok((stream, caller))
}

/// Opens TLS to the server with the name `expected`, over a connection to `host`.
///
/// # Errors
/// The server is not trusted, has another name, or does not accept this client's certificate.
pub async fn connect(
    material: &ClientMaterial,
    host: &str,
    expected: PeerName,
    stream: TcpStream,
) -> io::Result<client::TlsStream<TcpStream>> {
    let host = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
    let verifier = Arc::new(Expected::new(expected, Arc::clone(&material.roots)));
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(io::Error::other)?
        .dangerous() // the builder's name for any verifier of one's own; this one checks chain and name
        .with_custom_certificate_verifier(verifier);
    let mut config = match &material.own {
        Some((chain, key)) => config.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(io::Error::other)?,
        None => config.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config)).connect(host, stream).await
}
