//! Scenarios: durations, numbers and rates. A scenario only adjusts the general faults and the general workload. None
//! has a fault of its own.

use std::collections::BTreeMap;

use lockstep::base::faults::injected_bug::InjectedBug;
use lockstep::seams::refdb::staged::WRITE_ITEMS;

use super::faults::{Rates, Seam};
use super::read_limits::ReadLimits;

/// An action of the nemesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// A process dies, and is started again.
    Crash,
    /// A machine loses power, and is started again.
    PowerCut,
    /// A volume is lost. The node is started again with an empty one.
    LoseDisk,
    /// A volume is put back to an earlier state, on the same boot. The node is started again.
    PutBack,
    /// A process is paused for a while.
    Pause,
    /// A link is cut for a while, in one direction or both.
    Partition,
    /// A process is stopped in an orderly way, and started again.
    Restart,
    /// Shards are split or merged.
    Reshard,
    /// Old records are appended to a stream again.
    Replay,
    /// A record that is not a transaction is appended to a stream.
    BadRecord,
    /// A record that can be read as a transaction, but was never committed, is appended to a stream.
    Forge,
    /// A node's wall clock is set to another time.
    ClockJump,
    /// A site is fenced, and later made active again.
    Fence,
    /// A transaction is committed whose content every node holds as bad.
    BadCommit,
    /// One shard of a stream throttles for a while.
    ThrottleShard,
    /// One partition of the refdb throttles for a while.
    ThrottlePartition,
    /// All nodes of a site are down for longer than any lease.
    SiteDown,
    /// An operator moves the writes of a site to another one, or brings a fenced site back as a standby.
    Failover,
}

/// A kind of request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// A new branch, or a fast-forward of an existing one.
    Advance,
    /// A forced push of an unrelated commit.
    Force,
    /// A forced push back to an earlier value of the branch.
    Back,
    /// A deletion of a branch.
    Delete,
    /// A new branch whose name excludes an existing one.
    NameConflict,
    /// Several refs at once, as in a change (patch set and meta).
    Batch,
    /// A push on top of objects of another push, which may be committed or not.
    Stacked,
    /// Another target for `HEAD`.
    Head,
    /// A deletion of a project. A client that misses a project creates it again.
    DeleteProject,
}

/// The number of items in one write of the refdb. A transaction with more items is committed under locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// As many as in DynamoDB. No client's transaction has more.
    Whole,
    /// Two. Every transaction of several refs is committed under locks.
    Staged,
    /// `Staged` in runs with an even seed, `Whole` in the others.
    BySeed,
}

impl Writes {
    /// The largest number of items, in the run of a seed.
    #[must_use]
    pub fn items(self, seed: u64) -> usize {
        let is_staged = match self {
            Self::Whole => false,
            Self::Staged => true,
            Self::BySeed => seed.is_multiple_of(2),
        };
        if is_staged { 2 } else { WRITE_ITEMS }
    }
}

/// The settings of one run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The name of the scenario, for reports.
    pub name: String,
    /// The duration of the safety phase, in virtual milliseconds.
    pub safety_ms: u64,
    /// The limit for convergence after healing, in virtual milliseconds.
    pub converge_ms: u64,
    /// The interval between two checks of everything, in virtual milliseconds.
    pub tick_ms: u64,
    /// The number of clients per site.
    pub clients: u64,
    /// The share of commits after which a client posts a stream event, in permille.
    pub events: u64,
    /// The share of requests that are an earlier one again, long after its answer, in permille.
    pub repeats: u64,
    /// The longest pause of a client between two requests, in virtual milliseconds.
    pub think_ms: u64,
    /// The number of nodes at each site, one or two.
    pub nodes: [usize; 3],
    /// The number of projects.
    pub projects: u64,
    /// The number of branches per project, for which clients compete.
    pub branches: u64,
    /// The number of shards per stream at the start.
    pub shards: u32,
    /// The longest pause between two actions of the nemesis, in virtual milliseconds.
    pub nemesis_ms: u64,
    /// The actions of the nemesis, with their weights.
    pub actions: Vec<(Action, u64)>,
    /// The requests of clients, with their weights.
    pub asks: Vec<(Ask, u64)>,
    /// The rate at which a Gerrit dies, in permille of its rounds of work and of its commits.
    pub gerrit_dies: u64,
    /// The longest time that a Gerrit works on one subject, in virtual milliseconds.
    pub gerrit_ms: u64,
    /// The faults of the links, per seam.
    pub rates: BTreeMap<Seam, Rates>,
    /// The limits of reading the streams.
    pub reads: ReadLimits,
    /// The size of the writes of the refdb.
    pub writes: Writes,
    /// The number of projects whose partition or shard may throttle, beginning with the first.
    pub throttled_projects: u64,
    /// The longest wait of a client for an answer about a project that never throttles, in virtual milliseconds. None
    /// if other faults may delay it too.
    pub answer_ms: Option<u64>,
    /// The share of reads of several items that take their time from item to item, in permille.
    pub torn_reads: u64,
    /// Whether one site alone is active, at the start the first one by name.
    pub one_active: bool,
    /// Whether one site's volumes are lost at the end, so that it must recover.
    pub lose_a_site: bool,
    /// Whether a node is away beyond retention at the end, and then comes back.
    pub expel_a_node: bool,
    /// Whether the refdb is replaced by an older backup in the middle. The run ends without convergence.
    pub rewind: bool,
}

