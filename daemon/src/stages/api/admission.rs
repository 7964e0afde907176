//! Bounds the number of requests in progress. Excess requests are rejected at once, before their body is read. The
//! answer says that nothing was changed and that a retry helps.
//!
//! There are seven separate bounds. *Work* is changes, questions to the refdb, and packs for peers. *Looks* are status
//! and lists: operators can read them while all slots for work are busy. *Waits* are the long polls of a bridge, which
//! keep nothing busy and must not keep work out. *Large bodies* are batches of very many refs: few at a time, because
//! each may take the memory of a thousand others. *Fetches* are work in which a git of its own packs for the caller:
//! few at a time, because each may take a core. *Awaits* are calls that wait for a transaction: a crowd of CI jobs must
//! not keep a bridge from waiting. *Follows* are calls of siblings that wait for records of a stream: there is one per
//! sibling and shard. A permit for work is held until the work has ended, even when its caller hung up long before.

use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Failure;

/// The most looks at the same time. It is small, because each may read everything that is parked.
const LOOKS: usize = 8;

/// The most waits at the same time. A Gerrit makes a few such calls, and an earlier process of it may have left some.
const WAITS: usize = 32;

/// The most requests with a large body at the same time.
const LARGE: usize = 2;

/// The most fetches of git at the same time.
const FETCHES: usize = 4;

/// The most calls that wait for a transaction at the same time.
const AWAITS: usize = 64;

/// The most calls of siblings that wait for records at the same time. Further siblings read the stream.
pub(super) const FOLLOWS: usize = 256;

/// The seven bounds of one sidecar, in the order of the permits' kinds.
#[derive(Clone, Debug)]
pub(super) struct Admission(Arc<[Bound; 7]>);

/// The permits of one kind, and the message of the refusal when there is none left.
#[derive(Debug)]
struct Bound {
    permits: Arc<Semaphore>,
    full: String,
}

/// The permit of a request: it takes one of a bound's slots until it is dropped. `KIND` is the index of the bound.
pub(super) struct Permit<const KIND: usize> {
    _permit: OwnedSemaphorePermit,
}

/// The permit of a request that is work.
pub(super) type Work = Permit<0>;

/// The permit of a request that reads status or lists.
pub(super) type Look = Permit<1>;

/// The permit of a request that waits for refresh tasks or stream events, or reports on refresh tasks.
pub(super) type Wait = Permit<2>;

/// The permit of a body, which is held until its work has ended: none for a body of ordinary size.
pub(super) type Large = Option<Permit<3>>;

/// The permit of a fetch of git, which is held until its answer is sent.
pub(super) type Fetch = Permit<4>;

/// The permit of a request that waits for a transaction.
pub(super) type Await = Permit<5>;

/// The permit of a sibling that waits for records of a stream.
pub(super) type Follow = Permit<6>;

impl Admission {
    /// Admits at most `most` requests for work at the same time.
    pub(super) fn new(most: NonZeroUsize) -> Self {
        let bound = |most: usize, full| Bound { permits: Arc::new(Semaphore::new(most)), full };
        let work = format!("this sidecar already works on {most} requests (setting api.most_requests)");
        let fetches = format!("this sidecar already answers {FETCHES} fetches of git; try again");
        let large = format!("this sidecar already works on {LARGE} very large batches; nothing was changed, try again");
        Self(Arc::new([
            bound(most.get().min(Semaphore::MAX_PERMITS), format!("{work}; nothing was changed")),
            bound(LOOKS, format!("this sidecar already answers {LOOKS} status calls; try again")),
            bound(WAITS, format!("{WAITS} calls already wait at this sidecar; try again")),
            bound(LARGE, large),
            bound(FETCHES, fetches),
            bound(AWAITS, format!("{AWAITS} calls already wait for transactions at this sidecar; try again")),
            bound(FOLLOWS, format!("{FOLLOWS} calls already wait for records at this sidecar: read the stream")),
        ]))
    }

    /// Takes the permit of a body.
    pub(super) fn body(&self, is_large: bool) -> Result<Large, Failure> {
        is_large.then(|| self.take()).transpose()
    }

    fn take<const KIND: usize>(&self) -> Result<Permit<KIND>, Failure> {
        let Bound { permits, full } = &self.0[KIND];
        let permit = Arc::clone(permits).try_acquire_owned().map_err(|_| Failure::unavailable(full))?;
        Ok(Permit { _permit: permit })
    }
}

impl<S, const KIND: usize> FromRequestParts<S> for Permit<KIND>
where
    S: Send + Sync,
    Admission: FromRef<S>,
{
    type Rejection = Failure;

    async fn from_request_parts(_: &mut Parts, state: &S) -> Result<Self, Failure> {
        Admission::from_ref(state).take()
    }
}
