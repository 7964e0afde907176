//! Retries of the bridge: a retry with the same request id gets the answer of the first try.
//!
//! A retry joins a try in progress, and gets the kept answer of a try that has ended. A bounded number of answers is
//! kept. A retry that comes later is a new try. It commits nothing twice, because its old values no longer hold.

use std::collections::{BTreeMap, VecDeque};

use lockstep_proto::ProjectName;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

type Key = (ProjectName, String);

/// The known tries, by project and request id. `A` is the type of an answer.
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

/// The state of a request id, when a request claims it.
pub enum Begin<A> {
    /// The id is new, or its try ended without a lasting answer. The caller runs the request and ends it with this
    /// sender.
    Start(watch::Sender<Option<A>>),
    /// The id is known. Its answer is here, or will be.
    Join(watch::Receiver<Option<A>>),
    /// The id was used for another request.
    Reused,
}

impl<A: Clone + Send + Sync + 'static> Requests<A> {
    /// Creates a memory that keeps the answers of the last `keep` tries.
    #[must_use]
    pub fn new(keep: usize) -> Self {
        Self { keep, known: Mutex::new(Known { tries: BTreeMap::new(), ended: VecDeque::new() }) }
    }

    fn known(&self) -> MutexGuard<'_, Known<A>> {
        self.known.lock()
    }

    /// Looks a request id up, and claims it if it is new. `fingerprint` is a hash of the request's content.
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

    /// Whether the id is that of a try in progress, or of one whose answer is kept.
    pub fn knows(&self, project: &ProjectName, id: &str) -> bool {
        self.known().tries.contains_key(&(project.clone(), id.to_owned()))
    }

    /// The answer to a request id, if it is still kept and belongs to the same request.
    pub fn answered(&self, project: &ProjectName, id: &str, fingerprint: u64) -> Option<A> {
        let known = self.known();
        let tried = known.tries.get(&(project.clone(), id.to_owned()))?;
        if tried.fingerprint == fingerprint { tried.answer.borrow().clone() } else { None }
    }

    /// Ends a try with its answer. An answer that is not `lasting` is forgotten, so the next retry is a new try.
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

/// Waits for an answer; none when the try ended without one, because its node stopped.
pub async fn answer<A: Clone + Send + Sync + 'static>(mut from: watch::Receiver<Option<A>>) -> Option<A> {
    from.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone())
}
