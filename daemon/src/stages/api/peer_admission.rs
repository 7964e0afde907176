//! Decides who may call at the listener for peers.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Failure;
use super::handshakes::CallerAdmission;
use crate::seams::tls::{Caller, Callers, NamePattern};

/// A caller that an entry of `tls.allow` lets in.
pub(super) struct Allowed {
    /// The index of the entry.
    pub(super) entry: usize,
    /// The place of the connection among those of the entry.
    pub(super) place: Arc<OwnedSemaphorePermit>,
}

/// The entries of `tls.allow`, with the places of each.
pub(super) struct PeerAdmission {
    allow: Vec<(NamePattern, Arc<Semaphore>)>,
}

impl PeerAdmission {
    /// Lets in the names of `allow`. Each entry may have this number of connections.
    pub(super) fn new(allow: Vec<NamePattern>, connections: usize) -> Self {
        Self { allow: allow.into_iter().map(|entry| (entry, Arc::new(Semaphore::new(connections)))).collect() }
    }
}

impl CallerAdmission for PeerAdmission {
    type Allowed = Allowed;

    const CALLERS: Callers = Callers::Certified;
    const LISTENER: &'static str = "tls.listen";

    /// Lets a caller in, or says why not: no entry allows it, or its entry has too many connections.
    fn admit(&self, caller: &Caller, _: IpAddr) -> Result<Allowed, Failure> {
        let names = match caller {
            Caller::Certified(names) => names.as_slice(),
            Caller::Unknown => &[],
        };
        let allows = |(pattern, _): &(NamePattern, _)| names.iter().any(|name| pattern.matches(name));
        let Some(entry) = self.allow.iter().position(allows) else {
            return Err(Failure::not_allowed(names, "tls.allow"));
        };
        let (pattern, places) = &self.allow[entry];
        let full = |_| Failure::unavailable(format!("peers {pattern} have too many connections here"));
        let place = Arc::new(Arc::clone(places).try_acquire_owned().map_err(full)?);
        Ok(Allowed { entry, place })
    }
}