impl Scenario {
    /// All faults at once, at moderate rates.
    #[must_use]
    pub fn general() -> Self {
        Self {
            name: "general".into(),
            safety_ms: 60_000,
            converge_ms: 180_000,
            tick_ms: 20,
            clients: 2,
            events: 400,
            repeats: 60,
            think_ms: 400,
            nodes: [2; 3],
            projects: 2,
            branches: 3,
            shards: 2,
            nemesis_ms: 4_000,
            actions: vec![
                (Action::Crash, 6),
                (Action::PowerCut, 4),
                (Action::Pause, 4),
                (Action::Partition, 6),
                (Action::Restart, 2),
                (Action::Reshard, 3),
                (Action::Replay, 4),
                (Action::BadRecord, 1),
                (Action::Forge, 4),
                (Action::ClockJump, 2),
                (Action::Fence, 1),
                (Action::ThrottleShard, 3),
                (Action::ThrottlePartition, 2),
                (Action::SiteDown, 1),
                (Action::PutBack, 2),
            ],
            asks: vec![
                (Ask::Advance, 10),
                (Ask::Force, 3),
                (Ask::Back, 3),
                (Ask::Delete, 3),
                (Ask::NameConflict, 3),
                (Ask::Batch, 5),
                (Ask::Stacked, 3),
                (Ask::Head, 2),
                (Ask::DeleteProject, 1),
            ],
            gerrit_dies: 10,
            gerrit_ms: 60,
            rates: general_rates(),
            reads: ReadLimits { records: 8, bytes: 4_000, shard_reads: 40, shard_bytes: 40_000 },
            writes: Writes::BySeed,
            throttled_projects: 2,
            answer_ms: None,
            torn_reads: 300,
            one_active: false,
            lose_a_site: false,
            expel_a_node: false,
            rewind: false,
        }
    }

    /// Whether calls to the refdb fail at most as often as in the general scenario. If they fail more often, that is
    /// the fault that keeps a node from going on, and nobody's availability is judged.
    #[must_use]
    pub fn judges_availability(&self) -> bool {
        let failing = |rates: &Rates| rates.fail_before + rates.lose_request + rates.lose_answer + rates.late;
        let of_refdb = |all: &BTreeMap<Seam, Rates>| all.get(&Seam::RefDb).map_or(0, failing);
        of_refdb(&self.rates) <= of_refdb(&general_rates())
    }

    /// The general scenario without faults. A violation here has no fault as its cause.
    #[must_use]
    pub fn calm() -> Self {
        Self { name: "calm".into(), actions: Vec::new(), rates: BTreeMap::new(), gerrit_dies: 0, ..Self::general() }
    }

    /// The general scenario with lost volumes, at the end those of a whole site.
    #[must_use]
    pub fn losses() -> Self {
        let mut scenario = Self { name: "losses".into(), lose_a_site: true, ..Self::general() };
        scenario.actions.push((Action::LoseDisk, 6));
        scenario
    }

    /// The general scenario with a node that is expelled at the end and comes back.
    #[must_use]
    pub fn expulsion() -> Self {
        Self { name: "expulsion".into(), expel_a_node: true, safety_ms: 20_000, ..Self::general() }
    }

    /// One active site, and operators that move its writes while nodes die, pause and are cut off.
    #[must_use]
    pub fn standby() -> Self {
        let mut scenario = Self { name: "standby".into(), one_active: true, nemesis_ms: 3_000, ..Self::general() };
        scenario.actions.retain(|(action, _)| !matches!(action, Action::Fence | Action::SiteDown | Action::Forge));
        scenario.actions.push((Action::Failover, 30));
        scenario
    }

