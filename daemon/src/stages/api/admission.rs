//! Bounds the number of requests in progress. Excess requests are rejected at once, before their body is read. The
//! answer says that nothing was changed and that a retry helps.
//!
//! There are four separate bounds. *Work* is changes, questions to the refdb, and packs for peers. *Looks* are status
//! and lists: operators can read them while all slots for work are busy. *Waits* are the long polls of a bridge, which
//! keep nothing busy and must not keep work out. *Large bodies* are batches of very many refs: few at a time, because
//! each may take the memory of a thousand others. A permit for work is held until the work has ended, even when its
//! caller hung up long before.

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

/// The bounds of one sidecar.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    most: NonZeroUsize,
    work: Arc<Semaphore>,
    looks: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// The permit of a request that is work.
pub(super) struct Work {
    _permit: OwnedSemaphorePermit,
}

/// The permit of a request that reads status or lists.
pub(super) struct Look {
    _permit: OwnedSemaphorePermit,
}

/// The permit of a body: none for a body of ordinary size.
pub(super) struct Large {
    _permit: Option<OwnedSemaphorePermit>,
}

/// The permit of a request that waits for refresh tasks or stream events, or reports on refresh tasks.
pub(super) struct Wait {
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    /// Admits at most `most` requests for work at the same time.
    pub(super) fn new(most: NonZeroUsize) -> Self {
        let work = Arc::new(Semaphore::new(most.get().min(Semaphore::MAX_PERMITS)));
        let [looks, waits, large] = [LOOKS, WAITS, LARGE].map(|most| Arc::new(Semaphore::new(most)));
        Self { most, work, looks, waits, large }
    }

    /// Takes the permit of a body, which is held until its work has ended.
    pub(super) fn body(&self, is_large: bool) -> Result<Large, Failure> {
        let full =
            || format!("this sidecar already works on {LARGE} very large batches; nothing was changed, try again");
        let permit = is_large.then(|| take(Arc::clone(&self.large), full)).transpose()?;
        Ok(Large { _permit: permit })
    }
}

/// Takes a permit. `full` is the message of the refusal when there is none left.
fn take(permits: Arc<Semaphore>, full: impl FnOnce() -> String) -> Result<OwnedSemaphorePermit, Failure> {
    permits.try_acquire_owned().map_err(|_| Failure::unavailable(full()))
}

impl<S> FromRequestParts<S> for Work
where
    S: Send + Sync,
    Admission: FromRef<S>,
{
    type Rejection = Failure;

    async fn from_request_parts(_: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Admission { most, work, .. } = Admission::from_ref(state);
        let full = || {
            format!("this sidecar already works on {most} requests (setting api.most_requests); nothing was changed")
        };
        Ok(Self { _permit: take(work, full)? })
    }
}

impl<S> FromRequestParts<S> for Look
where
    S: Send + Sync,
    Admission: FromRef<S>,
{
    type Rejection = Failure;

    async fn from_request_parts(_: &mut Parts, state: &S) -> Result<Self, Failure> {
        let full = || format!("this sidecar already answers {LOOKS} status calls; try again");
        Ok(Self { _permit: take(Admission::from_ref(state).looks, full)? })
    }
}

impl<S> FromRequestParts<S> for Wait
where
    S: Send + Sync,
    Admission: FromRef<S>,
{
    type Rejection = Failure;

    async fn from_request_parts(_: &mut Parts, state: &S) -> Result<Self, Failure> {
        let full = || format!("{WAITS} calls already wait at this sidecar; try again");
        Ok(Self { _permit: take(Admission::from_ref(state).waits, full)? })
    }
}
