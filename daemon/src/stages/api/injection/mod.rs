//! The webhook that adds the sidecar to pods of an operator, for clusters without a MutatingAdmissionPolicy.
//!
//! The API server of Kubernetes sends each new pod as an AdmissionReview to `POST /v1/pods`, over TLS, and applies the
//! patch that it gets. The answer depends on the review and on one file alone: this process holds no state, calls
//! nobody, and has no rights in the cluster. Everybody who reaches the listener may call it: an answer tells nothing
//! but the content of that file. `GET /livez` answers while this process serves.
//!
//! | file | idea |
//! |---|---|
//! | `patch` | the parts that a pod gets, and the patch that adds them |
//! | `review` | the questions of the API server, and their answers |

mod patch;
mod review;

pub use patch::{Injection, InjectionError};

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::addresses::{Addresses, Place};
use super::error::Failure;
use super::handshakes::{CallerAdmission, Handshakes};
use super::serve::{Bounds, serve_each};
use crate::seams::tls::{Caller, Callers, Credentials};
use review::Answer;

/// Most bytes of a review. An API server takes objects of up to 3 MiB, and adds little to them.
const MOST: usize = 4 << 20;
/// The longest time until a review has arrived. It is also the longest silence of a caller. An API server waits for 5
/// seconds: a place that a silent caller holds is free again before then.
const PATIENCE: Duration = Duration::from_secs(4);
/// Connections from one address at most. An API server sends each pod once, and has the answer in milliseconds.
const FROM_ONE_ADDRESS: usize = 16;
/// The bounds of the listener. A connection carries one request, so that none outlives a replaced certificate.
const BOUNDS: Bounds = Bounds { connections: 32, silence: PATIENCE, keep_alive: false };

/// A bound listener for the API server, which does not serve yet.
pub struct BoundWebhook {
    listener: TcpListener,
    injection: Arc<Injection>,
    credentials: Arc<Credentials>,
}

impl BoundWebhook {
    /// Binds the address.
    ///
    /// # Errors
    /// The operating system refuses the address.
    pub async fn bind(
        address: SocketAddr,
        injection: Injection,
        credentials: Arc<Credentials>,
    ) -> std::io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, injection: Arc::new(injection), credentials })
    }

    /// The address on which it listens, with the real port when port 0 was asked for.
    ///
    /// # Errors
    /// The operating system cannot tell the address.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` is cancelled and the requests in progress are answered. The certificate is read again
    /// meanwhile.
    pub async fn serve(self, shutdown: CancellationToken) {
        let watching = tokio::spawn(Arc::clone(&self.credentials).watch());
        let handshakes = Handshakes::start(self.listener, self.credentials, Everybody::default());
        let router = router(self.injection);
        // The place is free again when the connection ends, and its router with it.
        let for_caller = move |place: Arc<Place>| router.clone().layer(Extension(place));
        serve_each(handshakes, for_caller, BOUNDS, shutdown).await;
        watching.abort();
    }
}

/// An API server has no certificate here by default, so every caller is let in, within the bound of its address.
#[derive(Default)]
struct Everybody {
    addresses: Addresses,
}

impl CallerAdmission for Everybody {
    type Allowed = Arc<Place>;

    const CALLERS: Callers = Callers::Anyone;
    const LISTENER: &'static str = "inject serve --listen";

    fn admit(&self, _: &Caller, from: IpAddr) -> Result<Arc<Place>, Failure> {
        let full = || Failure::unavailable(format!("more than {FROM_ONE_ADDRESS} connections of {from}; try again"));
        self.addresses.enter(from, FROM_ONE_ADDRESS).map(Arc::new).ok_or_else(full)
    }
}

fn router(injection: Arc<Injection>) -> Router {
    Router::new().route("/livez", get(|| async { "ok\n" })).route("/v1/pods", post(pods)).with_state(injection)
}

/// Answers one review of the API server.
async fn pods(State(injection): State<Arc<Injection>>, request: Request) -> Result<Json<Answer>, Failure> {
    let read = axum::body::to_bytes(request.into_body(), MOST);
    let body = match timeout(PATIENCE, read).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => {
            let message = format!("the review was not read: {error}; a review has at most {MOST} bytes");
            return Err(Failure::malformed(message));
        }
        Err(_) => return Err(Failure::too_slow(PATIENCE)),
    };
    review::answer(&injection, &body).map(Json).map_err(|why| {
        tracing::warn!(%why, "a review was refused");
        Failure::malformed(why.to_string())
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;
    use futures::stream;
    use tower::ServiceExt;

    use super::*;
    use crate::stages::api::serve::converse;

    async fn ask(body: Body) -> StatusCode {
        let router = router(Arc::new(patch::example()));
        router.oneshot(Request::post("/v1/pods").body(body).unwrap()).await.unwrap().status()
    }

    #[tokio::test(start_paused = true)]
    async fn a_review_that_is_too_long_or_does_not_arrive_is_refused() {
        let numbers = (MOST, BOUNDS.connections, PATIENCE.as_secs());
        assert_eq!(numbers, (4_194_304, 32, 4), "docs/security.md has these numbers");
        assert_eq!(ask(Body::from(vec![b' '; MOST + 1])).await, StatusCode::BAD_REQUEST);
        let silence = stream::pending::<std::io::Result<Vec<u8>>>();
        assert_eq!(ask(Body::from_stream(silence)).await, StatusCode::REQUEST_TIMEOUT);
        let review = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u",
            "kind":{"group":"","version":"v1","kind":"Node"},"operation":"CREATE","object":{}}}"#;
        assert_eq!(ask(Body::from(review)).await, StatusCode::OK);
    }

    #[test]
    fn callers_of_one_address_leave_places_for_the_others() {
        let everybody = Everybody::default();
        let from = |number: u8| IpAddr::from([10, 0, 0, number]);
        let enter = || everybody.admit(&Caller::Unknown, from(1)).ok();
        let mut held: Vec<Arc<Place>> = (0..17).filter_map(|_| enter()).collect();
        assert_eq!(held.len(), 16, "docs/security.md has this number");
        assert!(held.len() < BOUNDS.connections);
        assert!(everybody.admit(&Caller::Unknown, from(2)).is_ok());
        drop(held.pop());
        assert!(enter().is_some(), "a connection has ended");
    }

    /// The place belongs to the connection, and not to the handshake before it.
    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_holds_its_place_until_it_is_cut() {
        let everybody = Everybody::default();
        let from = IpAddr::from([10, 0, 0, 1]);
        let places = (0..FROM_ONE_ADDRESS).map(|_| everybody.admit(&Caller::Unknown, from).unwrap());
        let mut callers = Vec::new();
        let mut connections = tokio::task::JoinSet::new();
        for place in places {
            let (caller, connection) = tokio::io::duplex(1_024);
            let router = router(Arc::new(patch::example())).layer(Extension(place));
            connections.spawn(converse(connection, router, BOUNDS, CancellationToken::new()));
            callers.push(caller);
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(everybody.admit(&Caller::Unknown, from).is_err());
        while connections.join_next().await.is_some() {}
        assert!(everybody.admit(&Caller::Unknown, from).is_ok());
    }
}
