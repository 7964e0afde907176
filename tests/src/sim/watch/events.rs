//! Stream events in the watch: reports from the clients that post them and the listeners that receive them.

use std::collections::{BTreeMap, BTreeSet};

use lockstep::seams::volume::{Mailbox, NodeStore};
use lockstep_proto::announcement::ForwardedEvent;
use lockstep_proto::{Announcement, NodeId, RefName};

use super::Watch;
use crate::sim::check::events::Posted;

impl Watch {
    /// A client posts an event.
    pub fn posts(&self, event: Posted) {
        self.known().events.asked(event);
    }

    /// A client was told that its event is accepted.
    pub fn posted(&self, id: &str) {
        self.known().events.taken(id);
    }

    /// A listener receives an event. `again` says that its session already has it.
    pub fn heard(&self, node: &NodeId, event: &ForwardedEvent, again: bool) {
        let mut known = self.known();
        let volume = known.locals.get(node).map(|local| local.volume.clone());
        let refs = event.project.as_ref().zip(volume).map(|(project, volume)| volume.refs(project));
        let shown: BTreeMap<RefName, _> = refs.into_iter().flatten().map(|(name, oid)| (name, Some(oid))).collect();
        let super::Known { facts, events, .. } = &mut *known;
        let mut verdict = events.heard(facts, node, &event.id, &shown);
        if again {
            verdict = verdict.and(Err(format!("{} is delivered twice to one session", event.id)));
        }
        known.judge(&self.trace, "events", verdict.map_err(|what| format!("{node}: {what}")));
    }

    /// A listener is about to confirm these events.
    pub fn confirms(&self, node: &NodeId, ids: &[String]) {
        let mut known = self.known();
        ids.iter().for_each(|id| known.events.confirms(node, id));
    }

    /// A listener was told that its confirmation is durable.
    pub fn confirmed(&self, node: &NodeId, ids: &[String]) {
        let mut known = self.known();
        ids.iter().for_each(|id| known.events.confirmed(node, id));
    }
}

/// The ids of the events in a node's inbox.
pub(super) fn inbox(store: &dyn NodeStore) -> Result<BTreeSet<String>, String> {
    let letters = store.mail(Mailbox::Inbox, None, usize::MAX).map_err(|error| error.to_string())?;
    let id = |(number, letter): (u64, bytes::Bytes)| {
        let announcement = letter.get(8..).map(Announcement::decode);
        match announcement {
            Some(Ok(announcement)) => Ok(announcement.event_id),
            other => Err(format!("letter {number} of the inbox is {other:?}")),
        }
    };
    letters.into_iter().map(id).collect()
}
