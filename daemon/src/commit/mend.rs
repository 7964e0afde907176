//! What a batch is told of a ref is what the disk shows, also where somebody wrote behind the sidecar's back.
//!
//! Nothing watches the disk, so such a write is met only by whoever moves the ref next. Where that is not a move, because
//! the ref is said to be so already, or because the one who asks has seen the wrong value, the ref is mended at once: he
//! would be told what is not there, or to fetch what misled him. What was written is kept as a stray.

use lockstep_proto::RefKey;

use super::Committer;
use super::work::{Intent, Verdict, Work};
use crate::git::GitError;

impl Committer {
    /// Mends the refs of wishes that just got a verdict without a move. The caller holds their locks, and the refdb was just
    /// asked. A seed takes the disk for right.
    pub(super) async fn mend(&self, work: &Work, open: &[usize], verdicts: &mut [Option<Verdict>]) {
        if work.seed.is_some() {
            return;
        }
        for &at in open {
            let intent = &work.intents[at];
            let verdict = verdicts[at].clone();
            let mended = match &verdict {
                Some(Verdict::Committed) => self.restore(work, intent).await,
                Some(Verdict::Refused(_)) => match self.is_misled(work, intent).await {
                    Ok(true) => self.restore(work, intent).await,
                    Ok(false) => Ok(()),
                    Err(error) => Err(error.to_string()),
                },
                Some(Verdict::NotYetVisible | Verdict::Unknown(_)) | None => continue,
            };
            if let Err(why) = mended {
                self.observer.failed("commit", &format!("{}: {} cannot be mended: {why}", work.project, intent.key));
                if verdict == Some(Verdict::Committed) {
                    verdicts[at] = Some(Verdict::NotYetVisible);
                }
            }
        }
    }

    async fn restore(&self, work: &Work, intent: &Intent) -> Result<(), String> {
        let keys = std::slice::from_ref(&intent.key);
        self.placer.restore(&work.project, keys).await.map_err(|error| error.to_string())
    }

    /// Whether the disk shows what a refused wish expected: that is not what was committed.
    async fn is_misled(&self, work: &Work, intent: &Intent) -> Result<bool, GitError> {
        let (RefKey::Ref(name), Some(expected)) = (&intent.key, &intent.expected) else { return Ok(false) };
        Ok(self.repositories.read_ref(&work.project.name, name).await? == expected.oid())
    }
}
