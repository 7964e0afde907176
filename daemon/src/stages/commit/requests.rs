//! Retries of the bridge: the same request id gets the answer of the first try.
//!
//! A try that is under way is joined; one that is over is answered again for a while. A bounded number is kept; a
//! retry that comes later than that is a new try, and commits nothing twice: its old values no longer hold.

use std::collections::{BTreeMap, VecDeque};

use lockstep_proto::ProjectName;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

type Key = (ProjectName, String);

/// The tries that are known, by project and request id. `A` is the answer.
pub struct Requests<A> {
    keep: usize,
    known: Mutex<Known<A>>,
}

struct Known<A> {
    tries: BTreeMap<Key, Try<A>>,
    ended: VecDeque<Key>,
}

struct Try<A> {
    fingerprint: u64,
    answer: watch::Receiver<Option<A>>,
}

/// What became of a request id.
pub enum Begin<A> {
    /// It is new (or its try ended without a final answer): send the answer here.
    Start(watch::Sender<Option<A>>),
    /// It is known: the answer is or will be here.
    Join(watch::Receiver<Option<A>>),
    /// It was used for another request.
    Reused,
}

impl<A: Clone + Send + Sync + 'static> Requests<A> {
    /// Keeps the answers of the last `keep` tries.
    #[must_use]
    pub fn new(keep: usize) -> Self {
        Self { keep, known: Mutex::new(Known { tries: BTreeMap::new(), ended: VecDeque::new() }) }
    }

    fn known(&self) -> MutexGuard<'_, Known<A>> {
        self.known.lock()
    }

    /// Looks a request id up, and claims it if it is new. `fingerprint` is a hash of what is asked for.
    pub fn begin(&self, project: &ProjectName, id: &str, fingerprint: u64) -> Begin<A> {
        let key = (project.clone(), id.to_owned());
        let mut known = self.known();
        if let Some(tried) = known.tries.get(&key) {
            if tried.fingerprint != fingerprint {
                return Begin::Reused;
            }
            return Begin::Join(tried.answer.clone());
        }
        let (sender, answer) = watch::channel(None);
        known.tries.insert(key, Try { fingerprint, answer });
        Begin::Start(sender)
    }

    /// What a request id was answered, if it was lately.
    pub fn answered(&self, project: &ProjectName, id: &str, fingerprint: u64) -> Option<A> {
        let known = self.known();
        let tried = known.tries.get(&(project.clone(), id.to_owned()))?;
        if tried.fingerprint == fingerprint { tried.answer.borrow().clone() } else { None }
    }

    /// The try is over. An answer that is not `lasting` is forgotten: a retry tries anew.
    pub fn end(&self, project: &ProjectName, id: &str, sender: &watch::Sender<Option<A>>, answer: A, lasting: bool) {
        let key = (project.clone(), id.to_owned());
        let mut known = self.known();
        sender.send_replace(Some(answer));
        if !lasting {
            known.tries.remove(&key);
            return;
        }
        known.ended.push_back(key);
        while known.ended.len() > self.keep {
            if let Some(oldest) = known.ended.pop_front() {
                known.tries.remove(&oldest);
            }
        }
    }
}

/// Waits for an answer; none when the try ended without one (its node stopped).
pub async fn answer<A: Clone + Send + Sync + 'static>(mut from: watch::Receiver<Option<A>>) -> Option<A> {
    from.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone())
}
