//! Scenarios: durations, numbers and rates. A scenario only adjusts the general faults and the general workload. None
//! has a fault of its own. Those of the injected bugs are in `towards`.

use std::collections::BTreeMap;

use lockstep::seams::refdb::staged::WRITE_ITEMS;

use super::action::Action;
use super::dice::Dice;
use super::faults::{Rates, Seam, general_rates};
use super::read_limits::ReadLimits;

/// The dice that decide whether streams forget records, and when.
pub const RETENTION: &str = "retention of streams";
/// The shortest and the longest retention, in virtual milliseconds. A site is down for 30 seconds or more.
const KEEPS_MS: (u64, u64) = (6_000, 40_000);

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
    /// The deletion of a branch in a folder; if it is empty, the creation of a branch with the folder's name; if there
    /// is one, its deletion.
    Folder,
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
    /// One, as in a table without transactions. Every transaction is committed under locks.
    SingleItem,
    /// `Staged` in runs with an even seed, `Whole` in the others.
    BySeed,
}

impl Writes {
    /// The largest number of items that a node asks for, in the run of a seed. A store that takes single items tells so
    /// itself.
    #[must_use]
    pub fn items(self, seed: u64) -> usize {
        let is_staged = match self {
            Self::Whole | Self::SingleItem => false,
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
    /// The share of commands that expect an earlier value of their ref, as a clone does that is behind, in tenths.
    pub stale: u64,
    /// The longest pause of a client between two requests, in virtual milliseconds.
    pub think_ms: u64,
    /// The number of nodes at each site, one to three.
    pub nodes: [usize; 3],
    /// The number of projects.
    pub projects: u64,
    /// The number of branches per project, for which clients compete.
    pub branches: u64,
    /// The number of shards per stream at the start.
    pub shards: u32,
    /// The longest pause between two actions of the nemesis, in virtual milliseconds.
    pub nemesis_ms: u64,
    /// The share of its actions on one node that strike a node of an active site, in permille. The others strike any
    /// node.
    pub aim: u64,
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
    /// The faults of single kinds of remote calls, in place of those of their seam. The first word of a call's text is
    /// its kind, such as `flip`.
    pub calls: BTreeMap<&'static str, Rates>,
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
    /// The longest pause of such a read between two items, in virtual milliseconds.
    pub torn_ms: u64,
    /// The share of runs in which streams forget old records, in permille. Dice of their own decide.
    pub retentions: u64,
    /// Whether every node signs, records must be signed, and somebody who can write to the streams forges them well.
    pub signed: bool,
    /// Whether every node verifies itself in the background, all the time.
    pub verifies: bool,
    /// The most records in the buffers of a node, if the nodes of a site share the reads of streams. None if each node
    /// reads alone.
    pub shares: Option<usize>,
    /// Whether the load of the streams jumps, and autoscalers set the numbers of their shards.
    pub autoscales: bool,
    /// Whether one site alone is active, at the start the first one by name.
    pub one_active: bool,
    /// Whether a site is added to the list of sites, and another one removed.
    pub list_moves: bool,
    /// The share of steps of a failover whose driver dies, pauses or is cut off soon after it has begun them, in
    /// permille. Then every failover has a bound on the loss, which is a step.
    pub strikes: u64,
    /// The share of failovers that an operator has pause before the promotion, in permille.
    pub pauses: u64,
    /// The share of an operator's looks at a failover in progress that abort it, in permille. The others resume it.
    pub aborts: u64,
    /// Whether one site's volumes are lost at the end, so that it must recover.
    pub lose_a_site: bool,
    /// Whether a node is away beyond retention at the end, and then comes back.
    pub expel_a_node: bool,
    /// Whether the refdb is replaced by an older backup in the middle. The run ends without convergence.
    pub rewind: bool,
    /// Whether the refdb is lost and rebuilt at the end.
    pub rebuild: bool,
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
            stale: 1,
            think_ms: 400,
            nodes: [2; 3],
            projects: 2,
            branches: 3,
            shards: 2,
            nemesis_ms: 4_000,
            aim: 0,
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
                (Ask::Folder, 2),
                (Ask::Batch, 5),
                (Ask::Stacked, 3),
                (Ask::Head, 2),
                (Ask::DeleteProject, 1),
            ],
            gerrit_dies: 10,
            gerrit_ms: 60,
            rates: general_rates(),
            calls: BTreeMap::new(),
            reads: ReadLimits { records: 8, bytes: 4_000, shard_reads: 40, shard_bytes: 40_000 },
            writes: Writes::BySeed,
            throttled_projects: 2,
            answer_ms: None,
            torn_reads: 300,
            // Longer than most commits take.
            torn_ms: 60,
            retentions: 400,
            signed: false,
            verifies: false,
            shares: None,
            autoscales: false,
            one_active: false,
            list_moves: false,
            strikes: 0,
            pauses: 200,
            aborts: 250,
            lose_a_site: false,
            expel_a_node: false,
            rewind: false,
            rebuild: false,
        }
    }

    /// How long the streams of a run keep records at least, in virtual milliseconds. None if they keep everything. The
    /// first throws of the dice [`RETENTION`] decide.
    #[must_use]
    pub fn keeps_ms(&self, dice: &Dice) -> Option<u64> {
        dice.chance(self.retentions).then(|| dice.between(KEEPS_MS.0, KEEPS_MS.1))
    }

    /// Whether calls to the refdb fail at most as often as in the general scenario. If they fail more often, that is
    /// the fault that keeps a node from going on, and nobody's availability is judged.
    #[must_use]
    pub fn judges_availability(&self) -> bool {
        let failing = |rates: &Rates| rates.fail_before + rates.lose_request + rates.lose_answer + rates.late;
        let of_refdb = |all: &BTreeMap<Seam, Rates>| all.get(&Seam::RefDb).map_or(0, failing);
        of_refdb(&self.rates) <= of_refdb(&general_rates())
    }

    /// Whether the commits of clients are judged, too. There are good reasons for failures where one kind of call fails
    /// often, where objects may be at nodes that are away, and where committed content is bad.
    #[must_use]
    pub fn judges_commits(&self) -> bool {
        let excuses = |action: Action| matches!(action, Action::LoseDisk | Action::BadCommit);
        let is_excused = self.actions.iter().any(|(action, _)| excuses(*action));
        self.judges_availability() && self.calls.is_empty() && !is_excused
    }

    /// The general scenario without faults. A violation here has no fault as its cause.
    #[must_use]
    pub fn calm() -> Self {
        let (actions, rates) = (Vec::new(), BTreeMap::new());
        Self { name: "calm".into(), actions, rates, gerrit_dies: 0, retentions: 0, ..Self::general() }
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
        let (one_active, nemesis_ms, retentions) = (true, 3_000, 0);
        let mut scenario = Self { name: "standby".into(), one_active, nemesis_ms, retentions, ..Self::general() };
        scenario.actions.retain(|(action, _)| !matches!(action, Action::Fence | Action::SiteDown | Action::Forge));
        scenario.actions.push((Action::Failover, 30));
        scenario
    }

    /// One active site, and faults that hit the nodes which drive failovers, in the middle of their steps.
    #[must_use]
    pub fn drivers() -> Self {
        Self { name: "drivers".into(), strikes: 400, aborts: 100, ..Self::standby() }
    }

    /// Three active sites, and operators that move the writes of one to another and make it active again, while nodes
    /// die, pause and are cut off.
    #[must_use]
    pub fn all_active() -> Self {
        let mut scenario = Self { name: "all-active".into(), one_active: false, ..Self::standby() };
        // A site that was fenced needs two acts of an operator until it is active again.
        scenario.actions.push((Action::Failover, 90));
        scenario
    }

    /// Whether operators change the roles of sites. Then nobody else does.
    #[must_use]
    pub fn moves_writes(&self) -> bool {
        self.one_active || self.actions.iter().any(|(action, _)| *action == Action::Failover)
    }

    /// One active site of two. A third one joins, and one that is not active leaves, while nodes die, pause and are cut
    /// off, and operators move the writes.
    #[must_use]
    pub fn site_list() -> Self {
        let mut scenario = Self { name: "site-list".into(), list_moves: true, events: 0, ..Self::standby() };
        // A bad record in the stream of the site that leaves may be read by nobody.
        scenario.actions.retain(|(action, _)| *action != Action::BadRecord);
        Self { safety_ms: 90_000, ..scenario }
    }

    /// One active site, and drills beside failovers, while nodes die, pause and are cut off.
    #[must_use]
    pub fn drills() -> Self {
        let mut scenario = Self { name: "drills".into(), ..Self::standby() };
        scenario.actions = vec![
            (Action::Drill, 10),
            (Action::Failover, 6),
            (Action::Crash, 1),
            (Action::Pause, 1),
            (Action::Partition, 1),
            (Action::Restart, 1),
        ];
        scenario
    }

    /// The general scenario with a refdb that is lost at the end and rebuilt from the sites.
    #[must_use]
    pub fn rebuilt() -> Self {
        let mut scenario = Self { name: "rebuilt".into(), rebuild: true, events: 0, ..Self::general() };
        // A project that is deleted at the end has no refs to look for, and a bad record is not taken over.
        scenario.asks.retain(|(ask, _)| *ask != Ask::DeleteProject);
        scenario.actions.retain(|(action, _)| !matches!(action, Action::BadRecord | Action::Forge));
        Self { safety_ms: 20_000, ..scenario }
    }

    /// Signed records, and an attacker who writes to the streams what fits the state of a site in every detail.
    #[must_use]
    pub fn signed() -> Self {
        let mut scenario = Self { name: "signed".into(), signed: true, ..Self::general() };
        scenario.actions.retain(|(action, _)| *action != Action::Forge);
        scenario.actions.push((Action::Forge, 40));
        Self { nemesis_ms: 2_000, ..scenario }
    }

    /// Tables with multi-Region strong consistency: every write is of one item, and meets writes from other Regions.
    #[must_use]
    pub fn single_item() -> Self {
        let mut scenario = Self { name: "single-item".into(), writes: Writes::SingleItem, ..Self::general() };
        scenario.rates.entry(Seam::RefDb).or_default().conflict = 60;
        scenario
    }

    /// Nodes of a site that share the reads of streams, with small buffers, among all faults.
    #[must_use]
    pub fn siblings() -> Self {
        Self { name: "siblings".into(), shares: Some(40), ..Self::general() }
    }

    /// Autoscalers that split and merge shards while nodes die, pause and are cut off, so that another one takes the
    /// place of the node that looks, and while the answers to their writes and their calls are lost or late. No clock
    /// jumps: by a wrong one, Kinesis itself would have to refuse an eleventh change of a day.
    #[must_use]
    pub fn autoscaled() -> Self {
        let mut scenario = Self { name: "autoscaled".into(), autoscales: true, ..Self::general() };
        scenario.actions = vec![(Action::Crash, 4), (Action::Pause, 6), (Action::Partition, 6), (Action::Restart, 2)];
        let rates = |seam: Seam| scenario.rates.get(&seam).copied().unwrap_or_default();
        let sets = Rates { lose_request: 150, lose_answer: 250, late: 200, duplicate: 100, ..rates(Seam::EventLog) };
        let notes = Rates { lose_request: 50, lose_answer: 100, late: 50, ..rates(Seam::RefDb) };
        scenario.calls = BTreeMap::from([("set_shards", sets), ("put_document", notes)]);
        let (safety_ms, nemesis_ms, clients, events, retentions) = (30_000, 3_000, 1, 0, 0);
        Self { safety_ms, nemesis_ms, clients, events, retentions, ..scenario }
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
}
