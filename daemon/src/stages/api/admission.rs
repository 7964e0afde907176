//! How much is taken at the same time. What comes above a bound is sent away at once, before its body is read, with an
//! answer that says that nothing happened and that a retry helps.
//!
//! Work (changes, questions to the refdb, packs for peers), looks (status, lists) and waits (a bridge's calls for news, which
//! are busy with nothing) have bounds of their own: whoever looks for the reason of a jam must not stand in it, and who waits
//! must not make one. A permit belongs to the work, not to its caller: it is held
//! until the work has ended, though the caller hung up long ago.

use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Failure;
use super::routes::Api;

/// Looks at the same time: each may read all of what is parked.
const LOOKS: usize = 8;

/// Waiting at the same time: a Gerrit has a few such calls, and an earlier process of it may have left some.
const WAITS: usize = 32;

/// The bounds of one sidecar.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    most: NonZeroUsize,
    work: Arc<Semaphore>,
    looks: Arc<Semaphore>,
    waits: Arc<Semaphore>,
}

/// The permit of a request that is work.
pub(super) struct Work {
    _permit: OwnedSemaphorePermit,
}

/// The permit of a request that only looks.
pub(super) struct Look {
    _permit: OwnedSemaphorePermit,
}

/// The permit of a request that waits for news, or answers to some.
pub(super) struct Wait {
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    /// Lets in at most `most` requests that are work.
    pub(super) fn new(most: NonZeroUsize) -> Self {
        let work = Arc::new(Semaphore::new(most.get().min(Semaphore::MAX_PERMITS)));
        Self { most, work, looks: Arc::new(Semaphore::new(LOOKS)), waits: Arc::new(Semaphore::new(WAITS)) }
    }
}

impl FromRequestParts<Api> for Work {
    type Rejection = Failure;

    async fn from_request_parts(_: &mut Parts, api: &Api) -> Result<Self, Failure> {
        let Admission { most, work, .. } = &api.admission;
        Arc::clone(work).try_acquire_owned().map(|_permit| Self { _permit }).map_err(|_| {
            Failure::unavailable(format!(
                "this sidecar works on {most} requests already (setting api.most_requests); nothing was changed"
            ))
        })
    }
}

impl FromRequestParts<Api> for Look {
    type Rejection = Failure;

    async fn from_request_parts(_: &mut Parts, api: &Api) -> Result<Self, Failure> {
        let looks = Arc::clone(&api.admission.looks).try_acquire_owned();
        looks
            .map(|_permit| Self { _permit })
            .map_err(|_| Failure::unavailable(format!("{LOOKS} others look at this sidecar already")))
    }
}

impl FromRequestParts<Api> for Wait {
    type Rejection = Failure;

    async fn from_request_parts(_: &mut Parts, api: &Api) -> Result<Self, Failure> {
        let waits = Arc::clone(&api.admission.waits).try_acquire_owned();
        waits
            .map(|_permit| Self { _permit })
            .map_err(|_| Failure::unavailable(format!("{WAITS} others wait at this sidecar already")))
    }
}
