//! All limits and intervals of a node.

use std::collections::BTreeSet;
use std::time::Duration;

use lockstep_proto::verify::DEFAULT_SHARE;
use lockstep_proto::{NodeId, ProjectName, SiteId, limits};

use crate::base::base_paths::BasePaths;
use crate::seams::refdb::staged::WRITE_ITEMS;
use crate::stages::apply::ApplyLimits;
use crate::stages::capacity::AutoscaleSettings;
use crate::stages::consume::ConsumeLimits;
use crate::stages::events::EventLimits;
use crate::stages::failover::DriverLimits;
use crate::stages::membership::MemberLimits;
use crate::stages::refresh::RefreshSettings;
use crate::stages::seed::SeedLimits;
use crate::stages::share::ShareSettings;
use crate::stages::verify::BackgroundSettings;
use crate::state::debts::RetryPace;
use crate::state::journal::JournalLimits;

/// All limits and intervals of a node. [`NodeSettings::new`] has the production defaults.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The name of this site.
    pub site: SiteId,
    /// The name of this node, unique over all sites.
    pub node: NodeId,
    /// The sites with which the list of sites begins, this one included.
    pub sites: Vec<SiteId>,
    /// Lanes, window and cache of the journal.
    pub journal: JournalLimits,
    /// How long one copy of a commit may take before another copy is sent.
    pub patience: Duration,
    /// Deadline of a batch whose caller gives none.
    pub deadline: Duration,
    /// Number of items, the slot included, that one write of the refdb can commit. Larger transactions use ref locks.
    pub write_items: usize,
    /// Number of commands above which a transaction's long form goes to the blob store, at most what a slot can hold.
    pub inline_commands: usize,
    /// Size in bytes above which packs go to the blob store.
    pub inline_pack_bytes: usize,
    /// The limits of the apply stage.
    pub apply: ApplyLimits,
    /// The pauses between the tries of debts.
    pub retry: RetryPace,
    /// The limits of the consume stage.
    pub consume: ConsumeLimits,
    /// The settings for reads that the nodes of a site share. `None` if each node reads alone.
    pub share: Option<ShareSettings>,
    /// The limits of stream events. `None` if no bridge takes them.
    pub events: Option<EventLimits>,
    /// The autoscaler of this site's stream. `None` if it is switched off.
    pub autoscale: Option<AutoscaleSettings>,
    /// Heartbeats, leases and expulsion.
    pub member: MemberLimits,
    /// The interval between two durable steps at least.
    pub durable_pace: Duration,
    /// The interval at which marks are stored that have moved only a little.
    pub mark_pace: Duration,
    /// The interval at which the sweeper looks for transactions that this node has not seen.
    pub sweep_pace: Duration,
    /// The interval at which the roles of the sites are read.
    pub role_pace: Duration,
    /// The share of a partition's read units that a verification takes if its request names none, in percent.
    pub verify_share: u32,
    /// The verification in the background. `None` if nothing is verified by itself (in the simulator).
    pub background: Option<BackgroundSettings>,
    /// The projects to which `init` of this node's Gerrit writes. Empty if the node has no Gerrit with the bridge.
    pub of_init: BTreeSet<ProjectName>,
    /// The intervals of the driver of failovers.
    pub failover: DriverLimits,
    /// The interval between two collections of the journal.
    pub collect_pace: Duration,
    /// The interval at which the node looks for missing repositories.
    pub restore_pace: Duration,
    /// How long the barrier of a project's deletion may take.
    pub barrier_patience: Duration,
    /// How long a batch waits until every node has forgotten that its names were folders.
    pub freeing_patience: Duration,
    /// The limits of the seed stage.
    pub seed: SeedLimits,
    /// The settings of the refresh stage. `None` if this node has no Gerrit.
    pub refresh: Option<RefreshSettings>,
    /// The root and the base paths. `None` if the repositories are not on a disk (in the simulator).
    pub base_paths: Option<BasePaths>,
}

impl NodeSettings {
    /// The production defaults, without Gerrit and without base paths.
    #[must_use]
    pub fn new(site: SiteId, node: NodeId, sites: Vec<SiteId>) -> Self {
        Self {
            site,
            node,
            sites,
            journal: JournalLimits { lanes: 4, window: 64, cache_bytes: 16 * 1024 * 1024 },
            patience: Duration::from_secs(2),
            deadline: Duration::from_secs(30),
            write_items: WRITE_ITEMS,
            inline_commands: limits::INLINE_COMMANDS,
            inline_pack_bytes: limits::INLINE_PACK_BYTES,
            apply: ApplyLimits::default(),
            retry: RetryPace::default(),
            consume: ConsumeLimits::default(),
            share: None,
            events: None,
            autoscale: None,
            member: MemberLimits::default(),
            durable_pace: Duration::from_millis(200),
            mark_pace: Duration::from_secs(1),
            sweep_pace: Duration::from_secs(5),
            role_pace: Duration::from_millis(500),
            verify_share: DEFAULT_SHARE,
            background: None,
            of_init: BTreeSet::new(),
            failover: DriverLimits::default(),
            collect_pace: Duration::from_secs(60),
            restore_pace: Duration::from_secs(10),
            barrier_patience: Duration::from_secs(60),
            freeing_patience: Duration::from_secs(5),
            seed: SeedLimits::default(),
            refresh: None,
            base_paths: None,
        }
    }
}
