//! The listener for operators: TLS 1.3, every call of the API, and the console.
//!
//! A caller is an operator by a certificate of a trusted authority, with a name that the setting `operators.allow`
//! lists, or by a token of `operators.token_file`. The holder of a token may be a viewer, who makes the calls of
//! `LOOKS` alone, or an approver, who may make the one call of `APPROVAL` in addition. A peer is no operator: a
//! certificate with a name of `tls.allow` is refused, even if its holder sends a token. Callers without a certificate
//! are bounded by address and in all, so they keep no holder of a certificate out; a connection of theirs without a
//! request gives way to one that asks. A connection carries one request, so that neither a certificate nor a token
//! outlives its removal. Requests have bounds of their own: bridges and hooks that keep the node busy keep no operator
//! out.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Extension;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::admission::Admission;
use super::context::Api;
use super::error::Failure;
use super::handshakes::{CallerAdmission, Handshakes};
use super::operator_tokens::OperatorTokens;
use super::operators::{Approver, Operator};
use super::out_of_reach::User;
use super::places::{Place, Places};
use super::routes;
use super::serve::{Bounds, Served};
use crate::seams::tls::{Caller, Callers, Credentials, NamePattern, PeerName};
use crate::stages::ports::{Console, OperatorRole, TokenError, TokenHash, TokenHolder, TokenHolders};

/// Requests of operators in progress at most.
const REQUESTS: NonZeroUsize = NonZeroUsize::new(16).unwrap();
/// Connections at most: with a certificate, and without one.
const CONNECTIONS: usize = 64;
/// Connections without a certificate from one address at most.
const FROM_ONE_ADDRESS: usize = 16;
/// The longest time until the head of a request has arrived.
const SILENCE: Duration = Duration::from_secs(10);
/// Admission bounds both kinds of connections, so together they never reach this bound of connections.
const BOUNDS: Bounds = Bounds { connections: 2 * CONNECTIONS + 1, silence: SILENCE, keep_alive: false };

/// The calls of a viewer: those that show the state of the sites, and change nothing.
const LOOKS: [(&str, &str); 21] = [
    ("GET", "/v1/status"),
    ("GET", "/v1/parked"),
    ("GET", "/v1/quarantine"),
    ("GET", "/v1/peers"),
    ("GET", "/v1/sites"),
    ("GET", "/v1/overview"),
    ("GET", "/v1/history"),
    ("GET", "/v1/signing"),
    ("GET", "/v1/locks"),
    ("GET", "/v1/doctor"),
    ("GET", "/v1/resync"),
    ("GET", "/v1/replay"),
    ("GET", "/v1/verification"),
    ("GET", "/v1/drills"),
    ("GET", "/v1/drills/silent"),
    ("GET", "/v1/refdb/rebuild"),
    ("GET", "/v1/projects/{project}/strays"),
    ("GET", "/v1/openapi.json"),
    ("POST", "/v1/explain"),
    ("POST", "/v1/failover/plan"),
    ("POST", "/v1/preflight"),
];

/// The call by which an approver resumes a failover. Its handler refuses the other acts of an approver.
const APPROVAL: (&str, &str) = ("POST", "/v1/failover/acts");

/// The settings of the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorListenerSettings {
    /// The address to listen on.
    pub address: SocketAddr,
    /// The file with the tokens of operators. None if they have certificates alone.
    pub token_file: Option<PathBuf>,
    /// The names in certificates of operators.
    pub allow: Vec<NamePattern>,
    /// The names in certificates of peers, which are refused.
    pub peers: Vec<NamePattern>,
}

/// A bound listener that does not serve yet.
pub(super) struct BoundOperators {
    listener: TcpListener,
    settings: OperatorListenerSettings,
    /// A user who must not be able to write the file with the tokens.
    others: Option<User>,
    credentials: Arc<Credentials>,
}

