//! Failovers of one of three active sites under load. The others keep role and epoch, and take writes all the time.

use std::process::Output;
use std::time::Duration;

use lockstep_proto::failover::{Role, SitesStatus};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, fails, ok, refuses, text};
use lockstep_tests::e2e::load::Load;
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::verify::converged;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::failover::{commits_more, fail_over, sites};
use crate::lockstep;

/// One push, with its begin and its end.
struct Push {
    began: Instant,
    ended: Instant,
    output: Output,
}

/// A user of one site, who pushes one commit after the other to a branch of its own. Nothing but a failover could
/// refuse such a push.
struct Steady {
    stop: CancellationToken,
    pushes: JoinHandle<Vec<Push>>,
}

impl Steady {
    fn start(cluster: &Cluster, at: usize) -> Self {
        let (node, stop) = (&cluster.nodes[at], CancellationToken::new());
        let (repository, branch) = (node.repository("p"), format!("refs/heads/steady-{}", node.name));
        let clone = Clone::new(&cluster.scratch(&format!("steady-{}", node.name)));
        let stopped = stop.clone();
        let pushes = tokio::spawn(async move {
            let (mut tip, mut pushes): (Option<String>, Vec<Push>) = (None, Vec::new());
            while !stopped.is_cancelled() {
                let next = clone.commit(tip.as_deref(), &pushes.len().to_string());
                let began = Instant::now();
                let output = clone.push(&repository, &[], &[&format!("{next}:{branch}")]).await;
                // The project is new: until the first push is through, the node may not serve it yet.
                if output.status.success() || !pushes.is_empty() {
                    pushes.push(Push { began, ended: Instant::now(), output });
                    tip = Some(next);
                }
            }
            pushes
        });
        Self { stop, pushes }
    }

    /// Ends the pushes. All were committed, some of them between the begin and the end of the failover.
    async fn went_on(self, (began, ended): (Instant, Instant)) {
        self.stop.cancel();
        let pushes = self.pushes.await.expect("a user");
        for push in &pushes {
            assert!(push.output.status.success(), "{}", text(&push.output));
        }
        let within = pushes.iter().filter(|push| push.began >= began && push.ended <= ended).count();
        let longest = pushes.iter().map(|push| push.ended - push.began).max().unwrap_or_default();
        println!("{within} of {} pushes during the failover, the longest took {longest:?}", pushes.len());
        assert!(within > 0, "no push of {} during the failover", pushes.len());
    }
}

/// Three active sites with one project, and a user each at `b` and `c`.
async fn active() -> (Cluster, [Steady; 2]) {
    let cluster = Cluster::start_plain(lockstep(), &["a-0", "b-0", "c-0"]).await;
    cluster.create("p").await;
    let steady = [1, 2].map(|at| Steady::start(&cluster, at));
    (cluster, steady)
}

/// Role and epoch of each site. Each change of a role raises the epoch, so equal ones tell that there was none.
fn roles(status: &SitesStatus) -> Vec<(Role, u64)> {
    status.sites.iter().map(|site| (site.role, site.epoch)).collect()
}

/// Moves the writes of `a` to `b`, by a node of `c`. Answers when it began and ended.
async fn moves(cluster: &Cluster, options: &[&str], role: Role) -> (Instant, Instant) {
    let before = roles(&sites(&cluster.nodes[2]).await);
    assert!(before.iter().all(|(role, _)| *role == Role::Active), "{before:?}");
    let (said, took): (String, Duration) = fail_over(&cluster.nodes[2], "a", "b", options).await;
    let ended = Instant::now();
    println!("it took {took:?}:\n{said}");
    assert!(said.contains("b was active already"), "{said}");
    assert!(said.contains("done. b took writes all the time") && said.contains("is lost"), "{said}");
    let after = roles(&sites(&cluster.nodes[2]).await);
    assert_eq!(after[0].0, role);
    assert_eq!(after[1..], before[1..], "no other site has changed its role");
    (ended - took, ended)
}

/// Gives `a` a role, as an operator at `b`.
async fn becomes(cluster: &Cluster, role: &str) {
    let epoch = sites(&cluster.nodes[1]).await.sites[0].epoch.to_string();
    let args = ["site", "role", "a", role, "--expect-epoch", &epoch, "--reason", "it is back"];
    let _ = ok(cluster.nodes[1].cli(&args).await);
    cluster.nodes[0].reports(|status| status.role == role && status.ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_failover_of_one_active_site_leaves_the_others_as_they_are() {
    let (cluster, steady) = active().await;
    let load = Load::start(&cluster, "p", &[0, 1, 2], 2, 11);
    commits_more(&cluster.nodes[0]).await;
    let span = moves(&cluster, &["--max-loss", "0"], Role::Standby).await;
    let a = &cluster.nodes[0];
    a.reports(|status| status.role == "standby" && status.incarnation.is_none()).await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let first = clone.commit(None, "one");
    let push = async || clone.push(&a.repository("p"), &[], &[&format!("{first}:refs/heads/main")]).await;
    let why = "the role of site a is standby; write to b or c, which is active";
    assert!(until(async || fails(push().await).contains(why).then_some(())).await.is_some(), "{}", text(&push().await));
    // A failover back would take the writes of the users of b away.
    let back = a.cli(&["failback", "plan"]).await;
    assert_eq!(back.status.code(), Some(3), "{back:?}");
    refuses(back, "b was active before failover 1");
    becomes(&cluster, "active").await;
    commits_more(a).await;
    for user in steady {
        user.went_on(span).await;
    }
    let ledger = load.stop().await;
    ledger.check(&converged(&cluster, "p").await, &cluster.nodes[2].repository("p"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_failover_of_one_active_site_that_died_leaves_the_others_as_they_are() {
    let (mut cluster, steady) = active().await;
    let load = Load::start(&cluster, "p", &[0, 1, 2], 2, 12);
    commits_more(&cluster.nodes[0]).await;
    cluster.nodes[0].kill().await;
    let span = moves(&cluster, &["--forced"], Role::Fenced).await;
    cluster.nodes[0].start(None);
    cluster.ready().await;
    cluster.nodes[0].reports(|status| status.role == "fenced" && status.incarnation.is_none()).await;
    for role in ["standby", "active"] {
        becomes(&cluster, role).await;
    }
    commits_more(&cluster.nodes[0]).await;
    for user in steady {
        user.went_on(span).await;
    }
    let ledger = load.stop().await;
    ledger.check(&converged(&cluster, "p").await, &cluster.nodes[0].repository("p"));
}
