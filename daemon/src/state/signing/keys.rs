//! The document of the refdb with the public keys of the sites.

use lockstep_proto::keys::{KeyState, MOST_KEYS, SiteKey, SiteKeys};
use lockstep_proto::{IncarnationId, KeyId, SiteId};

use super::Signing;
use crate::seams::refdb::{Document, RefDb, RefDbError, StoredDocument};
use crate::seams::signing::{SiteSigner, key_id};

const KEYS: StoredDocument<SiteKeys> = StoredDocument::json(Document::Keys);

/// How often a write is tried again when somebody else has replaced the document meanwhile.
const TRIES: usize = 16;

/// Why a node may not sign with its key, or a key was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The refdb did not answer, or refused the call.
    #[error(transparent)]
    RefDb(#[from] RefDbError),
    /// The records of the site must be signed, and the node has no key.
    #[error("records must be signed: set signing.key_file to the key of this site, and restart this node")]
    NoKey,
    /// The key is not valid any more.
    #[error("key {0} of signing.key_file was {1}: give this node another key of its site, and restart it")]
    NotValid(KeyId, &'static str),
    /// The key is registered for another site.
    #[error("key {0} of signing.key_file is the key of site {1}: give each site a key of its own")]
    OtherSite(KeyId, SiteId),
    /// The document has no room for another key.
    #[error("the refdb has {MOST_KEYS} keys that are not dropped: drop some with `lockstep keys drop`")]
    TooMany,
}

/// The public key, as bytes. None if the text is no key of this name.
pub(super) fn public(key: &SiteKey) -> Option<[u8; 32]> {
    let mut public = [0; 32];
    hex::decode_to_slice(&key.public, &mut public).ok()?;
    (key_id(&public) == key.id).then_some(public)
}

/// Reads the keys, with the revision of their document.
///
/// # Errors
/// The refdb did not answer, or the document cannot be read. Never take this for "no keys".
pub async fn read_keys(refdb: &RefDb) -> Result<(u64, SiteKeys), RefDbError> {
    Ok(KEYS.read(refdb.documents.as_ref()).await?.unwrap_or_default())
}

/// Changes the keys as `change` says, again if somebody else has changed them meanwhile. Returns the keys afterwards.
///
/// # Errors
/// Those of `change`, or the refdb did not answer: then the keys may be changed.
pub async fn change_keys<E: From<RefDbError>>(
    refdb: &RefDb,
    change: impl Fn(&mut SiteKeys) -> Result<(), E>,
) -> Result<SiteKeys, E> {
    KEYS.change(refdb.documents.as_ref(), TRIES, |keys| {
        let before = keys.clone();
        change(keys)?;
        Ok::<bool, E>(*keys != before)
    })
    .await
}

impl Signing {
    /// Registers the key of this site, if the node has one, and notes that an incarnation will sign with it. Called
    /// before the incarnation is opened. `known` are the incarnations of this node that are not forgotten.
    ///
    /// # Errors
    /// The node must not open the incarnation.
    pub async fn register(&self, incarnation: &IncarnationId, known: &[IncarnationId]) -> Result<(), KeyError> {
        let Some(own) = &self.own else {
            return if self.roles.is_signed() { Err(KeyError::NoKey) } else { Ok(()) };
        };
        let change = |keys: &mut SiteKeys| {
            self.enter(own, keys)?;
            keys.keys.iter_mut().for_each(|key| note_use(key, own.id(), incarnation, known));
            Ok(())
        };
        let keys = change_keys::<KeyError>(&self.refdb, change).await?;
        self.take(&keys.keys);
        Ok(())
    }

    /// Enters the key of this site, unless it is there.
    fn enter(&self, own: &SiteSigner, keys: &mut SiteKeys) -> Result<(), KeyError> {
        let id = own.id();
        match keys.keys.iter().find(|key| key.id == id) {
            Some(key) if key.site != self.site => return Err(KeyError::OtherSite(id, key.site.clone())),
            Some(key) if key.state != KeyState::Valid => return Err(KeyError::NotValid(id, key.state.name())),
            Some(_) => return Ok(()),
            None => {}
        }
        if keys.keys.len() >= MOST_KEYS {
            let oldest = keys.keys.iter().position(|key| key.state == KeyState::Dropped);
            keys.keys.remove(oldest.ok_or(KeyError::TooMany)?);
        }
        keys.keys.push(SiteKey {
            id,
            site: self.site.clone(),
            public: hex::encode(own.public()),
            added_ms: self.clock.now_ms(),
            state: KeyState::Valid,
            used_by: Vec::new(),
            changed: String::new(),
        });
        Ok(())
    }
}

/// Notes at a key that an incarnation signs with it, if it is that key. Forgets the earlier incarnations of the same
/// node whose journal is collected.
fn note_use(key: &mut SiteKey, own: KeyId, incarnation: &IncarnationId, known: &[IncarnationId]) {
    let is_gone =
        |one: &IncarnationId| one.node == incarnation.node && one.number < incarnation.number && !known.contains(one);
    key.used_by.retain(|one| !is_gone(one) && one != incarnation);
    if key.id == own {
        key.used_by.push(incarnation.clone());
    }
}
