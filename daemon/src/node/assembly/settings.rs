//! Every bound of a node.

use std::time::Duration;

use lockstep_proto::{NodeId, SiteId, limits};

use crate::base::base_paths::Roots;
use crate::seams::refdb::staged::WRITE_ITEMS;
use crate::stages::apply::ApplyLimits;
use crate::stages::consume::ConsumeLimits;
use crate::stages::events::EventLimits;
use crate::stages::membership::MemberLimits;
use crate::stages::refresh::RefreshSettings;
use crate::stages::seed::SeedLimits;
use crate::state::journal::JournalLimits;

/// Every bound of a node. [`NodeSettings::new`] gives the production defaults.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// This site.
    pub site: SiteId,
    /// This node; unique over all sites.
    pub node: NodeId,
    /// Every site, this one included.
    pub sites: Vec<SiteId>,
    /// Lanes, window, cache.
    pub journal: JournalLimits,
    /// How long one copy of a commit may take before another one is sent.
    pub patience: Duration,
    /// How long a batch may take when its caller does not say.
    pub deadline: Duration,
    /// Most items, the slot among them, that are committed by one write of the refdb; more are committed under locks.
    pub write_items: usize,
    /// Packs above this size, in bytes, go to the blob store.
    pub inline_pack_bytes: usize,
    /// The apply stage.
    pub apply: ApplyLimits,
    /// The consume stage.
    pub consume: ConsumeLimits,
    /// Stream events; none where no bridge takes them.
    pub events: Option<EventLimits>,
    /// Heartbeat and leases.
    pub member: MemberLimits,
    /// At most one durable step in this time.
    pub durable_pace: Duration,
    /// How often marks are stored when they moved a little.
    pub mark_pace: Duration,
    /// How often the sweeper looks for what was not seen.
    pub sweep_pace: Duration,
    /// How often the journal is collected.
    pub collect_pace: Duration,
    /// How often it is looked for repositories that are gone.
    pub restore_pace: Duration,
    /// How long the barrier of a project's deletion may take.
    pub barrier_patience: Duration,
    /// Seeding.
    pub seed: SeedLimits,
    /// The refresh stage; none beside a plain git server.
    pub refresh: Option<RefreshSettings>,
    /// Below which folders the repositories lie; none where they are on no disk.
    pub roots: Option<Roots>,
}

impl NodeSettings {
    /// The production defaults.
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
            inline_pack_bytes: limits::INLINE_PACK_BYTES,
            apply: ApplyLimits::default(),
            consume: ConsumeLimits::default(),
            events: None,
            member: MemberLimits::default(),
            durable_pace: Duration::from_millis(200),
            mark_pace: Duration::from_secs(1),
            sweep_pace: Duration::from_secs(5),
            collect_pace: Duration::from_secs(60),
            restore_pace: Duration::from_secs(10),
            barrier_patience: Duration::from_secs(60),
            seed: SeedLimits::default(),
            refresh: None,
            roots: None,
        }
    }
}
