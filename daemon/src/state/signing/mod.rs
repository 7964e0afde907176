//! Signatures of this node's transactions, and the check of those of others.
//!
//! A site whose record in the refdb says `signed` opens an incarnation only with a key. So each of its incarnations
//! signs either all of its slots or none. While a site of the list is signed, a record of a stream counts only if its
//! signature verifies, or if the journal has the same bytes.
//!
//! The public keys are a document of the refdb. A node registers the key of its site before it opens an incarnation
//! with it, so no record is signed with a key that a strong read would not find. A reader that meets an unknown key
//! holds the record against the journal, and reads the keys again in the background.
//!
//! | file | content |
//! |---|---|
//! | `keys` | the document: registers keys, and notes which incarnation signs with which |
//! | `allowance` | how many records without a good signature are held against the journal per second |

mod allowance;
mod keys;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::keys::{KeyState, NodeSigning, SiteKey};
use lockstep_proto::transaction::signature::split;
use lockstep_proto::{KeyId, Pack, SiteId, Transaction, Version};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

pub use allowance::AllowanceLimits;
pub use keys::{KeyError, change_keys, read_keys};

use crate::base::clock::Clock;
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};
use crate::base::observer::Observer;
use crate::seams::refdb::{RefDb, RefDbError};
use crate::seams::signing::{SiteSigner, verifies};
use crate::state::bound_refdb::BoundRefdb;
use crate::state::site_roles::SiteRoles;
use allowance::Allowance;

/// The interval at which the keys are read although nobody asks.
const READ_EVERY: Duration = Duration::from_secs(30);
/// The shortest pause between two reads.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a record's signature does not show that its site made it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    /// The record has no signature.
    #[error("it has no signature")]
    Absent,
    /// The refdb has no such key, as far as this node has read it, or the key was dropped.
    #[error("its key {0} is not one of the keys that verify")]
    Unknown(KeyId),
    /// The key is of another site.
    #[error("its key {0} is not of its site")]
    OtherSite(KeyId),
    /// The signature is not over these bytes.
    #[error("its signature by key {0} does not fit its content")]
    Wrong(KeyId),
    /// The signature has another form.
    #[error("its signature cannot be read: {0}")]
    Malformed(String),
    /// The signature is good in another refdb: in one that was rebuilt from this one, or in another installation.
    #[error("it was committed in another refdb, {0}")]
    OtherRefdb(String),
}

/// The end of the look at a record without a good signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsigned {
    /// The journal has the same bytes, so it was applied.
    True,
    /// It moves nothing here, because its slot is done or collected, so it was let go.
    Repeated,
    /// The journal has something else, or nothing: it is forged or damaged.
    Forged,
    /// Too many came before it, or its writer ended. If its transaction was committed, the sweeper reads that from the
    /// journal.
    Unseen,
}

impl Unsigned {
    /// All ends of such a record.
    pub const ALL: [Self; 4] = [Self::True, Self::Repeated, Self::Forged, Self::Unseen];

    /// The name of the end, as metrics and the status API show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::Repeated => "repeated",
            Self::Forged => "forged",
            Self::Unseen => "unseen",
        }
    }
}

/// The signing of one node.
pub struct Signing {
    /// The key of this node's site. None if the node does not sign.
    own: Option<Arc<SiteSigner>>,
    site: SiteId,
    refdb: RefDb,
    bound: Arc<BoundRefdb>,
    roles: Arc<SiteRoles>,
    observer: Arc<dyn Observer>,
    clock: Arc<dyn Clock>,
    /// The keys that verify.
    known: Mutex<BTreeMap<KeyId, (SiteId, [u8; 32])>>,
    allowance: Mutex<Allowance>,
    ends: [AtomicU64; Unsigned::ALL.len()],
    read_now: Notify,
    bugs: InjectedBugs,
}

/// The handles of [`Signing`].
pub struct SigningParts {
    /// The key of this node's site. None if the node does not sign.
    pub own: Option<Arc<SiteSigner>>,
    /// The site of the node.
    pub site: SiteId,
    /// The refdb with the public keys.
    pub refdb: RefDb,
    /// The refdb of the node's volume, to which signatures are bound.
    pub bound: Arc<BoundRefdb>,
    /// Whether the sites' records must be signed.
    pub roles: Arc<SiteRoles>,
    /// Receives the ends of records without a good signature.
    pub observer: Arc<dyn Observer>,
    /// The wall clock, for people.
    pub clock: Arc<dyn Clock>,
    /// The bugs that a test has switched on.
    pub bugs: InjectedBugs,
}

impl Signing {
    /// Creates the signing of a node that knows no keys yet.
    #[must_use]
    pub fn new(parts: SigningParts) -> Arc<Self> {
        let SigningParts { own, site, refdb, bound, roles, observer, clock, bugs } = parts;
        let (known, allowance) = (Mutex::default(), Mutex::new(Allowance::new(AllowanceLimits::default())));
        let (ends, read_now) = (Default::default(), Notify::new());
        Arc::new(Self { own, site, refdb, bound, roles, observer, clock, known, allowance, ends, read_now, bugs })
    }

