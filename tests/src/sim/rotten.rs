//! Committed transactions with bad content, of a node that does not exist. Every node holds them as bad.

use bytes::Bytes;
use lockstep::seams::refdb::{CommitRequest, IncarnationRecord, Role};
use lockstep_proto::{Command, Oid, Pack, ProjectKey, RefValue, Seq, SiteId, Transaction, TxnId, Version};

use super::facts::ROTTEN;
use super::world::{World, name};

/// The value of a successor of bad content: an object that nobody has.
#[must_use]
pub fn successor(number: u64) -> Oid {
    name(&format!("2{number:039x}"))
}

fn step(number: u64, seq: u64, old: Option<Oid>, new: Oid, site: &SiteId, project: &ProjectKey) -> Transaction {
    let id = |seq: u64| -> TxnId { name(&format!("byzantine.{number}.0.{seq}.00000000000000aa")) };
    let command = Command {
        key: name(&format!("{ROTTEN}{number}")),
        old: RefValue::from(old),
        new: RefValue::Oid(new),
        version: Version(seq + 1),
        predecessor: (seq > 0).then(|| id(seq - 1)),
    };
    let pack = if seq == 0 { Pack::Inline(Bytes::from_static(b"no pack")) } else { Pack::Empty };
    Transaction {
        commands: vec![command],
        pack,
        bases: old.into_iter().collect(),
        request_id: format!("rotten-{number}-{seq}"),
        ..Transaction::empty(id(seq), site.clone(), project.clone())
    }
}

impl World {
    /// Commits a transaction whose pack is garbage to a new ref, and on top of it steps to these values, which bring no
    /// objects. Publishes them, and drains their incarnation. Returns the bad one; none if the site takes no commits.
    ///
    /// # Panics
    /// If the refdb, which has no faults here, refuses.
    pub async fn commit_bad(
        &self,
        site: &SiteId,
        project: &ProjectKey,
        number: u64,
        successors: &[Oid],
    ) -> Option<TxnId> {
        let refdb = self.refdb();
        let sites = refdb.sites.sites().await.expect("the sites");
        let record = sites.into_iter().find(|one| one.site == *site && one.role == Role::Active)?;
        let values: Vec<Oid> =
            [name(&format!("{number:040x}"))].into_iter().chain(successors.iter().copied()).collect();
        let before = std::iter::once(None).chain(values.iter().copied().map(Some));
        let steps = (0_u64..).zip(before.zip(&values));
        let all: Vec<Transaction> =
            steps.map(|(seq, (old, new))| step(number, seq, old, *new, site, project)).collect();
        let (first, end) = (all[0].id.clone(), Seq(all.len() as u64));
        let id = first.slot.lane.incarnation.clone();
        self.watch.known().facts.bad.insert(first.clone());
        let opened = IncarnationRecord::open(id.clone(), site.clone(), record.epoch, end.0, 1);
        refdb.incarnations.open_incarnation(&opened).await.expect("a new incarnation");
        for one in &all {
            let request = CommitRequest {
                transaction: one.clone(),
                encoded: one.encode(),
                directories: Vec::new(),
                freed: Default::default(),
                lock_token: None,
            };
            refdb.refs.commit(&request).await.expect("a commit");
            self.append_raw(site, project.name.as_str(), one.encode()).await;
        }
        refdb.incarnations.freeze(site, &id).await.expect("a freeze");
        refdb.incarnations.drained(site, &id, &[end]).await.expect("a drain");
        Some(first)
    }
}
