//! Kills sidecars with SIGKILL at every failpoint, and at random moments, while users push. Acknowledged commits stay,
//! all sites become equal, git finds no fault, and no ref stays locked.
//!
//! `LOCKSTEP_CRASH_ROUNDS` adds rounds (`make crash`), and `LOCKSTEP_CRASH_SEED` chooses the history. Threads and
//! processes are scheduled freely, so a seed repeats the pushes and the kills, but not every interleaving.

use std::path::Path;
use std::time::Duration;

use lockstep::seams::refdb::IncarnationState;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::Clone;
use lockstep_tests::e2e::load::{Ledger, Load};
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::upkeep::Upkeep;
use lockstep_tests::e2e::verify::{converged, every_branch_moves};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;

use crate::lockstep;

/// The site to push to, so that the victim reaches the failpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Pushes go to the victim.
    Origin,
    /// Pushes go to another site, and the victim applies them.
    Applier,
}
use At::{Applier, Origin};

/// Failpoints that the pushes of this load never reach. The tests in `seed`, `large`, `move_refdb` and
/// `several_regions` cover them.
const ELSEWHERE: &[&str] = &[
    "commit.locked",
    "commit.part_locked",
    "commit.part_moved",
    "commit.part_released",
    "commit.sealed",
    "commit.stored",
    "move.closed",
    "move.copied",
    "move.drained",
    "move.fenced",
    "move.moved",
    "seed.part",
];

/// The failpoints that `make test` takes, one of each stage: `make crash` takes all.
const USUAL: &[&str] = &[
    "apply.after_refs",
    "commit.after_commit",
    "commit.before_send",
    "drain.frozen",
    "durable.after_store",
    "durable.after_sync",
    "git.pack_file",
    "materialize.after_refs",
    "publish.appended",
];

/// Every other failpoint, and the sites to push to.
const POINTS: &[(&str, &[At])] = &[
    ("apply.after_objects", &[Applier]),
    ("apply.after_refs", &[Applier]),
    ("apply.before_objects", &[Applier]),
    ("commit.after_commit", &[Origin]),
    ("commit.answered", &[Origin]),
    ("commit.before_send", &[Origin]),
    ("drain.frozen", &[Origin]),
    ("drain.lane", &[Origin]),
    ("durable.after_store", &[Origin, Applier]),
    ("durable.after_sync", &[Applier, Origin]),
    ("durable.before_sync", &[Origin, Applier]),
    ("git.loose_object", &[Applier]),
    ("git.pack_file", &[Applier]),
    ("git.prepared", &[Origin, Applier]),
    ("materialize.after_refs", &[Origin, Applier]),
    ("materialize.before_refs", &[Applier, Origin]),
    ("publish.appended", &[Origin]),
];

/// The number of times that a failpoint is certainly reached.
fn most(name: &str) -> u64 {
    match name {
        // One incarnation is frozen and poisoned.
        "drain.frozen" | "drain.lane" => 1,
        _ => 3,
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} = {text:?}")))
}

/// The number of rounds beyond the short form.
pub fn rounds() -> u64 {
    number("LOCKSTEP_CRASH_ROUNDS", 0)
}

/// Prints, on a panic, how to replay the same history.
pub struct Replay(pub u64);

impl Replay {
    pub fn seed(test: &str) -> Self {
        let seed = number("LOCKSTEP_CRASH_SEED", 1);
        eprintln!("{test}: seed {seed}");
        Self(seed)
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay: make crash SEED={} ROUNDS={}", self.0, rounds());
        }
    }
}

