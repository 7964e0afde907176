//! The units that a node takes of the tables while nobody writes: one row per periodic call, with its interval.
//!
//! A test holds the intervals against the node's settings, and `tests/tests/round_trips.rs` holds the sum against the
//! units of a real sidecar that idles.

use std::time::Duration;

use lockstep_proto::overview::DIGEST_PACE_MS;
use serde::Serialize;

use super::units::{read_units, write_units};

/// The interval of the marks of an idle node, in paces of marks: it asks whether it was fenced.
const IDLE_MARKS: u32 = 5;
/// The interval at which the metrics of failovers are read.
const GAUGES: Duration = Duration::from_secs(15);
/// The interval at which the event log is told how many nodes read.
const READERS: Duration = Duration::from_secs(60);
/// The interval of the doctor.
const DOCTOR: Duration = Duration::from_secs(600);
/// The bytes of the records of a site, a node and an incarnation, of a digest, and of the state of a project.
const SITE_BYTES: f64 = 200.0;
const NODE_BYTES: f64 = 600.0;
const INCARNATION_BYTES: f64 = 400.0;
const DIGEST_BYTES: f64 = 1_000.0;
const PROJECT_BYTES: f64 = 200.0;
/// The bytes of the lease of a shard, in the document of all leases.
const LEASE_BYTES: f64 = 100.0;
/// The mean interval of the turns of the leases: each is shortened by up to a half at random.
const LEASES: Duration = Duration::from_millis(7_500);

/// The intervals of a node's tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paces {
    /// Heartbeats, and the watch of the other nodes: the setting `lease.heartbeat`.
    pub beat: Duration,
    /// The least pause between two writes of marks.
    pub mark: Duration,
    /// Sweeps of unread slots.
    pub sweep: Duration,
    /// Reads of the roles, and of the locks of operators.
    pub role: Duration,
    /// Reads of the failover's record while none is in progress.
    pub failover: Duration,
    /// Collections of the journal, and releases of kept values.
    pub collect: Duration,
}

impl Paces {
    /// The intervals of a node with this heartbeat.
    #[must_use]
    pub fn with(beat: Duration) -> Self {
        Self {
            beat,
            mark: Duration::from_secs(1),
            sweep: Duration::from_secs(5),
            role: Duration::from_millis(500),
            failover: Duration::from_millis(500),
            collect: Duration::from_secs(60),
        }
    }
}

/// A periodic call of an idle node, or several that come together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IdleCall {
    /// The task that makes it.
    pub name: &'static str,
    /// Its interval in seconds.
    pub every_s: f64,
    /// Write units per call.
    pub writes: f64,
    /// Read units per call.
    pub reads: f64,
}

impl IdleCall {
    fn new(name: &'static str, every: Duration, writes: f64, reads: f64) -> Self {
        Self { name, every_s: every.as_secs_f64(), writes, reads }
    }

    /// The write units and the read units of this call in a time.
    #[must_use]
    pub fn within(&self, seconds: f64) -> [f64; 2] {
        [self.writes, self.reads].map(|units| units * seconds / self.every_s)
    }
}

/// The periodic calls of a node among this many sites, nodes and projects.
#[must_use]
pub fn calls(paces: Paces, sites: f64, nodes: f64, projects: f64) -> Vec<IdleCall> {
    let of_sites = read_units(sites * SITE_BYTES);
    let of_nodes = read_units(nodes * NODE_BYTES);
    let of_digests = read_units(nodes * DIGEST_BYTES);
    let of_one_site = read_units(nodes / sites * INCARNATION_BYTES);
    // The list of sites, and then the incarnations of each.
    let incarnations = of_sites + sites * of_one_site;
    let view = of_sites + incarnations + of_nodes;
    let Paces { beat, mark, sweep, role, failover, collect } = paces;
    let digest = Duration::from_millis(DIGEST_PACE_MS);
    vec![
        IdleCall::new("heartbeat", beat, 1.0, 0.0),
        // The identity of the refdb, whether it went back, nodes and incarnations.
        IdleCall::new("watch of the other nodes", beat, 0.0, 2.0 + of_nodes + incarnations),
        IdleCall::new("marks of the journal", mark * IDLE_MARKS, 1.0, 0.0),
        IdleCall::new("sweep of unread slots", sweep, 0.0, incarnations),
        IdleCall::new("roles of the sites", role, 0.0, of_sites),
        IdleCall::new("locks of operators", role, 0.0, 1.0),
        IdleCall::new("record of the failover", failover, 0.0, 1.0),
        IdleCall::new("digest of the node", digest, 1.0, view),
        // The overview: the failover, all records, all digests, whether it went back. Then two documents of drills.
        IdleCall::new("metrics of failovers", GAUGES, 0.0, 4.0 + view + of_digests),
        IdleCall::new("collection of the journal", collect, 0.0, of_nodes + of_one_site),
        IdleCall::new("release of kept values", collect, 0.0, read_units(projects * PROJECT_BYTES)),
        IdleCall::new("number of readers", READERS, 0.0, of_nodes),
        // Two reads, a query, and a write whose condition fails.
        IdleCall::new("doctor", DOCTOR, 1.0, 2.0 + of_nodes),
    ]
}