    /// The key with which this node signs.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        self.own.as_ref().map(|own| own.id())
    }

    /// Whether the records of streams must be signed.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.roles.is_signed() && !self.bugs.has(InjectedBug::RequirementIgnored)
    }

    /// Signs the bytes of a slot. Without a key they stay as they are.
    ///
    /// # Errors
    /// The node has a key and cannot sign: it must not commit.
    pub fn sign(&self, body: Bytes) -> Result<Bytes, &'static str> {
        let Some(own) = &self.own else { return Ok(body) };
        let refdb = self.bound.refdb().ok_or("the volume belongs to no refdb yet")?;
        let covered = self.covered(&body);
        let signature = own.sign(&refdb.id, &covered).ok_or("the key of this site made no signature")?;
        Ok(signature.append_to(&body))
    }

    /// Looks at the signature of a record of a stream. `site` is the site that the record names, if it can be read.
    ///
    /// # Errors
    /// The signature does not show that the site made the record.
    pub fn verify(&self, site: Option<&SiteId>, record: &[u8]) -> Result<(), NotSigned> {
        let (body, signature) = split(record).map_err(|error| NotSigned::Malformed(error.to_string()))?;
        let signature = signature.ok_or(NotSigned::Absent)?;
        let key = signature.key;
        let known = self.known.lock().get(&key).cloned();
        let Some((owner, public)) = known else {
            self.read_now.notify_one();
            return Err(NotSigned::Unknown(key));
        };
        if site.is_some_and(|site| *site != owner) {
            return Err(NotSigned::OtherSite(key));
        }
        if !verifies(&public, &self.covered(body), &signature) {
            return Err(NotSigned::Wrong(key));
        }
        match self.bound.refdb().is_some_and(|own| own.id == signature.refdb) {
            true => Ok(()),
            false => Err(NotSigned::OtherRefdb(signature.refdb)),
        }
    }

    /// The bytes that a signature covers: all of them, unless a bug is injected.
    fn covered<'a>(&self, body: &'a [u8]) -> std::borrow::Cow<'a, [u8]> {
        let (without_pack, without_versions) =
            (self.bugs.has(InjectedBug::PackNotSigned), self.bugs.has(InjectedBug::VersionsNotSigned));
        if !without_pack && !without_versions {
            return body.into();
        }
        let Ok(mut transaction) = Transaction::decode(body) else { return body.into() };
        if without_pack {
            transaction.pack = Pack::Empty;
        } else {
            for command in &mut transaction.commands {
                (command.version, command.predecessor, command.old) = (Version(1), None, command.new.clone());
            }
        }
        transaction.encode().to_vec().into()
    }

    /// Whether one more record without a good signature may be held against the journal now.
    #[must_use]
    pub fn may_look(&self) -> bool {
        self.allowance.lock().take()
    }

    /// Whether one more forged record may be kept in quarantine.
    #[must_use]
    pub fn may_keep(&self) -> bool {
        self.allowance.lock().keep()
    }

    /// Notes the forged records that are in quarantine at the start of the node.
    pub fn kept(&self, count: usize) {
        self.allowance.lock().kept(count);
    }

    /// Changes how many records are looked at and kept. For tests.
    pub fn limit(&self, limits: AllowanceLimits) {
        *self.allowance.lock() = Allowance::new(limits);
    }

    /// Counts the end of a record without a good signature.
    pub fn ended(&self, end: Unsigned) {
        if let Some(at) = Unsigned::ALL.iter().position(|one| *one == end) {
            self.ends[at].fetch_add(1, Ordering::Relaxed);
        }
        self.observer.unsigned(end.name());
    }

    /// The number of records without a good signature since the start of the process, per end.
    #[must_use]
    pub fn ends(&self) -> Vec<(Unsigned, u64)> {
        Unsigned::ALL.into_iter().zip(self.ends.iter().map(|end| end.load(Ordering::Relaxed))).collect()
    }

    /// The signing of this node, for people. None if it does not sign, and nobody must.
    #[must_use]
    pub fn status(&self) -> Option<NodeSigning> {
        let (key, required) = (self.key(), self.is_required());
        let unsigned = self.ends().into_iter().map(|(end, count)| (end.name().to_owned(), count)).collect();
        (key.is_some() || required).then_some(NodeSigning { key, required, unsigned })
    }

    /// Reads the keys from the refdb.
    ///
    /// # Errors
    /// The refdb did not answer, or the document cannot be read. The keys that were known stay.
    pub async fn read(&self) -> Result<(), RefDbError> {
        let (_, document) = read_keys(&self.refdb).await?;
        self.take(&document.keys);
        Ok(())
    }

    fn take(&self, keys: &[SiteKey]) {
        let verifying = keys.iter().filter(|key| key.state != KeyState::Dropped);
        let known = verifying.filter_map(|key| Some((key.id, (key.site.clone(), keys::public(key)?))));
        *self.known.lock() = known.collect();
    }

    /// Reads the keys periodically, and soon after an unknown one was met, until the task is aborted. While no site is
    /// signed, nothing is read.
    pub async fn run(self: Arc<Self>) {
        loop {
            sleep(PAUSE).await;
            let _ = timeout(READ_EVERY, self.read_now.notified()).await;
            if self.is_required()
                && let Err(error) = self.read().await
            {
                self.observer.failed("keys", &error);
            }
        }
    }
}

#[cfg(test)]
mod tests;