    /// A refdb that goes back in time. No call takes effect long after it was sent, and no node is cut off without
    /// being down, so that a node that takes a new commit could have known.
    #[must_use]
    pub fn rewound() -> Self {
        let mut scenario = Self { name: "rewound".into(), rewind: true, events: 0, ..Self::general() };
        let unknowing = [Action::Pause, Action::Partition, Action::Fence, Action::PutBack];
        scenario.actions.retain(|(action, _)| !unknowing.contains(action));
        scenario.rates.values_mut().for_each(|rates| rates.late = 0);
        scenario
    }

    /// The general scenario, adjusted so that an injected bug shows often.
    #[must_use]
    pub fn for_bug(bug: InjectedBug) -> Self {
        let mut scenario =
            Self { name: format!("{bug:?}"), converge_ms: 90_000, writes: Writes::Whole, ..Self::general() };
        scenario.asks.retain(|(ask, _)| *ask != Ask::DeleteProject);
        scenario.events = 0;
        scenario.turn_towards(bug);
        scenario
    }

    fn turn_towards(&mut self, bug: InjectedBug) {
        use InjectedBug as P;
        match bug {
            P::ResendOtherBytes => self.commits_fail(|rates| (rates.late, rates.lose_answer) = (120, 120)),
            P::RequestsForgotten => {
                self.repeats = 400;
                self.more(Ask::Back, 12);
                (self.branches, self.projects) = (3, 1);
                self.act(&[(Action::Crash, 10), (Action::Restart, 4)]);
            }
            P::PromotedUnsettled => self.among_failovers(),
            P::OlderRefdbNotSeen => *self = Self { name: self.name.clone(), ..Self::rewound() },
            P::RefusedInFlight => {
                self.commits_fail(|rates| (rates.late, rates.late_ms) = (250, 8_000));
                self.more(Ask::NameConflict, 20);
                self.more(Ask::Delete, 10);
            }
            P::ErrorAsAbsent | P::ValueWithoutVersion => self.with_slow_readers(bug),
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
            P::WindowNotPoisoned | P::PausedNodeGoesOn | P::FencedReopens => {
                self.commits_fail(|rates| (rates.late, rates.late_ms) = (100, 20_000));
                self.act(&[(Action::Fence, 10), (Action::Pause, 10), (Action::Crash, 10)]);
            }
            P::OwnStreamSkipped => self.act(&[(Action::PowerCut, 5), (Action::Crash, 5)]),
            P::BatchCaughtUpInPart => {
                self.more(Ask::Batch, 40);
                self.act(&[(Action::Pause, 10), (Action::Partition, 10)]);
            }
            P::LongFormAfterSlot => self.with_long_forms(&[(Action::Partition, 10), (Action::Crash, 5)]),
            P::LongFormDroppedEarly => self.with_long_forms(&[(Action::Pause, 10), (Action::Partition, 10)]),
            P::NameConflictCommitted => self.more(Ask::NameConflict, 30),
            P::CollectBelowSlowNode => self.act(&[(Action::Pause, 20), (Action::Partition, 10), (Action::Crash, 5)]),
            P::TombstoneForgotten => {
                self.more(Ask::Delete, 20);
                self.act(&[(Action::Replay, 20), (Action::Crash, 3)]);
            }
            P::MarkAfterMap => {
                self.act(&[(Action::Crash, 20)]);
                (self.branches, self.gerrit_ms, self.gerrit_dies) = (8, 200, 0);
            }
            P::AckForgetsNewer => (self.branches, self.gerrit_ms) = (8, 200),
            P::OwnNotRefreshed | P::AckedNotKept => (self.branches, self.gerrit_dies) = (8, 60),
            P::EventBeforeRefs => {
                self.events = 1_000;
                self.act(&[(Action::Pause, 10), (Action::Partition, 10), (Action::Crash, 5), (Action::PowerCut, 5)]);
            }
            P::CheckpointBeforeEvent => {
                self.events = 1_000;
                self.act(&[(Action::Crash, 14), (Action::PowerCut, 6)]);
            }
            P::OpenLockTaken | P::LockNotRead | P::LockOutlivesSlot | P::ReleasedUnpoisoned | P::LockedNameMarked => {
                self.under_locks(bug)
            }
            P::MarkPassesRefused | P::BeatWaitsForPublish | P::ThrottledKeepsSlot | P::NobodyElseAdopts => {
                self.while_a_part_is_away(bug)
            }
            P::OriginJudgesNothing | P::ReceiversJudgeTaste => self.think_ms = 150,
            P::HeldCollected | P::LeftoverForgotten | P::ShortReadIsEnd => self.behind(bug),
            P::PackAgainstUncommitted => {
                self.more(Ask::Stacked, 30);
                self.commits_fail(|rates| (rates.conflict, rates.lose_request) = (150, 80));
            }
        }
    }