impl BoundOperators {
    /// Binds the address. `others` must not be able to write the file with the tokens.
    pub(super) async fn bind(
        settings: OperatorListenerSettings,
        others: Option<User>,
        credentials: Arc<Credentials>,
    ) -> std::io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(settings.address).await?, settings, others, credentials })
    }

    /// The address on which it listens, with the real port when port 0 was asked for.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Splits into a listener of connections, a router for each caller, and the bounds of connections. The console is
    /// served only to holders of tokens.
    pub(super) fn into_parts(
        self,
        api: &Api,
        console: Option<&dyn Console>,
    ) -> (Handshakes<OperatorAdmission>, impl Fn(AdmittedCaller) -> Served + use<>, Bounds) {
        let OperatorListenerSettings { token_file, allow, peers, .. } = self.settings;
        let tokens = token_file.map(|path| OperatorTokens::at(path, self.others));
        let router = routes::router(Api { admission: Admission::new(REQUESTS), ..api.clone() });
        let router = router.layer(middleware::from_fn_with_state(tokens.clone(), identify));
        let pages = console.zip(tokens).map(|(console, tokens)| console.router(Arc::new(tokens)));
        let router = pages.into_iter().fold(router, |all, pages| all.merge(pages));
        let router = router.layer(middleware::from_fn(begins));
        let for_caller = move |caller: AdmittedCaller| {
            let gives_way = caller.place.as_ref().map(|place| place.gives_way()).unwrap_or_default();
            Served { router: router.clone().layer(Extension(caller)), gives_way }
        };
        (Handshakes::start(self.listener, self.credentials, OperatorAdmission::new(allow, peers)), for_caller, BOUNDS)
    }
}

/// A caller that has passed the handshake. It is an operator already, or may present a token.
#[derive(Clone)]
pub(super) struct AdmittedCaller {
    operator: Option<Operator>,
    /// The place of the connection, if it has a certificate.
    _certified: Option<Arc<OwnedSemaphorePermit>>,
    /// The place of the connection, if it has none.
    place: Option<Arc<Place>>,
}

/// The names of operators and of peers, and the places of connections.
pub(super) struct OperatorAdmission {
    allow: Vec<NamePattern>,
    peers: Vec<NamePattern>,
    certified: Arc<Semaphore>,
    unknown: Places,
}

impl OperatorAdmission {
    fn new(allow: Vec<NamePattern>, peers: Vec<NamePattern>) -> Self {
        let certified = Arc::new(Semaphore::new(CONNECTIONS));
        Self { allow, peers, certified, unknown: Places::new(FROM_ONE_ADDRESS, CONNECTIONS) }
    }

    /// The operator with these names in a certificate.
    fn operator(&self, names: &[PeerName]) -> Result<Operator, Failure> {
        let lists = |patterns: &[NamePattern], name: &PeerName| patterns.iter().any(|one| one.matches(name));
        if let Some(peer) = names.iter().find(|name| lists(&self.peers, name)) {
            return Err(Failure::peers_are_no_operators(peer));
        }
        let operator = names.iter().find(|name| lists(&self.allow, name));
        operator.cloned().map(Operator::Certificate).ok_or_else(|| Failure::not_allowed(names, "operators.allow"))
    }
}

impl CallerAdmission for OperatorAdmission {
    type Allowed = AdmittedCaller;

    const CALLERS: Callers = Callers::Anyone;
    const LISTENER: &'static str = "operators.listen";

    fn admit(&self, caller: &Caller, from: IpAddr) -> Result<AdmittedCaller, Failure> {
        match caller {
            Caller::Certified(names) => {
                let operator = Some(self.operator(names)?);
                let permit = Arc::clone(&self.certified).try_acquire_owned().map_err(|_| full())?;
                Ok(AdmittedCaller { operator, _certified: Some(Arc::new(permit)), place: None })
            }
            Caller::Unknown => {
                let place = self.unknown.enter(from).ok_or_else(full)?;
                Ok(AdmittedCaller { operator: None, _certified: None, place: Some(Arc::new(place)) })
            }
        }
    }
}

fn full() -> Failure {
    Failure::unavailable("too many connections to the listener for operators; nothing was changed; try again")
}

