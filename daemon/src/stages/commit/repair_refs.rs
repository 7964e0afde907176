//! Repairs refs that another program wrote without the sidecar, so that the answer to a batch agrees with the disk.
//!
//! Nothing watches the disk, so such a write is noticed only when a batch names the ref again. Most batches then move
//! the ref. Two verdicts come without a move: the ref already has the wanted value, or the caller expected the wrong
//! value that it saw on the disk. In both cases the ref is repaired at once. Otherwise the caller would be told of a
//! value that the disk does not show, or would be told to fetch and get the wrong value again. The value that the other
//! program wrote is kept as a stray.

use lockstep_proto::RefKey;

use super::Committer;
use super::work::{Intent, Verdict, Work};
use crate::seams::git::GitError;
use crate::state::materialize::MaterializeError;

impl Committer {
    /// Repairs the refs of intents that just got a verdict without a move. The caller holds their locks, and this node
    /// has just caught up with the refdb. A seed is left alone, because it takes the disk as correct.
    pub(super) async fn mend(&self, work: &Work, open: &[usize], verdicts: &mut [Option<Verdict>]) {
        if work.seed.is_some() {
            return;
        }
        for &at in open {
            let intent = &work.intents[at];
            if let Err(why) = self.mend_one(work, intent, verdicts[at].as_ref()).await {
                self.observer.failed("commit", &format!("{}: {} cannot be repaired: {why}", work.project, intent.key));
                if verdicts[at] == Some(Verdict::Committed) {
                    verdicts[at] = Some(Verdict::NotYetVisible(why.to_string()));
                }
            }
        }
    }

    async fn mend_one(&self, work: &Work, intent: &Intent, verdict: Option<&Verdict>) -> Result<(), MaterializeError> {
        let is_met = match verdict {
            Some(Verdict::Committed) => true,
            Some(Verdict::Refused(_)) => self.is_misled(work, intent).await?,
            Some(Verdict::NotYetVisible(_) | Verdict::Unknown(_)) | None => false,
        };
        if is_met { self.materializer.restore(&work.project, std::slice::from_ref(&intent.key)).await } else { Ok(()) }
    }

    /// Whether the disk shows the value that a refused intent expected, which is not the committed one.
    async fn is_misled(&self, work: &Work, intent: &Intent) -> Result<bool, GitError> {
        let (RefKey::Ref(name), Some(expected)) = (&intent.key, &intent.expected) else { return Ok(false) };
        Ok(self.repositories.read_ref(&work.project.name, name).await? == expected.oid())
    }
}