/// Ends the load, and compares all answers with the refdb.
pub async fn audit(cluster: &Cluster, load: Load, so_far: &mut Ledger) {
    so_far.0.extend(load.stop().await.0);
    let truth = converged(cluster, "p").await;
    so_far.check(&truth, &cluster.nodes[0].repository("p"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_every_failpoint_loses_nothing() {
    let replay = Replay::seed("failpoints");
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let mut ledger = Ledger::default();
    let mut history = 0;
    for round in 0..=rounds() {
        for (name, ends) in POINTS.iter().filter(|(name, _)| rounds() > 0 || USUAL.contains(name)) {
            let ends = if rounds() == 0 { &ends[..1] } else { ends };
            for at in ends {
                history += 1;
                let (victim, other) = if history % 2 == 0 { (0, 1) } else { (1, 0) };
                let pushed_to = if *at == Origin { victim } else { other };
                let load = Load::start(&cluster, "p", &[pushed_to], 2, replay.0 * 1_000_000 + history);
                let failpoint = format!("{name}:{}", 1 + (replay.0 + round) % most(name));
                eprintln!("{failpoint} at {}, pushes to {}", cluster.nodes[victim].name, cluster.nodes[pushed_to].name);
                cluster.nodes[victim].kill().await;
                cluster.nodes[victim].start(Some(&failpoint));
                killed(&mut cluster, victim).await;
                cluster.nodes[victim].start(None);
                cluster.ready().await;
                audit(&cluster, load, &mut ledger).await;
            }
        }
    }
    eprintln!("committed, refused, unknown: {:?}; refused: {:#?}", ledger.tally(), ledger.reasons());
    let clone = Clone::new(&cluster.scratch("clone"));
    every_branch_moves(&cluster, "p", &clone).await;
}

/// Waits until the failpoint has killed the victim.
pub async fn killed(cluster: &mut Cluster, victim: usize) {
    use std::os::unix::process::ExitStatusExt;
    let ended = cluster.nodes[victim].end().await;
    assert_eq!(ended.signal(), Some(Signal::KILL.as_raw()), "{}", cluster.nodes[victim].log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_any_moment_lose_nothing() {
    let replay = Replay::seed("random kills");
    let mut random = ChaCha8Rng::seed_from_u64(replay.0);
    let mut cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let _upkeep = Upkeep::of(cluster.nodes.iter().map(|node| node.repository("p")).collect());
    let mut ledger = Ledger::default();
    for round in 0..=rounds() {
        let load = Load::start(&cluster, "p", &[0, 1], 3, replay.0 * 1_000_000 + round);
        for _ in 0..6 {
            let victim = random.random_range(0..2);
            // This sleep is not a wait for luck: the seed chooses the moment of the kill.
            tokio::time::sleep(Duration::from_millis(random.random_range(50..1_500))).await;
            cluster.nodes[victim].kill().await;
            cluster.nodes[victim].start(None);
            if random.random() {
                cluster.ready().await;
            }
        }
        cluster.ready().await;
        audit(&cluster, load, &mut ledger).await;
        eprintln!("round {round}; committed, refused, unknown: {:?}; refused: {:#?}", ledger.tally(), ledger.reasons());
    }
    let clone = Clone::new(&cluster.scratch("clone"));
    every_branch_moves(&cluster, "p", &clone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_node_is_adopted_and_finds_itself_fenced() {
    let replay = Replay::seed("pause");
    let mut cluster = Cluster::start(lockstep(), &["a-0", "a-1", "b-0"]).await;
    cluster.create("p").await;
    let mut ledger = Ledger::default();
    for round in 0..=rounds().div_ceil(5) {
        let load = Load::start(&cluster, "p", &[0, 1, 2], 3, replay.0 * 1_000_000 + round);
        let paused = usize::from(round % 2 == 1);
        cluster.ready().await;
        let own = cluster.nodes[paused].status().await.and_then(|status| status.incarnation).expect("an incarnation");
        cluster.nodes[paused].reports(|status| status.counters.committed > 2).await;
        cluster.nodes[paused].signal(Signal::STOP);
        let site = "a".parse().expect("a site");
        let adopted = async || {
            let all = cluster.refdb.incarnations.incarnations(&site).await.expect("the refdb answers");
            let mut its = all.iter().filter(|one| one.id.node.as_str() == cluster.nodes[paused].name);
            its.any(|one| one.id.number == own && one.state == IncarnationState::Drained).then_some(())
        };
        until(adopted).await.expect("its sibling adopts it");
        cluster.nodes[paused].signal(Signal::CONT);
        let ended = cluster.nodes[paused].end().await;
        assert!(!ended.success(), "{ended}");
        assert!(cluster.nodes[paused].log_tail().contains("fenced"), "{}", cluster.nodes[paused].log_tail());
        cluster.nodes[paused].start(None);
        cluster.ready().await;
        audit(&cluster, load, &mut ledger).await;
    }
    let clone = Clone::new(&cluster.scratch("clone"));
    every_branch_moves(&cluster, "p", &clone).await;
}

#[test]
fn the_list_of_failpoints_is_complete() {
    let mut found = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/src"), &mut found);
    found.sort();
    found.dedup();
    let mut listed: Vec<&str> = POINTS.iter().map(|(name, _)| *name).chain(ELSEWHERE.iter().copied()).collect();
    listed.sort_unstable();
    assert_eq!(listed, found);
}

fn collect(folder: &Path, found: &mut Vec<String>) {
    const CALL: &str = "failpoint::reach(\"";
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else {
            let text = std::fs::read_to_string(&path).expect("a file");
            let names = text.split(CALL).skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(names.map(str::to_owned));
        }
    }
}