/// Notes that a connection has a request, so that it gives way no more. One that gave way just now gets nothing.
async fn begins(
    Extension(caller): Extension<AdmittedCaller>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    match caller.place.as_ref().is_none_or(|place| place.begins()) {
        true => Ok(next.run(request).await),
        false => Err(full()),
    }
}

#[async_trait]
impl TokenHolders for OperatorTokens {
    async fn holder(&self, hash: &TokenHash) -> Result<TokenHolder, TokenError> {
        match self.find(*hash).await {
            Ok(Some((holder, role))) => {
                let (name, actor) = (holder.to_string(), Operator::Token(holder).to_string());
                Ok(TokenHolder { name, actor, role })
            }
            Ok(None) => Err(TokenError::Unknown),
            Err(_) => Err(TokenError::Unusable),
        }
    }
}

/// Passes a request on with the identity of its operator, that of a viewer if it is a look, and that of an approver if
/// it is a look or an approval. Answers 401 to everybody else.
async fn identify(
    State(tokens): State<Option<OperatorTokens>>,
    Extension(caller): Extension<AdmittedCaller>,
    mut request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let operator = match (caller.operator, tokens) {
        (Some(operator), _) => operator,
        (None, Some(tokens)) => {
            let (holder, role) = tokens.holder(request.headers()).await?;
            match role {
                OperatorRole::Operator => Operator::Token(holder),
                OperatorRole::Viewer | OperatorRole::Approver if is_one_of(&LOOKS, &request) => {
                    return Ok(next.run(request).await);
                }
                OperatorRole::Viewer => return Err(Failure::viewers_only_look()),
                OperatorRole::Approver if is_one_of(&[APPROVAL], &request) => {
                    request.extensions_mut().insert(Approver(holder));
                    return Ok(next.run(request).await);
                }
                OperatorRole::Approver => return Err(Failure::approvers_only_approve()),
            }
        }
        (None, None) => {
            let message = "this listener is for operators: present a certificate that operators.allow lists";
            return Err(Failure::unauthorized(message));
        }
    };
    request.extensions_mut().insert(operator);
    Ok(next.run(request).await)
}

/// Whether a request is one of some calls.
fn is_one_of(calls: &[(&str, &str)], request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    calls.iter().any(|(method, call)| request.method().as_str() == *method && path == Some(*call))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use tokio::io::AsyncReadExt;
    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::stages::api::serve::converse;

    #[test]
    fn callers_without_a_certificate_have_16_places_per_address_and_64_in_all() {
        let admission = OperatorAdmission::new(vec!["spiffe://lockstep/operator/*".parse().unwrap()], Vec::new());
        let from = |number: u8| IpAddr::from([10, 0, 0, number]);
        let enter = |number: u8| -> Vec<AdmittedCaller> {
            (0..17).filter_map(|_| admission.admit(&Caller::Unknown, from(number)).ok()).collect()
        };
        let begin =
            |callers: &Vec<AdmittedCaller>| callers.iter().flat_map(|one| &one.place).all(|place| place.begins());
        let mut held: Vec<Vec<AdmittedCaller>> = (0..4).map(enter).collect();
        // The seventeenth connection of each took the place of the first, which has no request.
        for callers in &mut held {
            assert_eq!(callers.len(), 17);
            drop(callers.remove(0));
        }
        assert!(held.iter().all(begin));
        assert!(admission.admit(&Caller::Unknown, from(9)).is_err(), "64 places are taken");
        let alice = Caller::Certified(vec!["spiffe://lockstep/operator/alice".parse().unwrap()]);
        assert!(admission.admit(&alice, from(0)).is_ok());
        drop(held.pop());
        assert!(admission.admit(&Caller::Unknown, from(9)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_sends_nothing_is_cut_after_ten_seconds() {
        let (mut caller, connection) = tokio::io::duplex(1_024);
        let began = Instant::now();
        tokio::spawn(converse(connection, Router::new(), BOUNDS, CancellationToken::new()));
        let _ = caller.read_to_end(&mut Vec::new()).await;
        assert_eq!(began.elapsed().as_secs(), 10);
    }
}
