//! A power cut under a running sidecar, as applier and as origin. Afterwards every value of its version map is on the
//! disk with all its objects, and the site converges.
//!
//! The machine must allow it (root, loop devices, mkfs.ext4, a C compiler). If it does not, the test prints that it was
//! not run.

use std::path::Path;
use std::time::Duration;

use lockstep::seams::volume::NodeStore;
use lockstep::seams::volume::disk::DiskStore;
use lockstep_proto::ProjectKey;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, contains, git, refs, text};
use lockstep_tests::e2e::load::{Ledger, Load};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::rig::Rig;
use lockstep_tests::e2e::verify::{converged, every_branch_moves};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::crash::{Replay, rounds};
use crate::lockstep;

#[tokio::test(flavor = "multi_thread")]
async fn remembered_values_survive_a_power_cut() {
    cuts(4 + 4 * rounds(), false).await;
}

/// The version map is on a file system that keeps its power. It must not be ahead of the file system that is cut.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute: make soak"]
async fn remembered_values_survive_a_power_cut_of_a_base_path() {
    cuts(2 + 2 * rounds(), true).await;
}

/// Cuts the power of the volume, or of a base path that has all projects.
async fn cuts(cuts: u64, of_a_base_path: bool) {
    let replay = Replay::seed("power cuts");
    let mut random = ChaCha8Rng::seed_from_u64(replay.0);
    let folder = tempfile::Builder::new().prefix("lockstep-rig-").tempdir().expect("a folder");
    let mut rig = match Rig::new(folder.path(), lockstep()).await {
        Ok(rig) => rig,
        Err(why) => return not_run("power cut rig", &why),
    };
    let root = if of_a_base_path { folder.path().join("git") } else { rig.root() };
    let on_rig = |name: &str| (name == "b-0").then(|| (root.clone(), rig.program()));
    let mut cluster = Cluster::start_on(lockstep(), &["a-0", "b-0"], &on_rig).await;
    if of_a_base_path {
        std::fs::create_dir(rig.root()).expect("a folder");
        let _ = cluster.nodes[1].stop().await;
        cluster.nodes[1].set_base_paths(&[("*", &rig.root())]);
        cluster.nodes[1].start(None);
        cluster.ready().await;
    }
    cluster.create("p").await;
    let mut ledger = Ledger::default();
    for round in 0..cuts {
        let pushed_to: &[usize] = [&[0][..], &[1], &[0, 1]][usize::try_from(round % 3).expect("small")];
        let load = Load::start(&cluster, "p", pushed_to, 3, replay.0 * 1_000_000 + round);
        tokio::time::sleep(Duration::from_millis(random.random_range(300..2_500))).await;
        rig.cut();
        cluster.nodes[1].kill().await;
        rig.power_on().await;
        let (remembered, ahead) = remembered(&cluster.nodes[1], &cluster.scratch("copy.redb")).await;
        cluster.nodes[1].start(None);
        cluster.ready().await;
        ledger.0.extend(load.stop().await.0);
        let truth = converged(&cluster, "p").await;
        ledger.check(&truth, &cluster.nodes[1].repository("p"));
        for Ahead { name, tip, oid } in &ahead {
            assert!(
                contains(&cluster.nodes[0].repository("p"), tip, oid),
                "{name} was {tip}, which never followed {oid}"
            );
        }
        eprintln!("cut {round}: {remembered} refs were remembered; {} ahead; {:?}", ahead.len(), ledger.tally());
    }
    let clone = Clone::new(&cluster.scratch("clone"));
    every_branch_moves(&cluster, "p", &clone).await;
    let _ = cluster.nodes[1].stop().await;
}

/// Prints that the test was not run. It writes to the terminal, because the test harness hides the output of passing
/// tests.
/// Says on the terminal that a test was not run, and why.
pub fn not_run(what: &str, why: &str) {
    use std::io::Write;
    let text = format!("{what}: NOT RUN: {why}\n");
    let mut terminal = std::fs::File::options().write(true).open("/dev/stderr");
    let _ = terminal.as_mut().map(|terminal| terminal.write_all(text.as_bytes()));
    eprint!("{text}");
}

/// A ref whose last move reached the disk before its objects did.
struct Ahead {
    name: String,
    /// The ref's value on the disk.
    tip: String,
    /// The ref's value in the version map.
    oid: String,
}

/// Checks the disk before any repair. Each ref of the version map must be on the disk with that value or a later one,
/// or torn by a move that is not in the map yet. Each value of the map must be complete. Returns the number of refs in
/// the map, and the refs for which only another site can tell whether the disk is ahead.
async fn remembered(node: &Node, copy: &Path) -> (usize, Vec<Ahead>) {
    let repository = node.repository("p");
    std::fs::copy(node.root.join(".lockstep/node.redb"), copy).expect("the node's store is there");
    let store = DiskStore::open(copy).expect("the node's store is whole");
    let project: ProjectKey = "p#1".parse().expect("a project key");
    let map = store.references(&project, None, usize::MAX).expect("the version map");
    let shown = refs(&repository).await.unwrap_or_else(|why| panic!("{why}"));
    let (mut known, mut ahead) = (0, Vec::new());
    for (key, record) in map {
        let (Some(name), Some(oid)) = (key.as_ref_name(), record.value.oid()) else { continue };
        let oid = oid.to_string();
        known += 1;
        if let Err(why) = is_complete(&repository, &oid).await {
            panic!("{name} {oid} is not complete: {why}");
        }
        let is_garbled = || std::fs::read_to_string(repository.join(name.as_str())).is_ok_and(|text| text.len() != 41);
        let is_deleted_later = name.as_str().starts_with("refs/heads/topic/");
        match shown.get(name.as_str()) {
            _ if is_deleted_later => {}
            None => assert!(is_garbled(), "{name} is gone, not {oid}"),
            Some(tip) if contains(&repository, tip, &oid) => {}
            Some(tip) => {
                assert!(is_complete(&repository, tip).await.is_err(), "{name} is {tip}, not {oid}");
                ahead.push(Ahead { name: name.to_string(), tip: tip.clone(), oid });
            }
        }
    }
    (known, ahead)
}

/// Checks that an object and everything that it needs are there. Otherwise returns git's error.
async fn is_complete(repository: &Path, oid: &str) -> Result<(), String> {
    let walked = git(repository, &["rev-list", "--objects", "--quiet", oid]).await;
    if walked.status.success() { Ok(()) } else { Err(text(&walked)) }
}
