//! The hand-over stage: tells one receiver outside of Lockstep which role the site of this node has, and whether this
//! node takes writes, so that the users' traffic follows a failover.
//!
//! The receiver gets a notice at the start, and whenever one of these has changed. A notice that was not taken is
//! repeated with growing pauses, until it is taken or a newer one replaces it. Each node tells its own receivers. So a
//! receiver learns of a failover from both sites, even if one of them is cut off from the other. A receiver may ask for
//! the notice again after some time, because others may undo what it did.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::failover::{HandoverStatus, RoleNotice};
use lockstep_proto::{NodeId, SiteId};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::base::backoff::Backoff;
use crate::base::clock::Clock;
use crate::base::observer::Observer;
use crate::seams::handover::Receiver;
use crate::state::context::{NodeContext, NodeState};
use crate::state::site_roles::SiteRoles;

/// How often the stage looks whether something has changed.
const LOOK: Duration = Duration::from_millis(200);
/// The first and the longest pause after a notice that was not taken.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];

/// Whether this node takes writes now.
pub type TakesWrites = Arc<dyn Fn() -> bool + Send + Sync>;

/// The last notice of a receiver, for the status.
pub type Told = Arc<Mutex<HandoverStatus>>;

/// Sends the notices of this node to one receiver.
pub struct HandOver {
    site: SiteId,
    node: NodeId,
    roles: Arc<SiteRoles>,
    takes_writes: TakesWrites,
    receiver: Arc<dyn Receiver>,
    told: Told,
    start: u64,
    last: Option<RoleNotice>,
    taken_at: Option<Instant>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    backoff: Backoff,
}

impl HandOver {
    /// Creates the stage for one receiver. `start` is the number of starts of this sidecar on its volume.
    #[must_use]
    pub fn new(
        context: &NodeContext,
        state: &NodeState,
        takes_writes: TakesWrites,
        receiver: Arc<dyn Receiver>,
        start: u64,
    ) -> Self {
        let NodeContext { site, node, clock, entropy, observer, .. } = context.clone();
        let told = HandoverStatus { receiver: receiver.name().to_owned(), told: None, at_ms: None, problem: None };
        Self {
            site,
            node,
            roles: Arc::clone(&state.roles),
            takes_writes,
            receiver,
            told: Arc::new(Mutex::new(told)),
            start,
            last: None,
            taken_at: None,
            clock,
            observer,
            backoff: Backoff::new(entropy, PAUSES[0], PAUSES[1]),
        }
    }

    /// The last notice of the receiver.
    #[must_use]
    pub fn told(&self) -> Told {
        Arc::clone(&self.told)
    }

    /// Tells until the task is aborted.
    pub async fn run(mut self) {
        loop {
            let Some(notice) = self.news() else {
                sleep(LOOK).await;
                continue;
            };
            match self.receiver.tell(&notice).await {
                Ok(()) => self.taken(notice),
                Err(why) => {
                    self.observer.failed("handover", &format!("{}: {why}", self.receiver.name()));
                    self.told.lock().problem = Some(why.to_string());
                    self.pause(&notice).await;
                }
            }
        }
    }

    fn taken(&mut self, notice: RoleNotice) {
        self.backoff.reset();
        self.taken_at = Some(Instant::now());
        let mut told = self.told.lock();
        if told.told.as_ref() != Some(&notice) {
            tracing::info!(receiver = self.receiver.name(), role = notice.role.name(), notice.epoch, "handed over");
        }
        (told.told, told.at_ms, told.problem) = (Some(notice), Some(self.clock.now_ms()), None);
    }

    /// The notice for now, if the receiver has not taken it yet, or wants it again. None before the role of the site is
    /// known. A notice that says something else than the last one has the next number.
    fn news(&mut self) -> Option<RoleNotice> {
        let own = self.roles.of(&self.site)?;
        let takes_writes = (self.takes_writes)();
        let same = |last: &&RoleNotice| last.epoch == own.epoch && last.takes_writes == takes_writes;
        let notice = self.last.as_ref().filter(same).cloned().unwrap_or_else(|| RoleNotice {
            site: self.site.clone(),
            node: self.node.clone(),
            role: own.role,
            epoch: own.epoch,
            takes_writes,
            start: self.start,
            number: self.last.as_ref().map_or(1, |last| last.number + 1),
        });
        self.last = Some(notice.clone());
        Some(notice).filter(|notice| self.is_due(notice))
    }

