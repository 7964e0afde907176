//! What a batch is told of a ref is what the disk shows, also where somebody wrote behind the sidecar's back.
//!
//! Nothing watches the disk, so such a write is met only by whoever moves the ref next. Where that is not a move, because
//! the ref is said to be so already, or because the one who asks has seen the wrong value, the ref is mended at once: he
//! would be told what is not there, or to fetch what misled him. What was written is kept as a stray.

use lockstep_proto::RefKey;

use super::Committer;
use super::work::{Intent, Verdict, Work};
use crate::seams::git::GitError;
use crate::state::materialize::MaterializeError;

impl Committer {
    /// Mends the refs of wishes that just got a verdict without a move. The caller holds their locks, and the refdb was just
    /// asked. A seed takes the disk for right.
    pub(super) async fn mend(&self, work: &Work, open: &[usize], verdicts: &mut [Option<Verdict>]) {
        if work.seed.is_some() {
            return;
        }
        for &at in open {
            let intent = &work.intents[at];
            if let Err(why) = self.mend_one(work, intent, verdicts[at].as_ref()).await {
                self.observer.failed("commit", &format!("{}: {} cannot be mended: {why}", work.project, intent.key));
                if verdicts[at] == Some(Verdict::Committed) {
                    verdicts[at] = Some(Verdict::NotYetVisible);
                }
            }
        }
    }

    async fn mend_one(&self, work: &Work, intent: &Intent, verdict: Option<&Verdict>) -> Result<(), MaterializeError> {
        let is_met = match verdict {
            Some(Verdict::Committed) => true,
            Some(Verdict::Refused(_)) => self.is_misled(work, intent).await?,
            Some(Verdict::NotYetVisible | Verdict::Unknown(_)) | None => false,
        };
        if is_met { self.materializer.restore(&work.project, std::slice::from_ref(&intent.key)).await } else { Ok(()) }
    }

    /// Whether the disk shows what a refused wish expected: that is not what was committed.
    async fn is_misled(&self, work: &Work, intent: &Intent) -> Result<bool, GitError> {
        let (RefKey::Ref(name), Some(expected)) = (&intent.key, &intent.expected) else { return Ok(false) };
        Ok(self.repositories.read_ref(&work.project.name, name).await? == expected.oid())
    }
}
