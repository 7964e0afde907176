//! The scenarios of the injected bugs. Each one turns the general faults and the general workload towards the moments
//! at which its bug does harm: more of the operations that matter and fewer others, and delays where the race is.

use std::collections::BTreeMap;

use lockstep::base::faults::injected_bug::InjectedBug;

use super::action::Action;
use super::faults::{Rates, Seam};
use super::scenario::{Ask, Scenario, Writes};

impl Scenario {
    /// The general scenario, adjusted so that an injected bug shows often.
    #[must_use]
    pub fn for_bug(bug: InjectedBug) -> Self {
        let mut scenario =
            Self { name: format!("{bug:?}"), converge_ms: 90_000, writes: Writes::Whole, ..Self::general() };
        scenario.asks.retain(|(ask, _)| *ask != Ask::DeleteProject);
        scenario.events = 0;
        scenario.turn_towards(bug);
        scenario.retentions = if bug == InjectedBug::TrimSkipped { 1_000 } else { 0 };
        scenario
    }

    fn turn_towards(&mut self, bug: InjectedBug) {
        use InjectedBug as P;
        match bug {
            P::ResendOtherBytes => self.commits_fail(|rates| (rates.late, rates.lose_answer) = (120, 120)),
            P::RequestsForgotten => self.with_repeats(),
            P::PromotedUnsettled => self.among_failovers(),
            P::RemovedWhileActive => *self = Self { name: self.name.clone(), ..Self::site_list() },
            P::ReadyBeforeWhole => *self = Self { name: self.name.clone(), ..Self::rebuilt() },
            P::OlderRefdbNotSeen => *self = Self { name: self.name.clone(), ..Self::rewound() },
            P::RefusedInFlight => {
                self.commits_fail(|rates| (rates.late, rates.late_ms) = (250, 8_000));
                self.more(Ask::NameConflict, 20);
                self.more(Ask::Delete, 10);
            }
            P::ErrorAsAbsent | P::ValueWithoutVersion | P::EventualRead => self.with_slow_readers(bug),
            P::CheckpointBeforeApply | P::MapBeforeRefs => self.act(&[(Action::PowerCut, 10), (Action::Crash, 10)]),
            P::RefsBeforeObjects | P::MissingBaseIsBad => {
                self.act(&[(Action::Pause, 10), (Action::Partition, 10), (Action::Crash, 5)]);
                self.projects = 1;
                self.think_ms = 150;
            }
            P::ChildBeforeParent => self.act(&[(Action::Reshard, 20), (Action::Pause, 4), (Action::Crash, 4)]),
            P::SettledOverUnresolved => {
                self.commits_fail(|rates| (rates.late, rates.lose_request) = (100, 100));
                self.act(&[(Action::Partition, 10), (Action::Crash, 5)]);
            }
            P::PausedNodeGoesOn => {
                // No crash and no fence ends the node that goes on, and its sibling is awake to adopt its journal.
                self.act(&[(Action::Pause, 1)]);
                (self.nemesis_ms, self.clients, self.think_ms) = (9_000, 4, 150);
            }
            P::WindowNotPoisoned | P::FencedReopens => {
                self.commits_fail(|rates| (rates.late, rates.late_ms) = (100, 20_000));
                self.act(&[(Action::Fence, 10), (Action::Pause, 10), (Action::Crash, 10)]);
            }
            P::DigestMissesDeletion | P::DigestMissesOverlay => self.more(Ask::Delete, 20),
            P::OwnStreamSkipped => self.act(&[(Action::PowerCut, 5), (Action::Crash, 5)]),
            P::BatchCaughtUpInPart => {
                self.more(Ask::Batch, 40);
                self.act(&[(Action::Pause, 10), (Action::Partition, 10)]);
            }
            P::TornScanTaken => self.with_torn_scans(),
            P::SiblingSkipsGap => self.with_siblings(),
            P::ScaledUnwritten => self.with_lost_notes(),
            P::SnapshotKeepsMarks => {
                self.act(&[(Action::PutBack, 10), (Action::Crash, 2)]);
                self.think_ms = 150;
            }
            P::LongFormAfterSlot => self.with_long_forms(&[(Action::Partition, 10), (Action::Crash, 5)]),
            P::LongFormDroppedEarly => self.with_long_forms(&[(Action::Pause, 10), (Action::Partition, 10)]),
            P::NameConflictCommitted => self.more(Ask::NameConflict, 30),
            P::CollectBelowSlowNode => self.act(&[(Action::Pause, 20), (Action::Partition, 10), (Action::Crash, 5)]),
            P::TombstoneForgotten => {
                self.more(Ask::Delete, 20);
                self.act(&[(Action::Replay, 20), (Action::Crash, 3)]);
            }
            P::MarkAfterMap => self.with_refs_at_rest(),
            P::AckForgetsNewer => (self.branches, self.gerrit_ms) = (8, 200),
            P::OwnNotRefreshed | P::AckedNotKept => (self.branches, self.gerrit_dies) = (8, 60),
            P::EventBeforeRefs | P::CheckpointBeforeEvent => self.with_events(bug),
            P::OpenLockTaken | P::LockNotRead | P::LockOutlivesSlot | P::ReleasedUnpoisoned | P::LockedNameMarked => {
                self.under_locks(bug)
            }
            P::MarkPassesRefused => self.act(&[(Action::ThrottleShard, 10), (Action::Crash, 3)]),
            P::BeatWaitsForPublish | P::ThrottledKeepsSlot | P::NobodyElseAdopts => self.while_a_part_is_away(bug),
            P::TrimSkipped | P::CommitWaitsForSites => self.away_for_long(bug),
            P::LookBeforeBarrier | P::MarksOutliveIncarnation => self.with_folders(bug),
            P::OriginJudgesNothing | P::ReceiversJudgeTaste => self.think_ms = 150,
            P::HeldCollected | P::LeftoverForgotten | P::ShortReadIsEnd => self.behind(bug),
            P::PackNotSigned | P::VersionsNotSigned | P::AdopterSignsNothing | P::RequirementIgnored => {
                self.with_signatures(bug);
            }
            P::PackAgainstUncommitted => {
                self.more(Ask::Stacked, 30);
                self.commits_fail(|rates| (rates.conflict, rates.lose_request) = (150, 80));
            }
        }
    }

