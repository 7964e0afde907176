//! Retries of the bridge: a retry with the same request id gets the answer of the first try.
//!
//! A retry joins a try in progress, and gets the kept answer of a try that has ended. A bounded number of answers is
//! kept. A retry that comes later is a new try. It commits nothing twice, because its old values no longer hold. The
//! ids of tries without a known outcome are kept too: a retry of one begins when the outcome of its first try is known,
//! and looks for that try before it is refused.

use std::collections::{BTreeMap, VecDeque};

use lockstep_proto::{ProjectName, Slot};
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
    /// The ids in doubt, with the slot that tells the outcome of the try. None: no slot tells it.
    in_doubt: BTreeMap<Key, Option<Slot>>,
    /// There were more tries in doubt than are kept.
    forgot_doubts: bool,
}

struct Try<A> {
    fingerprint: u64,
    answer: watch::Receiver<Option<A>>,
}

/// The part of a try that is kept after its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The answer of the try.
    Answer,
    /// Nothing: it changed nothing.
    Nothing,
    /// Its id: its outcome was not known when it ended. The slot tells it, if the try has one.
    Doubt(Option<Slot>),
}

/// The doubt about the earlier tries of a request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// No try ended without a known outcome.
    None,
    /// The content of this slot tells the outcome of the only such try.
    Slot(Slot),
    /// This node has nothing that tells the outcome.
    Open,
    /// There were more doubts than are kept, so that the id may be one of them.
    Forgotten,
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
        let known =
            Known { tries: BTreeMap::new(), ended: VecDeque::new(), in_doubt: BTreeMap::new(), forgot_doubts: false };
        Self { keep, known: Mutex::new(known) }
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

    /// Whether an earlier try of the id ended without a known outcome.
    pub fn doubt(&self, project: &ProjectName, id: &str) -> Doubt {
        let known = self.known();
        match known.in_doubt.get(&(project.clone(), id.to_owned())) {
            Some(Some(slot)) => Doubt::Slot(slot.clone()),
            Some(None) => Doubt::Open,
            None if known.forgot_doubts => Doubt::Forgotten,
            None => Doubt::None,
        }
    }

    /// Ends a try with its answer. Unless the answer is kept, the next retry is a new try.
    pub fn end(&self, project: &ProjectName, id: &str, sender: &watch::Sender<Option<A>>, answer: A, kept: Kept) {
        let key = (project.clone(), id.to_owned());
        let mut known = self.known();
        sender.send_replace(Some(answer));
        match kept {
            Kept::Answer => known.ended.push_back(key),
            Kept::Nothing => drop(known.tries.remove(&key)),
            Kept::Doubt(slot) => {
                known.tries.remove(&key);
                let is_kept = known.in_doubt.len() < self.keep || known.in_doubt.contains_key(&key);
                if is_kept {
                    // A doubt that no slot can end stays one.
                    known
                        .in_doubt
                        .entry(key)
                        .and_modify(|doubt| *doubt = doubt.take().and(slot.clone()))
                        .or_insert(slot);
                } else {
                    known.forgot_doubts = true;
                }
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(requests: &Requests<u8>, id: &str, kept: Kept) {
        let project = "p".parse().unwrap();
        let Begin::Start(sender) = requests.begin(&project, id, 1) else { panic!("{id} is not free") };
        requests.end(&project, id, &sender, 7, kept);
    }

    fn slot(seq: u64) -> Slot {
        format!("muc-1-0.1.0.{seq}").parse().unwrap()
    }

    #[test]
    fn only_ids_without_a_known_outcome_are_in_doubt_and_too_many_make_all_doubtful() {
        let (requests, project) = (Requests::<u8>::new(2), "p".parse().unwrap());
        ends(&requests, "done", Kept::Answer);
        ends(&requests, "refused", Kept::Nothing);
        ends(&requests, "lost", Kept::Doubt(Some(slot(1))));
        let doubt = |id: &str| requests.doubt(&project, id);
        assert_eq!(["done", "refused", "new"].map(doubt), [Doubt::None, Doubt::None, Doubt::None]);
        assert_eq!(doubt("lost"), Doubt::Slot(slot(1)));
        assert!(requests.knows(&project, "done") && !requests.knows(&project, "lost"));
        // The retry is a new try, and stays in doubt until its outcome is known.
        ends(&requests, "lost", Kept::Nothing);
        assert_eq!(doubt("lost"), Doubt::Slot(slot(1)));
        ends(&requests, "two", Kept::Doubt(None));
        ends(&requests, "three", Kept::Doubt(Some(slot(3))));
        assert_eq!(doubt("new"), Doubt::Forgotten, "any id may be in doubt");
    }

    #[test]
    fn the_slot_of_the_last_try_ends_a_doubt_unless_an_earlier_try_has_no_slot() {
        let (requests, project) = (Requests::<u8>::new(9), "p".parse().unwrap());
        ends(&requests, "a", Kept::Doubt(Some(slot(1))));
        ends(&requests, "a", Kept::Doubt(Some(slot(2))));
        assert_eq!(requests.doubt(&project, "a"), Doubt::Slot(slot(2)));
        ends(&requests, "b", Kept::Doubt(None));
        ends(&requests, "b", Kept::Doubt(Some(slot(2))));
        assert_eq!(requests.doubt(&project, "b"), Doubt::Open);
    }
}