    fn is_due(&self, notice: &RoleNotice) -> bool {
        let is_old = |limit| self.taken_at.is_none_or(|at| at.elapsed() >= limit);
        self.receiver.again_after().is_some_and(is_old) || self.told.lock().told.as_ref() != Some(notice)
    }

    /// Waits for the next try, or until there is something newer to tell.
    async fn pause(&mut self, failed: &RoleNotice) {
        let (site, roles, takes_writes) = (&self.site, &self.roles, &self.takes_writes);
        let changed = async {
            loop {
                sleep(LOOK).await;
                let newer = roles.of(site).is_some_and(|own| own.epoch != failed.epoch);
                if newer || takes_writes() != failed.takes_writes {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = self.backoff.wait() => {}
            () = changed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;
    use lockstep_proto::failover::Role;

    use super::*;
    use crate::seams::handover::ReceiverError;
    use crate::seams::refdb::SiteRecord;

    /// A receiver that refuses some notices first.
    #[derive(Default)]
    struct Stubborn {
        again_after: Option<Duration>,
        refusals: Mutex<u32>,
        tries: Mutex<Vec<(Role, u64, bool)>>,
        last: Mutex<u64>,
    }

    #[async_trait]
    impl Receiver for Stubborn {
        fn name(&self) -> &str {
            "stubborn"
        }

        fn again_after(&self) -> Option<Duration> {
            self.again_after
        }

        async fn tell(&self, notice: &RoleNotice) -> Result<(), ReceiverError> {
            self.tries.lock().push((notice.role, notice.epoch, notice.takes_writes));
            assert!(std::mem::replace(&mut *self.last.lock(), notice.number) <= notice.number);
            let mut left = self.refusals.lock();
            *left = left.saturating_sub(1);
            if *left == 0 { Ok(()) } else { Err(ReceiverError::Program("not now".to_owned())) }
        }
    }

    fn note(state: &NodeState, role: Role, epoch: u64) {
        state.roles.note(vec![SiteRecord::new("s".parse().unwrap(), role, epoch)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_notice_is_repeated_until_it_is_taken_and_a_newer_one_replaces_it() {
        let context = NodeContext::in_memory();
        let state = NodeState::load(&context, Duration::from_millis(1)).unwrap();
        let (receiver, writes) = (Arc::new(Stubborn::default()), Arc::new(AtomicBool::new(false)));
        let takes = Arc::clone(&writes);
        let takes: TakesWrites = Arc::new(move || takes.load(Ordering::Relaxed));
        let stage = HandOver::new(&context, &state, takes, receiver.clone(), 1);
        let told = stage.told();
        let running = tokio::spawn(stage.run());
        sleep(LOOK * 3).await;
        assert!(receiver.tries.lock().is_empty(), "the role is not known yet");
        *receiver.refusals.lock() = 3;
        note(&state, Role::Standby, 4);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(*receiver.tries.lock(), [(Role::Standby, 4, false); 3]);
        assert_eq!(told.lock().told.as_ref().map(|notice| notice.epoch), Some(4));
        receiver.tries.lock().clear();
        *receiver.refusals.lock() = u32::MAX;
        note(&state, Role::Active, 5);
        sleep(Duration::from_secs(300)).await;
        assert!(told.lock().problem.is_some() && receiver.tries.lock().len() < 40);
        receiver.tries.lock().clear();
        *receiver.refusals.lock() = 1;
        writes.store(true, Ordering::Relaxed);
        sleep(LOOK * 3).await;
        assert_eq!(*receiver.tries.lock(), [(Role::Active, 5, true)], "the newer notice does not wait for the pause");
        assert_eq!(*receiver.last.lock(), 3);
        assert_eq!(told.lock().problem, None);
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_asks_for_it_gets_the_notice_again() {
        let context = NodeContext::in_memory();
        let state = NodeState::load(&context, Duration::from_millis(1)).unwrap();
        note(&state, Role::Active, 1);
        for (again_after, tries) in [(None, 1), (Some(Duration::from_secs(60)), 5)] {
            let receiver = Arc::new(Stubborn { again_after, ..Stubborn::default() });
            let stage = HandOver::new(&context, &state, Arc::new(|| true), receiver.clone(), 1);
            let running = tokio::spawn(stage.run());
            sleep(Duration::from_secs(270)).await;
            assert_eq!(*receiver.tries.lock(), vec![(Role::Active, 1, true); tries], "{again_after:?}");
            assert_eq!(*receiver.last.lock(), 1, "it is the same notice");
            running.abort();
        }
    }
}
