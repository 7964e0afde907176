//! The operators' requests about signed records: the sites that must sign, and their keys.
//!
//! Records must be signed once every site of the list says so. Each site's record changes in one write, which raises
//! its epoch: the nodes of the site end their incarnations, and open new ones that sign from their first slot. A
//! repetition goes on where an earlier request ended.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::bridge::ApiError;
use lockstep_proto::keys::{
    ChangeKeyRequest, KeyState, RequireSigningRequest, SignedSite, SigningStatus, SiteKey, SiteKeys,
};
use lockstep_proto::{IncarnationId, NodeId, SiteId};

use super::desk::OperatorDesk;
use super::digests;
use super::refusals::{given, invalid, refused, unanswered};
use super::view::View;
use crate::seams::refdb::{RefDbError, SiteRecord};
use crate::state::signing::{change_keys, read_keys};

/// The most nodes that an answer names.
const NAMED: usize = 20;

/// Why a key was not changed.
enum NotChanged {
    RefDb(RefDbError),
    Refused(String),
    Unknown,
}

impl From<RefDbError> for NotChanged {
    fn from(error: RefDbError) -> Self {
        Self::RefDb(error)
    }
}

impl OperatorDesk {
    pub(super) async fn signing_status(&self) -> Result<SigningStatus, ApiError> {
        let view = self.view().await?;
        let (_, keys) = read_keys(&self.refdb).await.map_err(unanswered)?;
        let signed =
            |site: &SiteRecord| SignedSite { site: site.site.clone(), required: site.signed, epoch: site.epoch };
        Ok(SigningStatus {
            sites: view.sites.iter().map(signed).collect(),
            unsigned_nodes: self.do_not_sign(&view, &keys).await?,
            keys: keys.keys,
        })
    }

    /// Requires signatures at every site of the list, or no longer requires them.
    pub(super) async fn require(&self, actor: &str, request: RequireSigningRequest) -> Result<SigningStatus, ApiError> {
        given("reason", &request.reason)?;
        let (failover, view) = self.without_failover().await?;
        if request.required {
            self.all_can_sign(&view).await?;
        }
        let what = if request.required { "signatures are required" } else { "signatures are not required any more" };
        tracing::warn!(actor, reason = request.reason, "an operator decides: {what}");
        for site in view.sites.iter().filter(|site| site.signed != request.required) {
            let to = SiteRecord { signed: request.required, epoch: site.epoch + 1, ..site.clone() };
            let entry = self.site_change(actor, &format!("{what}: {}", request.reason), Some(site), &to);
            self.noted(entry, Some(site), &to, failover).await?;
        }
        self.signing_status().await
    }

    /// Retires a key, or drops one that is retired.
    pub(super) async fn key_becomes(&self, actor: &str, request: ChangeKeyRequest) -> Result<SigningStatus, ApiError> {
        given("reason", &request.reason)?;
        let view = self.view().await?;
        let ended = self.forgotten(&view).await?;
        let change = |keys: &mut SiteKeys| {
            let key = keys.keys.iter_mut().find(|key| key.id == request.key).ok_or(NotChanged::Unknown)?;
            key.used_by.retain(|one| !ended(one));
            may_become(key, request.state, &view)?;
            if key.state != request.state {
                (key.state, key.changed) = (request.state, format!("{actor}: {}", request.reason));
            }
            Ok(())
        };
        match change_keys::<NotChanged>(&self.refdb, change).await {
            Ok(_) => {
                let (key, state) = (request.key, request.state.name());
                tracing::warn!(actor, reason = request.reason, %key, state, "an operator changes the key of a site");
                self.signing_status().await
            }
            Err(NotChanged::RefDb(error)) => Err(unanswered(error)),
            Err(NotChanged::Refused(why)) => Err(refused(&why)),
            Err(NotChanged::Unknown) => {
                Err(invalid(&format!("key {} is not in the refdb; `lockstep keys list` shows the keys", request.key)))
            }
        }
    }