/// The turns of the leases at a node whose site shares its reads. A turn reads the document of all leases, and a node
/// that has a lease writes it. Each site has a lease for each shard of every stream.
#[must_use]
pub fn lease_turns(sites: f64, nodes: f64, shards: f64) -> IdleCall {
    let leases = sites * sites * shards;
    let document = leases * LEASE_BYTES;
    IdleCall::new("leases of shards", LEASES, write_units(document) * (leases / nodes).min(1.0), read_units(document))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::assembly::NodeSettings;
    use crate::stages::share::ShareSettings;

    const BEAT: Duration = Duration::from_secs(5);

    #[test]
    fn the_intervals_are_those_of_a_node() {
        let settings = NodeSettings::new("a".parse().unwrap(), "a-0".parse().unwrap(), Vec::new());
        let own = Paces {
            beat: BEAT,
            mark: settings.mark_pace,
            sweep: settings.sweep_pace,
            role: settings.role_pace,
            failover: settings.failover.idle,
            collect: settings.collect_pace,
        };
        assert_eq!(Paces::with(BEAT), own);
    }

    fn hour(calls: &[IdleCall]) -> [f64; 2] {
        let all = calls.iter().map(|call| call.within(3_600.0));
        all.fold([0.0, 0.0], |sum, one| [sum[0] + one[0], sum[1] + one[1]])
    }

    #[test]
    fn the_units_of_an_idle_node_and_hour_are_those_of_its_intervals() {
        let paces = Paces::with(BEAT);
        let [writes, reads] = hour(&calls(paces, 1.0, 1.0, 1.0));
        // Heartbeat and marks every 5 s, a digest every 10 s, the doctor every 600 s.
        assert!((writes - (720.0 + 720.0 + 360.0 + 6.0)).abs() < 1e-6, "{writes}");
        // Three documents are read twice per second. Watch and sweep come every 5 s, digest and metrics more rarely.
        let rare = 4.0 * 360.0 + 9.0 * 240.0 + 4.0 * 60.0 + 3.0 * 6.0;
        assert!((reads - (21_600.0 + 5.0 * 720.0 + 2.0 * 720.0 + rare)).abs() < 1e-6, "{reads}");
        let of_ten = hour(&calls(paces, 1.0, 10.0, 1.0));
        assert_eq!(of_ten[0], writes, "a node writes as much among ten");
        assert!(of_ten[1] > reads, "and it reads the records of the others");
    }

    #[test]
    fn only_nodes_that_have_a_lease_write_the_leases() {
        assert_eq!(LEASES, ShareSettings::new(Duration::from_secs(1)).beat * 3 / 4, "a half to the whole of a beat");
        // Three sites with six leases each: 1,800 bytes are two units of a write and one of a read.
        let of = |nodes| lease_turns(3.0, nodes, 2.0).within(3_600.0);
        assert_eq!(of(6.0), [960.0, 480.0]);
        // Of 150 nodes 18 have a lease.
        let [writes, reads] = of(150.0);
        assert!((writes - 115.2).abs() < 1e-9 && reads == 480.0, "{writes} {reads}");
    }

    #[test]
    fn a_digest_is_due_every_ten_seconds_by_default() {
        let all = calls(Paces::with(BEAT), 3.0, 3.0, 5_000.0);
        let digest = all.iter().find(|call| call.name.starts_with("digest")).unwrap();
        assert_eq!(digest.within(20.0)[0], 2.0);
    }
}