    /// Many refs that seldom move: no later move makes up for a lost mark.
    fn with_refs_at_rest(&mut self) {
        self.act(&[(Action::Crash, 20)]);
        (self.projects, self.branches, self.clients, self.think_ms) = (4, 10, 1, 2_000);
        (self.gerrit_ms, self.gerrit_dies, self.nemesis_ms) = (1_500, 0, 4_000);
    }

    /// Has nodes take the state of their project from a scan while they serve, and while transactions of several refs
    /// are committed. A node that starts is no good: it reads the project once more, and the streams, before it serves.
    /// A record that waits for an object which does not exist leads to such a scan when it has waited for too long.
    fn with_torn_scans(&mut self) {
        self.more(Ask::Batch, 40);
        self.act(&[(Action::Forge, 1)]);
        (self.torn_reads, self.torn_ms, self.nemesis_ms) = (1_000, 120, 1_000);
        (self.projects, self.clients, self.think_ms) = (1, 4, 150);
    }

    /// Has one node of a site read for the other, and begin again often, so that the other one is behind its buffer.
    /// Many refs: the next move of a ref would make up for one that was missed.
    fn with_siblings(&mut self) {
        self.act(&[(Action::Crash, 10), (Action::Pause, 4)]);
        self.shares = Some(2);
        (self.branches, self.clients, self.think_ms) = (12, 4, 100);
    }

    /// Has autoscalers whose writes are often lost.
    fn with_lost_notes(&mut self) {
        *self = Self { name: self.name.clone(), ..Self::autoscaled() };
        let usual = self.calls.get("put_document").copied().unwrap_or_default();
        self.calls.insert("put_document", Rates { fail_before: 200, lose_request: 300, ..usual });
    }

    /// Records are signed, and somebody forges them.
    fn with_signatures(&mut self, bug: InjectedBug) {
        self.signed = true;
        match bug {
            InjectedBug::AdopterSignsNothing => {
                self.act(&[(Action::Crash, 10), (Action::ThrottleShard, 4)]);
                self.think_ms = 150;
            }
            _ => self.act(&[(Action::Forge, 10), (Action::ThrottleShard, 1)]),
        }
    }

