//! Materializes a state transfer: the refdb's records of a whole project, in one step.

use std::collections::BTreeMap;

use lockstep_proto::{Oid, ProjectKey, ProjectName, RefKey, RefName};

use super::{MaterializeError, Materializer, steps};
use crate::base::ref_names;
use crate::seams::git::{GitError, RefMove};
use crate::seams::volume::RefRecord;

impl Materializer {
    /// Moves the refs of a whole project to the refdb's records in one step, from any state of the disk. No ref moves
    /// back to an older version. While the node comes back from a time in which its site was off, a ref whose version
    /// this node knows keeps its value on the disk. The caller holds the locks of all keys, and all objects are
    /// present.
    ///
    /// # Errors
    /// As [`Materializer::materialize`].
    pub async fn materialize_latest(
        &self,
        project: &ProjectKey,
        mut latest: BTreeMap<RefKey, RefRecord>,
    ) -> Result<(), MaterializeError> {
        let mut newer = BTreeMap::new();
        for (key, record) in &mut latest {
            match self.versions.get(project, key)? {
                Some(known) if known.version >= record.version => *record = known,
                _ => _ = newer.insert(key.clone(), record.clone()),
            }
        }
        let under_way = self.versions.record_intents(project, &newer)?;
        let targets = if self.comes_back.is_so() { &newer } else { &latest };
        let moves = self.towards(project, targets).await?;
        let mut keep = self.keep_latest(&project.name, &latest, &moves).await?;
        keep.extend(self.stray_values(project, &moves, &[]).await?);
        for step in steps(moves) {
            self.move_refs(&project.name, step, &keep).await?;
        }
        self.after_refs(project, &newer).await?;
        self.versions.moved(project, newer, self.mover)?;
        drop(under_way);
        self.forget_deleted(project)
    }

    /// The moves that take the refs on the disk to these records.
    async fn towards(
        &self,
        project: &ProjectKey,
        latest: &BTreeMap<RefKey, RefRecord>,
    ) -> Result<Vec<RefMove>, MaterializeError> {
        self.make_direct(&project.name, latest.keys()).await?;
        let shown: BTreeMap<RefName, Oid> = match self.repositories.list_refs(&project.name).await {
            Ok(shown) => shown.into_iter().collect(),
            // A deleted project has no repository.
            Err(GitError::NoRepository(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut moves = Vec::new();
        for (key, record) in latest {
            let RefKey::Ref(name) = key else { continue };
            let (old, new) = (shown.get(name).copied(), record.value.oid());
            if old != new {
                moves.push(RefMove { name: name.clone(), old, new, message: String::new() });
            }
        }
        moves.sort_by_key(|step| (step.new.is_some(), ref_names::visibility_rank(&step.name)));
        Ok(moves)
    }

    /// The values that the moves of a state transfer make unreachable. The label of each names the transaction that
    /// gave the ref its new value.
    async fn keep_latest(
        &self,
        project: &ProjectName,
        latest: &BTreeMap<RefKey, RefRecord>,
        moves: &[RefMove],
    ) -> Result<Vec<(String, Oid)>, MaterializeError> {
        let lost = self.lost(project, moves).await?;
        let mut keep = Vec::new();
        for (at, (step, is_lost)) in moves.iter().zip(lost).enumerate() {
            let record = latest.get(&RefKey::Ref(step.name.clone()));
            if let (true, Some(old), Some(record)) = (is_lost, step.old, record) {
                keep.push((format!("{}-j{at}", record.txn), old));
            }
        }
        Ok(keep)
    }
}
