//! The means of all pages: the stages that they show, the sessions, and the bounds on the number of requests in
//! progress and on the time of an answer.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::bridge::ApiError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::denied::Denied;
use super::provider::Oidc;
use super::sessions::Sessions;
use super::trend::Trend;
use crate::base::clock::{Clock, Entropy};
use crate::stages::ports::{Handshake, Inspection, Operators, TokenHolders};

/// How long a page waits for the refdb, or for this node's store, until it says that there is no answer.
const ANSWER: Duration = Duration::from_secs(8);
/// Requests of visitors in progress at most. Each may read everything that is parked, or ask every site.
pub(super) const REQUESTS: usize = 8;
/// How long a request waits for others to end, when that many are in progress.
const TURN: Duration = Duration::from_secs(5);
/// How long a page waits for a change. The change goes on.
const CHANGE: Duration = Duration::from_secs(30);

/// The state that all handlers share.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) operators: Arc<dyn Operators>,
    pub(super) inspection: Arc<dyn Inspection>,
    pub(super) handshake: Arc<dyn Handshake>,
    pub(super) holders: Arc<dyn TokenHolders>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) trend: Arc<Trend>,
    /// The provider of logins, if there is one.
    pub(super) oidc: Option<Arc<Oidc>>,
    /// The permits of requests in progress.
    pub(super) room: Arc<Semaphore>,
    /// Whether an operator may change something.
    pub(super) changes: bool,
}

impl Context {
    /// A new random text of 256 bits.
    pub(super) fn secret(&self) -> String {
        (0..4).map(|_| format!("{:016x}", self.entropy.next())).collect()
    }

    /// The permit of a request of a visitor who is logged in. Requests beyond the bound wait for their turn.
    pub(super) async fn permit(&self) -> Result<OwnedSemaphorePermit, Denied> {
        let turn = timeout(TURN, Arc::clone(&self.room).acquire_owned()).await;
        turn.ok().and_then(Result::ok).ok_or(Denied::Busy)
    }
}

/// The answer of a look, or an error if there is none in time.
pub(super) async fn look<T>(work: impl Future<Output = Result<T, ApiError>> + Send) -> Result<T, ApiError> {
    let late = |_| Err(ApiError::unavailable(format!("no answer within {} s", ANSWER.as_secs())));
    timeout(ANSWER, work).await.unwrap_or_else(late)
}

/// The answer of a change, which goes on if the visitor hangs up or waits no longer. Without an answer it is unknown
/// whether the change is made.
pub(super) async fn change<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    match timeout(CHANGE, tokio::spawn(work)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => {
            tracing::error!(error = %panic, "the task of a change panicked; the outcome of the change is unknown");
            Err(ApiError::unavailable("the task of the change failed, so its outcome is unknown: look at the state"))
        }
        Err(_) => Err(ApiError::unavailable(format!("no answer within {} s; the change goes on", CHANGE.as_secs()))),
    }
}