    /// Has an event beside every commit.
    fn with_events(&mut self, bug: InjectedBug) {
        self.events = 1_000;
        match bug {
            InjectedBug::CheckpointBeforeEvent => self.act(&[(Action::Crash, 14), (Action::PowerCut, 6)]),
            _ => self.act(&[(Action::Pause, 10), (Action::Partition, 10), (Action::Crash, 5), (Action::PowerCut, 5)]),
        }
    }

    /// Repeats requests long afterwards.
    fn with_repeats(&mut self) {
        self.repeats = 400;
        self.more(Ask::Back, 12);
        self.act(&[(Action::Crash, 1), (Action::Restart, 1)]);
        // Nodes live long enough for the journal to be collected between two starts.
        self.calls_fail("slot", |rates| (rates.fail_before, rates.lose_request, rates.lose_answer) = (0, 0, 0));
        (self.branches, self.projects, self.think_ms, self.nemesis_ms) = (3, 1, 150, 5_000);
    }

    /// Lets nodes be behind for long on the only branch, so that they must ask the refdb.
    fn with_slow_readers(&mut self, bug: InjectedBug) {
        (self.branches, self.projects) = (1, 1);
        match bug {
            InjectedBug::ErrorAsAbsent => {
                self.commits_fail(|rates| (rates.fail_before, rates.lose_request, rates.lose_answer) = (250, 60, 150));
                self.act(&[(Action::ThrottleShard, 10), (Action::Crash, 2)]);
                self.think_ms = 150;
            }
            InjectedBug::EventualRead => {
                self.act(&[(Action::ThrottleShard, 10), (Action::Crash, 2)]);
                (self.think_ms, self.stale) = (150, 4);
            }
            _ => {
                self.more(Ask::Back, 30);
                self.act(&[(Action::ThrottleShard, 10), (Action::Pause, 4)]);
            }
        }
    }

    /// Moves the writes of a site whose nodes are paused or cut off.
    fn among_failovers(&mut self) {
        *self = Self { name: self.name.clone(), events: 0, repeats: 0, ..Self::standby() };
        self.act(&[(Action::Failover, 10), (Action::Pause, 4)]);
        // The only node of the source is paused, so that no sibling adopts its journal. The target lacks nothing and
        // the refdb answers, so that the failover is faster than the lease.
        (self.nodes, self.aim, self.clients, self.think_ms) = ([1; 3], 900, 1, 3_000);
        (self.aborts, self.nemesis_ms) = (20, 1_500);
        self.commits_fail(|rates| {
            (rates.fail_before, rates.lose_request, rates.lose_answer, rates.late) = (5, 5, 5, 5)
        });
    }

    /// Takes a stream, a partition or a site away for a while.
    fn while_a_part_is_away(&mut self, bug: InjectedBug) {
        use InjectedBug as P;
        match bug {
            P::BeatWaitsForPublish => self.act(&[(Action::ThrottleShard, 10), (Action::Crash, 10)]),
            P::ThrottledKeepsSlot => {
                self.act(&[(Action::ThrottlePartition, 1)]);
                (self.rates, self.gerrit_dies) = (BTreeMap::new(), 0);
                (self.projects, self.throttled_projects, self.clients) = (4, 1, 8);
                self.answer_ms = Some(3_000);
            }
            P::NobodyElseAdopts => {
                self.act(&[(Action::SiteDown, 1)]);
                self.nemesis_ms = 24_000;
            }
            _ => {}
        }
    }

    /// Takes nodes away for longer than streams keep records, or than clients wait.
    fn away_for_long(&mut self, bug: InjectedBug) {
        if bug == InjectedBug::TrimSkipped {
            self.act(&[(Action::Pause, 10), (Action::Partition, 10), (Action::Crash, 10), (Action::SiteDown, 2)]);
            // Many refs: the next move of a ref would make up for one that was missed.
            (self.branches, self.think_ms) = (12, 150);
        } else {
            self.act(&[(Action::SiteDown, 1)]);
            (self.nemesis_ms, self.projects, self.clients, self.think_ms) = (24_000, 1, 6, 150);
        }
    }

