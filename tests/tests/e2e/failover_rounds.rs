//! Rounds of forced failovers of three sites under load. The active site is paused, killed, or cut off from the refdb
//! and the streams, and users go on at a standby. The old site comes back, finds itself fenced, commits nothing, and
//! becomes a standby by one command. Nothing that was acknowledged is lost, and the third site follows without a state
//! transfer.
//!
//! `make test` runs one round. `make crash` runs `LOCKSTEP_CRASH_ROUNDS` of them, and at least one of each kind.
//! `LOCKSTEP_CRASH_SEED` chooses the faults, the targets and the pushes.

use lockstep::seams::refdb::IncarnationRecord;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, fails, ok};
use lockstep_tests::e2e::load::{Ledger, Load};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::verify::converged;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;

use crate::crash::{Replay, rounds};
use crate::failover::{commits_more, fail_over, plain_pair, ready_as, sites};

/// The begin of the names of refs that nobody can push.
const LATE: &str = "refs/heads/late-";

/// A fault of the active site.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// SIGSTOP, until the failover has ended.
    Paused,
    /// SIGKILL.
    Killed,
    /// No way to the refdb and to the streams. Its users reach it.
    CutOff,
}

impl Fault {
    const ALL: [Self; 3] = [Self::Paused, Self::Killed, Self::CutOff];

    async fn begins(self, node: &mut Node) {
        match self {
            Self::Paused => node.signal(Signal::STOP),
            Self::Killed => node.kill().await,
            Self::CutOff => {
                node.wire.cut();
                node.streams.cut();
            }
        }
    }

    fn ends(self, node: &mut Node) {
        match self {
            Self::Paused => node.signal(Signal::CONT),
            Self::Killed => node.start(None),
            Self::CutOff => {
                node.wire.mend();
                node.streams.mend();
            }
        }
    }
}

/// Three sites, of which one is active, and everything that users were told.
struct Story {
    cluster: Cluster,
    random: ChaCha8Rng,
    seed: u64,
    loads: u64,
    active: usize,
    told: Ledger,
}

impl Story {
    fn node(&self, at: usize) -> &Node {
        &self.cluster.nodes[at]
    }

    /// Users come to a site. Waits until it has committed some of their pushes.
    async fn users_at(&mut self, at: usize) -> Load {
        self.loads += 1;
        let load = Load::start(&self.cluster, "p", &[at], 3, self.seed * 1_000_000 + self.loads);
        commits_more(self.node(at)).await;
        load
    }

    /// The active site fails under load, `to` takes over, and the old site comes back as a standby.
    async fn round(&mut self, fault: Fault, to: usize) {
        let (from, third) = (self.active, 3 - self.active - to);
        let [from_site, to_site] = [from, to].map(|at| self.node(at).site.clone());
        let transfers_before = transfers(self.node(third));
        let before = self.users_at(from).await;
        fault.begins(&mut self.cluster.nodes[from]).await;
        let (text, took) = fail_over(self.node(to), &from_site, &to_site, &["--forced"]).await;
        eprintln!("{fault:?} at {from_site}, forced failover to {to_site} in {took:?}");
        assert!(text.contains("Nothing that was acknowledged is lost"), "{text}");
        let fenced = self.incarnations(from).await;
        assert!(fenced.iter().all(|one| !one.may_commit()), "{fenced:?}");
        let after = self.users_at(to).await;

        fault.ends(&mut self.cluster.nodes[from]);
        ready_as(&mut self.cluster.nodes[from], "fenced").await;
        self.refuses(from, &to_site).await;
        let mut told = before.stop().await;
        let is_new = |one: &IncarnationRecord| !fenced.iter().any(|old| old.id == one.id);
        let now = self.incarnations(from).await;
        assert!(!now.iter().any(is_new), "a fenced site has opened an incarnation: {now:?}");

        let known = sites(self.node(to)).await;
        let epoch = known.sites.iter().find(|one| one.site.as_str() == from_site).expect("the site").epoch.to_string();
        let back = ["site", "role", &from_site, "standby", "--expect-epoch", &epoch, "--reason", "it is back"];
        let _ = ok(self.node(from).cli(&back).await);
        self.node(from).reports(|status| status.role == "standby" && status.ready).await;
        told.0.extend(after.stop().await.0);
        let truth = converged(&self.cluster, "p").await;
        told.check(&truth, &self.node(third).repository("p"));
        self.told.0.extend(told.0);
        assert!(!truth.refs.keys().any(|name| name.starts_with(LATE)), "a fenced site took a push: {truth:?}");
        let follower = self.node(third);
        assert_eq!(transfers(follower), transfers_before, "{} was filled anew\n{}", follower.name, follower.log_tail());
        self.active = to;
    }

    async fn incarnations(&self, at: usize) -> Vec<IncarnationRecord> {
        let site = self.node(at).site.parse().expect("a site");
        self.cluster.refdb.incarnations.incarnations(&site).await.expect("the refdb answers")
    }

    /// A push to a fenced site is refused with the name of the active one.
    async fn refuses(&self, at: usize, active: &str) {
        let clone = Clone::new(&self.cluster.scratch(&format!("late-{}", self.loads)));
        let spec = format!("{}:{LATE}{}", clone.commit(None, "late"), self.loads);
        let push = async || fails(clone.push(&self.node(at).repository("p"), &[], &[&spec]).await);
        let named = format!("write to {active}, which is active");
        let refused = async || push().await.contains(&named).then_some(());
        assert!(until(refused).await.is_some(), "{}", push().await);
    }
}

/// How many state transfers a node has begun, by its log.
fn transfers(node: &Node) -> usize {
    let log = std::fs::read_to_string(node.log()).expect("a log");
    log.matches("starting a state transfer").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_go_on_at_another_site_and_keep_everything_that_they_were_told() {
    let replay = Replay::seed("failover rounds");
    let mut random = ChaCha8Rng::seed_from_u64(replay.0);
    let first: usize = random.random_range(0..3);
    let (seed, told) = (replay.0, Ledger::default());
    let mut story = Story { cluster: plain_pair().await, random, seed, loads: 0, active: 0, told };
    let count = if rounds() == 0 { 1 } else { usize::try_from(rounds()).expect("a count").max(3) };
    for round in 0..count {
        // The first three rounds take each kind once.
        let kind: usize = if round < 3 { first + round } else { story.random.random_range(0..3) };
        let distance: usize = story.random.random_range(1..3);
        let to = (story.active + distance) % 3;
        story.round(Fault::ALL[kind % 3], to).await;
        let tally = story.told.tally();
        eprintln!("round {round}; committed, refused, unknown: {tally:?}; refused: {:#?}", story.told.reasons());
    }
    // The answers of earlier rounds hold after the later ones too.
    let truth = converged(&story.cluster, "p").await;
    story.told.check(&truth, &story.node(story.active).repository("p"));
}
