//! j. The duration of each operation with the bridge and without it, next to the refdb and 20 ms away from it.

use std::time::Duration;

use lockstep_loadtest::Fallible;
use lockstep_loadtest::report::{Figure, Goal, Report, round};
use lockstep_loadtest::stats::Stats;
use lockstep_tests::e2e::gerrit::rest::get;
use lockstep_tests::e2e::wire::Wire;
use serde_json::json;
use tokio::time::Instant;

use crate::inside::Inside;
use crate::operation::{Desk, Operation, in_turns, stats};
use crate::pair::Pair;

const PROJECT: &str = "p";
/// The wanted round trip to the refdb. Timers make it a little longer.
const ROUND_TRIP: Duration = Duration::from_millis(20);
/// The number of measurements of the real round trip.
const PINGS: usize = 50;
/// Each operation, its repetitions, and the names of its figures: near the refdb, and far from it.
const OPERATIONS: [(Operation, usize, [&str; 2]); 6] = [
    (Operation::Vote, 60, ["j.vote_above_plain", "j.vote_round_trips_a_commit"]),
    (Operation::Comment, 60, ["j.comment_above_plain", "j.comment_round_trips_a_commit"]),
    (Operation::Draft, 60, ["j.draft_above_plain", "j.draft_round_trips_a_commit"]),
    (Operation::Push(1), 40, ["j.push_1_above_plain", "j.push_1_round_trips_a_commit"]),
    (Operation::Push(20), 12, ["j.push_20_above_plain", "j.push_20_round_trips_a_commit"]),
    (Operation::Submit, 40, ["j.submit_above_plain", "j.submit_round_trips_a_commit"]),
];

/// The measurements of one operation.
struct Seen {
    plain: Stats,
    bridged: Stats,
    /// The mean number of commits per operation.
    commits: f64,
    /// The sidecar's totals over all repetitions.
    inside: Inside,
}

impl Seen {
    /// The extra time of the median with the bridge, in milliseconds.
    fn above(&self) -> f64 {
        self.bridged.p50() - self.plain.p50()
    }
}

/// Measures the figures j.
pub async fn measure(report: &Report) -> Fallible<()> {
    let pair = Pair::start().await?;
    for server in pair.servers() {
        server.create(PROJECT).await;
    }
    let mut desks = Desk::both(&pair, PROJECT).await;
    for (operation, times, _) in OPERATIONS {
        let _ = in_turns(&mut desks, operation, times.div_ceil(2)).await;
    }
    let wire = &pair.sites.cluster.nodes[0].wire;
    let nearby = ping(wire).await?;
    wire.lengthen(ROUND_TRIP);
    let trip = ping(wire).await? - nearby;
    wire.lengthen(Duration::ZERO);
    for (operation, times, [near_name, far_name]) in OPERATIONS {
        pair.pack_refs(PROJECT).await;
        let near = see(&mut desks, operation, times).await?;
        wire.lengthen(ROUND_TRIP);
        pair.pack_refs(PROJECT).await;
        let far = see(&mut desks, operation, times).await?;
        wire.lengthen(Duration::ZERO);
        tell(report, near_name, (&near, trip), near.above(), ("ms", Goal::AtMost(3.0)));
        let trips = (far.above() - near.above()) / far.commits / trip;
        tell(report, far_name, (&far, trip), trips, ("round trips", Goal::AtMost(1.0)));
    }
    Ok(())
}

async fn see(desks: &mut [Desk<'_>; 2], operation: Operation, times: usize) -> Fallible<Seen> {
    let [plain, bridged] = in_turns(desks, operation, times).await;
    let inside = Inside::sum(bridged.iter().map(|one| one.inside));
    #[expect(clippy::cast_precision_loss, reason = "some tens")]
    let times = times as f64;
    Ok(Seen { plain: stats(&plain)?, bridged: stats(&bridged)?, commits: inside.commits / times, inside })
}

/// The median round trip of a request to the refdb, in milliseconds.
async fn ping(wire: &Wire) -> Fallible<f64> {
    let refdb = wire.url().trim_start_matches("http://").parse()?;
    let mut stats = Stats::new()?;
    for _ in 0..PINGS {
        let start = Instant::now();
        let _ = get(refdb, "/").await?;
        stats.add(start.elapsed());
    }
    Ok(stats.p50())
}

fn tell(
    report: &Report,
    name: &'static str,
    (seen, trip): (&Seen, f64),
    value: f64,
    (unit, goal): (&'static str, Goal),
) {
    report.figure(&Figure {
        name,
        value,
        unit,
        goal: Some(goal),
        samples: seen.bridged.count(),
        detail: json!({
            "plain_ms": seen.plain.json(),
            "bridge_ms": seen.bridged.json(),
            "commits_an_operation": round(seen.commits),
            "sidecar_ms_a_commit": seen.inside.json(),
            "round_trip_ms": round(trip),
        }),
    });
}
