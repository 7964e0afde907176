//! The listener for peers: mutual TLS, and a short list of calls.
//!
//! A caller needs a certificate of a trusted authority, with a name that the setting `tls.allow` lists. It may fetch
//! objects, also with git, read the version map and its digests, have this node catch up with refs, take records of the
//! streams that this node reads for its site, and ask how far a ref has come here, which node this is, and which
//! settings it shares with all others. It cannot commit, change roles, or read status. Each entry of `tls.allow` has
//! bounds of its own on connections and requests, so that no peer keeps the others out. A connection carries one
//! request, so that a certificate that is trusted no more ends with the request in progress.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::extract::OriginalUri;
use axum::http::Method;
use axum::routing::{get, post};
use axum::{Extension, Router};
use tokio::net::TcpListener;

use super::admission::{Admission, FOLLOWS};
use super::context::Api;
use super::error::Failure;
use super::handshakes::Handshakes;
use super::peer_admission::{Allowed, PeerAdmission};
use super::serve::{Bounds, SILENCE};
use super::{doctor, fetches, objects, peers, rebuild};
use crate::seams::tls::{Credentials, NamePattern};

/// The default bound on the requests in progress of one entry of `tls.allow`.
pub const DEFAULT_REQUESTS_PER_PEER: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// Connections of one entry of `tls.allow` in addition to one per request in progress, and one per call that waits for
/// records. An excess request needs a connection too, to receive its rejection.
const SPARE_CONNECTIONS: usize = 16;

/// The settings of the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerListenerSettings {
    /// The address to listen on.
    pub address: SocketAddr,
    /// The names that may call.
    pub allow: Vec<NamePattern>,
    /// The bound on the requests in progress of one entry of `allow`.
    pub requests: NonZeroUsize,
}

/// A bound listener that does not serve yet.
pub(super) struct BoundPeers {
    listener: TcpListener,
    settings: PeerListenerSettings,
    credentials: Arc<Credentials>,
}

impl BoundPeers {
    /// Binds the address of the settings.
    pub(super) async fn bind(settings: PeerListenerSettings, credentials: Arc<Credentials>) -> std::io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(settings.address).await?, settings, credentials })
    }

    /// The address on which it listens, with the real port when port 0 was asked for.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Splits into a listener of authenticated connections, a router for each caller, and the bounds of connections.
    pub(super) fn into_parts(
        self,
        api: &Api,
    ) -> (Handshakes<PeerAdmission>, impl Fn(Allowed) -> Router + use<>, Bounds) {
        let requests = self.settings.requests;
        let for_entry = |_: &NamePattern| router(Api { admission: Admission::new(requests), ..api.clone() });
        let routers: Vec<Router> = self.settings.allow.iter().map(for_entry).collect();
        let each = requests.get().saturating_add(SPARE_CONNECTIONS + FOLLOWS);
        // The admission bounds the connections of each entry, so all of them together never reach this bound.
        let connections = each.saturating_mul(routers.len()).saturating_add(1);
        let router = move |caller: Allowed| routers[caller.entry].clone().layer(Extension(caller.place));
        let listener =
            Handshakes::start(self.listener, self.credentials, PeerAdmission::new(self.settings.allow, each));
        (listener, router, Bounds { connections, silence: SILENCE, keep_alive: false })
    }
}

/// The calls of peers.
fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/projects/{project}/objects", post(objects::objects))
        .route("/v1/projects/{project}/git/info/refs", get(fetches::info_refs))
        .route("/v1/projects/{project}/git/git-upload-pack", post(fetches::upload_pack))
        .route("/v1/peer", get(peers::answer))
        .route("/v1/peer/versions", post(rebuild::versions))
        .route("/v1/peer/digests", post(peers::digests))
        .route("/v1/peer/refs", post(peers::refs))
        .route("/v1/peer/explain", post(peers::ref_here))
        .route("/v1/peer/records", post(peers::records))
        .route("/v1/peer/settings", get(doctor::shared_settings))
        .fallback(|method: Method, OriginalUri(uri): OriginalUri| async move {
            Failure::not_for_peers(method.as_str(), uri.path())
        })
        .with_state(api)
}