    /// Lets nodes be behind for long on the only branch, so that they must ask the refdb.
    fn with_slow_readers(&mut self, bug: InjectedBug) {
        (self.branches, self.projects) = (1, 1);
        if bug == InjectedBug::ErrorAsAbsent {
            self.commits_fail(|rates| (rates.fail_before, rates.lose_request, rates.lose_answer) = (250, 60, 150));
            self.act(&[(Action::ThrottleShard, 10), (Action::Crash, 2)]);
            self.think_ms = 150;
        } else {
            self.more(Ask::Back, 30);
            self.act(&[(Action::ThrottleShard, 10), (Action::Pause, 4)]);
        }
    }

    /// Moves the writes of a site whose nodes are paused or cut off.
    fn among_failovers(&mut self) {
        *self = Self { name: self.name.clone(), events: 0, repeats: 0, ..Self::standby() };
        self.act(&[(Action::Failover, 10), (Action::Pause, 10), (Action::Partition, 5)]);
    }

    /// Takes a stream, a partition or a site away for a while.
    fn while_a_part_is_away(&mut self, bug: InjectedBug) {
        use InjectedBug as P;
        match bug {
            P::MarkPassesRefused => self.act(&[(Action::ThrottleShard, 10), (Action::Crash, 3)]),
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

    /// Nodes that are behind, and the journal that is kept for them.
    fn behind(&mut self, bug: InjectedBug) {
        use InjectedBug as P;
        match bug {
            P::HeldCollected => self.act(&[(Action::BadCommit, 10), (Action::Crash, 3)]),
            P::LeftoverForgotten => {
                self.rates.entry(Seam::RefDb).or_default().part = 400;
                self.act(&[(Action::Crash, 10), (Action::Restart, 10)]);
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
                self.commits_fail(|rates| rates.fail_before = 250);
                self.act(&[(Action::Partition, 1)]);
                (self.branches, self.think_ms) = (6, 150);
            }
            InjectedBug::ReleasedUnpoisoned => {
                self.commits_fail(|rates| (rates.late, rates.late_ms, rates.fail_before) = (200, 500, 150));
                // Nodes must stay up, so that a late release can meet a commit that continues.
                self.act(&[(Action::Replay, 1)]);
                self.rates.values_mut().for_each(|rates| (rates.few, rates.part) = (0, 0));
                self.think_ms = 150;
            }
            InjectedBug::LockedNameMarked => {
                self.more(Ask::NameConflict, 60);
                (self.branches, self.think_ms) = (20, 150);
            }
            InjectedBug::LockOutlivesSlot => {
                self.commits_fail(|rates| (rates.fail_before, rates.lose_request) = (150, 50));
                // Nodes die between the commit point and the last step, and nobody moves the ref afterwards.
                self.act(&[(Action::Crash, 10), (Action::Partition, 5)]);
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

    fn commits_fail(&mut self, turn: impl FnOnce(&mut Rates)) {
        turn(self.rates.entry(Seam::RefDb).or_default());
    }
}

fn general_rates() -> BTreeMap<Seam, Rates> {
    let remote = Rates {
        fail_before: 20,
        lose_request: 15,
        lose_answer: 15,
        late: 15,
        duplicate: 20,
        conflict: 20,
        reorder: 200,
        few: 200,
        part: 100,
        delay_ms: 40,
        timeout_ms: 1_000,
        late_ms: 6_000,
    };
    let disk = Rates { fail_before: 2, lose_answer: 2, delay_ms: 4, ..Rates::default() };
    let gerrit = Rates { fail_before: 30, lose_request: 20, lose_answer: 20, ..Rates::default() };
    let store = Rates { delay_ms: 4, ..Rates::default() };
    BTreeMap::from([
        (Seam::RefDb, remote),
        (Seam::EventLog, remote),
        (Seam::Blobs, remote),
        (Seam::Peers, remote),
        (Seam::Repositories, disk),
        (Seam::Store, store),
        (Seam::Gerrit, gerrit),
    ])
}