    /// Tells of an incarnation whether nothing of it is in the journal any more. Its record is gone then, and its
    /// number was reached. A number above that is about to be opened, unless its node was removed.
    async fn forgotten(&self, view: &View) -> Result<impl Fn(&IncarnationId) -> bool, ApiError> {
        let known: BTreeSet<IncarnationId> = view.incarnations.iter().map(|one| one.id.clone()).collect();
        let mut highest = BTreeMap::<NodeId, u64>::new();
        for node in view.nodes.iter().filter(|node| !node.expelled) {
            let last = self.refdb.incarnations.last_incarnation(&node.site, &node.node).await.map_err(unanswered)?;
            highest.insert(node.node.clone(), last);
        }
        Ok(move |one: &IncarnationId| {
            !known.contains(one) && highest.get(&one.node).is_none_or(|last| one.number.0 <= *last)
        })
    }

    /// The nodes of the sites of the list that do not sign with a valid key, by their latest digests.
    async fn do_not_sign(&self, view: &View, keys: &SiteKeys) -> Result<Vec<String>, ApiError> {
        let digests = digests::of(&self.refdb).await.map_err(unanswered)?;
        let signs = |node: &NodeId, site: &SiteId| {
            let own = digests.iter().find(|digest| digest.node == *node).and_then(|digest| digest.signs_with);
            own.is_some_and(|own| {
                let key = keys.keys.iter().find(|key| key.id == own);
                // A standby registers its key when it opens its first incarnation.
                key.is_none_or(|key| key.site == *site && key.state == KeyState::Valid)
            })
        };
        let counted = view.nodes.iter().filter(|node| !node.expelled && view.lists(&node.site));
        let unsigned = counted.filter(|node| !signs(&node.node, &node.site));
        Ok(unsigned.map(|node| node.node.to_string()).take(NAMED).collect())
    }

    /// Refuses the requirement while a node could not commit any more.
    async fn all_can_sign(&self, view: &View) -> Result<(), ApiError> {
        let records = self.refdb.sites.sites().await.map_err(unanswered)?;
        let known: BTreeSet<SiteId> = records.into_iter().map(|one| one.site).collect();
        let unborn: Vec<String> =
            self.roles.listed().into_iter().filter(|site| !known.contains(site)).map(|site| site.to_string()).collect();
        if !unborn.is_empty() {
            return Err(refused(&format!(
                "no node has started yet at {}; start one there, or remove the site, and ask again",
                unborn.join(", ")
            )));
        }
        let (_, keys) = read_keys(&self.refdb).await.map_err(unanswered)?;
        let nodes = self.do_not_sign(view, &keys).await?;
        match nodes.is_empty() {
            true => Ok(()),
            false => Err(refused(&format!(
                "these nodes do not sign with a valid key of their site, or run a release that cannot: {}; set \
                 signing.key_file there, restart them, wait until `lockstep signing status` names none, and ask again",
                nodes.join(", ")
            ))),
        }
    }
}

/// Refuses the next state of a key while something still needs the present one.
fn may_become(key: &SiteKey, state: KeyState, view: &View) -> Result<(), NotChanged> {
    let refuse = |why: String| Err(NotChanged::Refused(why));
    match (key.state, state) {
        (before, after) if before == after => Ok(()),
        (KeyState::Valid, KeyState::Retired) => {
            let signing: Vec<String> = view
                .incarnations
                .iter()
                .filter(|one| one.may_commit() && key.used_by.contains(&one.id))
                .map(|one| one.id.node.to_string())
                .collect();
            match signing.is_empty() {
                true => Ok(()),
                false => refuse(format!(
                    "key {} signs at {}; give these nodes another key, restart them, and ask again",
                    key.id,
                    signing.join(", ")
                )),
            }
        }
        (KeyState::Retired, KeyState::Dropped) => match key.used_by.first() {
            None => Ok(()),
            Some(first) => refuse(format!(
                "key {} verifies the records of {} incarnations that are not collected yet, {first} first; ask again \
                 when every node has applied them",
                key.id,
                key.used_by.len()
            )),
        },
        (KeyState::Valid, _) => refuse(format!("key {} is valid; retire it first", key.id)),
        (before, _) => {
            refuse(format!("key {} was {}, which cannot be undone; register another one", key.id, before.name()))
        }
    }
}
