//! Checks the identity of a Gerrit against the refdb.

use lockstep_proto::NodeId;
use lockstep_proto::gerrit::HandshakeRequest;

use super::{Denied, HandshakeStage};
use crate::seams::refdb::{GerritRecord, NodeRecord};

/// How a new site joins the installation.
pub(super) const COPY_OF_THE_FIRST: &str = "Each further site is a copy of the first one: copy the folder of its \
     Gerrit (without the repositories), give the copy a gerrit.instanceId of its own, and let the sidecar bring in the \
     repositories. Never run `init` for a second site (docs/seeding.md)";

impl HandshakeStage {
    /// Checks a Gerrit against the recorded installation. Answers the node whose instance id it may take over, because
    /// that node is expelled or has no record; none when there is no such node.
    pub(super) async fn identify(&self, gerrit: &HandshakeRequest) -> Result<Option<NodeId>, Denied> {
        let known = self.refdb.gerrit.gerrit().await.map_err(Denied::not_now)?;
        if let Some(why) = mismatch(gerrit, known.as_ref()) {
            return Err(Denied::Refused(why));
        }
        let owners = self.refdb.gerrit.instances().await.map_err(Denied::not_now)?;
        let Some(owner) = owners.get(&gerrit.instance_id).filter(|owner| **owner != self.node) else { return Ok(None) };
        let nodes = self.refdb.nodes.nodes().await.map_err(Denied::not_now)?;
        if counts(&nodes, owner) { Err(taken(gerrit, owner)) } else { Ok(Some(owner.clone())) }
    }

    /// Records the identity of a Gerrit. The writes are conditional, because the records may have changed since they
    /// were read.
    pub(super) async fn enroll(&self, gerrit: &HandshakeRequest, from: Option<&NodeId>) -> Result<(), Denied> {
        let mine = record(gerrit);
        let known = self.refdb.gerrit.enroll_gerrit(&mine).await.map_err(Denied::not_now)?;
        if let Some(why) = mismatch(gerrit, Some(&known)) {
            return Err(Denied::Refused(why));
        }
        let instance = &gerrit.instance_id;
        let owner = self.refdb.gerrit.claim_instance(instance, &self.node, from).await.map_err(Denied::not_now)?;
        if owner != self.node {
            return Err(taken(gerrit, &owner));
        }
        // A node may change its instance id. Its former ids are released, including those that a crash has left behind.
        let owners = self.refdb.gerrit.instances().await.map_err(Denied::not_now)?;
        for (other, _) in owners.iter().filter(|(other, owner)| *other != instance && **owner == self.node) {
            self.refdb.gerrit.release_instance(other, &self.node).await.map_err(Denied::not_now)?;
        }
        Ok(())
    }
}

fn record(gerrit: &HandshakeRequest) -> GerritRecord {
    GerritRecord {
        server_id: gerrit.server_id.clone(),
        all_projects: gerrit.all_projects.clone(),
        all_users: gerrit.all_users.clone(),
    }
}

/// Whether a node has a record and is not expelled.
fn counts(nodes: &[NodeRecord], node: &NodeId) -> bool {
    nodes.iter().any(|one| one.node == *node && !one.expelled)
}

fn taken(gerrit: &HandshakeRequest, owner: &NodeId) -> Denied {
    Denied::Refused(format!(
        "gerrit.instanceId is {}, which the Gerrit of node {owner} has already; give this one an instanceId of its \
         own, such as the name of its node",
        gerrit.instance_id
    ))
}

/// The reason why this Gerrit does not belong to the installation; none when it does.
fn mismatch(gerrit: &HandshakeRequest, known: Option<&GerritRecord>) -> Option<String> {
    if gerrit.instance_id.is_empty() {
        return Some(
            "gerrit.instanceId is not set; give each node's Gerrit one of its own, such as the name of its node"
                .to_owned(),
        );
    }
    if gerrit.server_id.is_empty() {
        return Some("gerrit.serverId is not set; all sites use the value of the first site".to_owned());
    }
    let known = known?;
    let mine = record(gerrit);
    let fields = [
        ("gerrit.serverId", mine.server_id == known.server_id, &mine.server_id, &known.server_id),
        (
            "gerrit.allProjects",
            mine.all_projects == known.all_projects,
            &mine.all_projects.to_string(),
            &known.all_projects.to_string(),
        ),
        (
            "gerrit.allUsers",
            mine.all_users == known.all_users,
            &mine.all_users.to_string(),
            &known.all_users.to_string(),
        ),
    ];
    let differ: Vec<String> = fields
        .iter()
        .filter(|(_, same, ..)| !same)
        .map(|(field, _, mine, known)| format!("{field} is {mine}, the others have {known}"))
        .collect();
    (!differ.is_empty()).then(|| {
        format!(
            "this Gerrit does not belong to this installation: {}. Its site was initialised apart, and changes, \
             accounts and groups of two installations are never merged. {COPY_OF_THE_FIRST}. If the refdb only holds \
             a trial with another Gerrit, start over with new tables (setting refdb.prefix) and `lockstep seed`",
            differ.join("; ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gerrit(server: &str, instance: &str) -> HandshakeRequest {
        HandshakeRequest {
            session: "s".into(),
            server_id: server.into(),
            instance_id: instance.into(),
            gerrit_version: "3.13.5".into(),
            bridge_version: "0.1.0".into(),
            all_projects: "All-Projects".parse().unwrap(),
            all_users: "All-Users".parse().unwrap(),
            base_path: None,
            base_paths: Vec::new(),
        }
    }

    #[test]
    fn the_reason_names_what_differs_and_the_way_out() {
        let known = record(&gerrit("one", "a"));
        assert_eq!(mismatch(&gerrit("one", "b"), Some(&known)), None);
        assert_eq!(mismatch(&gerrit("two", "b"), None), None, "the first Gerrit sets the values");
        let why = mismatch(&gerrit("two", "b"), Some(&known)).unwrap();
        assert!(why.contains("gerrit.serverId is two, the others have one"), "{why}");
        assert!(!why.contains("gerrit.allUsers is") && why.contains("copy the folder"), "{why}");
        let users = HandshakeRequest { all_users: "Users".parse().unwrap(), ..gerrit("one", "b") };
        let why = mismatch(&users, Some(&known)).unwrap();
        assert!(why.contains("gerrit.allUsers is Users, the others have All-Users"), "{why}");
        assert!(!why.contains("gerrit.serverId is"), "{why}");
    }

    #[test]
    fn a_gerrit_without_a_name_is_refused_by_field() {
        assert!(mismatch(&gerrit("one", ""), None).unwrap().contains("gerrit.instanceId is not set"));
        assert!(mismatch(&gerrit("", "a"), None).unwrap().contains("gerrit.serverId is not set"));
    }
}