    /// Nodes that are behind, and the journal that is kept for them.
    fn behind(&mut self, bug: InjectedBug) {
        use InjectedBug as P;
        match bug {
            P::HeldCollected => self.act(&[(Action::BadCommit, 10), (Action::Crash, 3)]),
            P::LeftoverForgotten => {
                self.rates.entry(Seam::RefDb).or_default().part = 700;
                // A run of the collector reads many slots, and one read that fails ends it.
                self.calls_fail("slot", |rates| (rates.fail_before, rates.lose_request, rates.lose_answer) = (0, 0, 0));
                self.act(&[(Action::Crash, 1)]);
                // The only node of a site dies between two tries of a collection: nobody remembers the slots that are
                // left.
                (self.nodes, self.nemesis_ms, self.clients, self.think_ms) = ([1; 3], 12_000, 3, 150);
            }
            P::ShortReadIsEnd => {
                let rates = self.rates.entry(Seam::EventLog).or_default();
                (rates.few, rates.delay_ms) = (1_000, 300);
                self.act(&[(Action::Crash, 20)]);
                self.think_ms = 150;
            }
            _ => {}
        }
    }

    /// Commits every transaction of several refs under locks, and lets them meet.
    fn under_locks(&mut self, bug: InjectedBug) {
        self.writes = Writes::Staged;
        self.more(Ask::Batch, 30);
        (self.branches, self.projects) = (1, 1);
        match bug {
            InjectedBug::LockNotRead => {
                // The refs of committed transactions keep their locks for long.
                self.calls_fail("flip", |rates| rates.fail_before = 800);
                self.act(&[(Action::Partition, 1)]);
                (self.branches, self.think_ms, self.stale) = (6, 150, 4);
            }
            InjectedBug::ReleasedUnpoisoned => {
                // A lock gets no answer in time, so the same transaction is sent again. Its release arrives late,
                // while a later copy of it is between its locks and its slot.
                self.calls_fail("lock", |rates| (rates.lose_request, rates.timeout_ms) = (400, 2_500));
                self.calls_fail("release", |rates| (rates.late, rates.late_ms, rates.timeout_ms) = (950, 1_500, 500));
                self.calls_fail("seal", |rates| rates.delay_ms = 600);
                // Nodes must stay up, so that a late release can meet a commit that continues.
                self.act(&[(Action::Replay, 1)]);
                // The branch is locked often and moves seldom, so that a later copy is not stale.
                self.asks = vec![(Ask::Batch, 1)];
                (self.clients, self.think_ms, self.safety_ms) = (6, 100, 120_000);
            }
            InjectedBug::LockedNameMarked => {
                self.more(Ask::NameConflict, 60);
                (self.branches, self.think_ms) = (20, 150);
            }
            InjectedBug::LockOutlivesSlot => {
                // Refs keep the locks of committed transactions, and nobody else meets them before the collector comes.
                self.calls_fail("flip", |rates| rates.fail_before = 850);
                self.act(&[(Action::Replay, 1)]);
                (self.branches, self.projects, self.think_ms) = (60, 2, 100);
            }
            _ => self.commits_fail(|rates| (rates.late, rates.late_ms, rates.lose_answer) = (80, 3_000, 60)),
        }
    }

    /// Gives every transaction of several refs a long form.
    fn with_long_forms(&mut self, actions: &[(Action, u64)]) {
        self.writes = Writes::Staged;
        self.more(Ask::Batch, 30);
        self.act(actions);
    }

    fn act(&mut self, actions: &[(Action, u64)]) {
        self.actions = actions.to_vec();
        self.nemesis_ms = 2_500;
    }

    fn more(&mut self, ask: Ask, weight: u64) {
        self.asks.retain(|(other, _)| *other != ask);
        self.asks.push((ask, weight));
    }

    /// Changes the faults of one kind of call to the refdb, and of no other.
    fn calls_fail(&mut self, call: &'static str, turn: impl FnOnce(&mut Rates)) {
        let usual = self.rates.get(&Seam::RefDb).copied().unwrap_or_default();
        turn(self.calls.entry(call).or_insert(usual));
    }

    pub(super) fn commits_fail(&mut self, turn: impl FnOnce(&mut Rates)) {
        turn(self.rates.entry(Seam::RefDb).or_default());
    }
}
