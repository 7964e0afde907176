//! The keys of all items in the two tables.
//!
//! `<prefix>-refs` has a partition key `pk` and a sort key `sk`, both text:
//!
//! | item | `pk` | `sk` |
//! |---|---|---|
//! | a ref or `@HEAD` | `p#<project>#<incarnation>` | its name |
//! | a project's `@state` | `@projects` | the project's name |
//! | a site | `@sites` | the site |
//! | an incarnation | `@incarnations#<site>` | `<node>.<number, 20 digits>` |
//! | the highest incarnation of a node | `@highest#<site>` | the node |
//! | a node | `@nodes` | the node |
//! | the installation's Gerrit | `@gerrit` | `@identity` |
//! | a `gerrit.instanceId` | `@instances` | the id |
//! | the declaration that the refdb went back | `@went-back` | `@declaration` |
//! | the identity of the refdb | `@identity` | `@refdb` |
//! | the failover, the drill, and their histories | `@failover` | `@last`, `@history`, `@drill`, `@drills` |
//! | the first sites | `@failover` | `@first-sites` |
//! | the locks of operators | `@locks` | `@list` |
//! | the leases of readers | `@readers` | `@leases` |
//! | the capacity of the streams | `@capacity` | `@streams` |
//! | the digest of a node | `@digests` | the node |
//! | the mark of a refdb whose writes are of one item each | `@writes` | `@single-item` |
//!
//! No two keys collide: keys of one project begin with `p#`, all others with `@`, and the names of sites and nodes
//! contain neither `#` nor `.`. `<prefix>-journal` has only a partition key `pk`, the whole slot, so that no partition
//! of it is hot.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_proto::{IncarnationId, NodeId, ProjectKey, ProjectName, RefKey, SiteId, Slot};

use crate::seams::refdb::Document;

/// The partition of all `@state` items.
pub(super) const PROJECTS: &str = "@projects";
/// The partition of all sites.
pub(super) const SITES: &str = "@sites";
/// The partition of all nodes.
pub(super) const NODES: &str = "@nodes";
/// The partition of all digests.
pub(super) const DIGESTS: &str = "@digests";

/// The partition of all instance ids.
pub(super) const INSTANCES: &str = "@instances";

/// The key attributes of an item, as the SDK takes them.
pub(super) type KeyAttributes = HashMap<String, AttributeValue>;

/// A key of the refs table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) pk: String,
    pub(super) sk: String,
}

impl Key {
    fn new(pk: impl Into<String>, sk: impl ToString) -> Self {
        Self { pk: pk.into(), sk: sk.to_string() }
    }

    pub(super) fn of_ref(project: &ProjectKey, key: &RefKey) -> Self {
        match key {
            RefKey::State => Self::new(PROJECTS, &project.name),
            RefKey::Head | RefKey::Ref(_) => Self::new(partition(project), key),
        }
    }

    pub(super) fn of_site(site: &SiteId) -> Self {
        Self::new(SITES, site)
    }

    pub(super) fn of_incarnation(site: &SiteId, id: &IncarnationId) -> Self {
        Self::new(incarnations(site), format!("{}.{:020}", id.node, id.number.0))
    }

    pub(super) fn of_highest(site: &SiteId, node: &NodeId) -> Self {
        Self::new(format!("@highest#{site}"), node)
    }

    pub(super) fn of_node(node: &NodeId) -> Self {
        Self::new(NODES, node)
    }

    pub(super) fn of_gerrit() -> Self {
        Self::new("@gerrit", "@identity")
    }

    pub(super) fn of_went_back() -> Self {
        Self::new("@went-back", "@declaration")
    }

    pub(super) fn of_document(which: Document) -> Self {
        match which {
            Document::Failover => Self::new("@failover", "@last"),
            Document::History => Self::new("@failover", "@history"),
            Document::FirstSites => Self::new("@failover", "@first-sites"),
            Document::Identity => Self::new("@identity", "@refdb"),
            Document::Drill => Self::new("@failover", "@drill"),
            Document::DrillHistory => Self::new("@failover", "@drills"),
            Document::SilentDrills => Self::new("@failover", "@silent-drills"),
            Document::Keys => Self::new("@failover", "@keys"),
            Document::Locks => Self::new("@locks", "@list"),
            Document::Readers => Self::new("@readers", "@leases"),
            Document::Capacity => Self::new("@capacity", "@streams"),
        }
    }

    pub(super) fn of_write_mode() -> Self {
        Self::new("@writes", "@single-item")
    }

    pub(super) fn of_digest(node: &NodeId) -> Self {
        Self::new(DIGESTS, node)
    }

    pub(super) fn of_instance(instance: &str) -> Self {
        Self::new(INSTANCES, instance)
    }

    pub(super) fn attributes(&self) -> KeyAttributes {
        let pk = ("pk".to_owned(), AttributeValue::S(self.pk.clone()));
        let sk = ("sk".to_owned(), AttributeValue::S(self.sk.clone()));
        HashMap::from([pk, sk])
    }
}

/// The partition of a project's refs and its `@HEAD`.
pub(super) fn partition(project: &ProjectKey) -> String {
    format!("p#{project}")
}

/// The partition of a site's incarnations.
pub(super) fn incarnations(site: &SiteId) -> String {
    format!("@incarnations#{site}")
}

/// The sort key after which a scan continues. `@state` sorts before all other keys, but is not in this partition.
pub(super) fn behind_ref(after: Option<&RefKey>) -> Option<String> {
    after.filter(|key| **key != RefKey::State).map(RefKey::to_string)
}

/// The sort key after which a list of projects continues.
pub(super) fn behind_project(after: Option<&ProjectName>) -> Option<String> {
    after.map(ProjectName::to_string)
}

/// The key of a slot in the journal table.
pub(super) fn slot(slot: &Slot) -> KeyAttributes {
    HashMap::from([("pk".to_owned(), AttributeValue::S(slot.to_string()))])
}
