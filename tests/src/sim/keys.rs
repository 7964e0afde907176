//! The keys of the sites, and signatures that an attacker has.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use lockstep::seams::signing::SiteSigner;
use lockstep_proto::transaction::signature::split;
use lockstep_proto::{NodeId, SiteId};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// The keys with which the nodes sign from their next start on.
#[derive(Debug)]
pub struct Keys {
    /// Whether a node has the first key of its site unless it was given another one.
    signs: bool,
    given: Mutex<BTreeMap<NodeId, Option<u8>>>,
}

impl Keys {
    /// No keys, or the first key of each site.
    #[must_use]
    pub fn new(signs: bool) -> Self {
        Self { signs, given: Mutex::default() }
    }

    /// Gives a node a key of its site by number, or none, from its next start on.
    pub fn give(&self, node: &NodeId, number: Option<u8>) {
        self.given.lock().insert(node.clone(), number);
    }

    /// The key of a node.
    #[must_use]
    pub fn signer(&self, node: &NodeId, site: &SiteId) -> Option<Arc<SiteSigner>> {
        let number = self.given.lock().get(node).copied().unwrap_or(self.signs.then_some(0))?;
        key_of(site, number)
    }
}

/// A key of a site, by number.
#[must_use]
pub fn key_of(site: &SiteId, number: u8) -> Option<Arc<SiteSigner>> {
    let seed: [u8; 32] = Sha256::digest(format!("{site}/{number}")).into();
    SiteSigner::from_seed(&seed).map(Arc::new)
}

/// The same record with the signature of another one, as somebody writes it who has read the streams.
#[must_use]
pub fn with_signature_of(record: &[u8], other: &[u8]) -> Bytes {
    match split(other) {
        Ok((_, Some(signature))) => signature.append_to(record),
        Ok((_, None)) | Err(_) => Bytes::copy_from_slice(record),
    }
}

/// A record without its signature.
#[must_use]
pub fn stripped(record: &[u8]) -> Bytes {
    split(record).map_or_else(|_| Bytes::copy_from_slice(record), |(body, _)| Bytes::copy_from_slice(body))
}
