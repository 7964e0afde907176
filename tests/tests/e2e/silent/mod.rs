//! Silent drills: a standby on a copy of its volume, while the real one goes on. The page docs/failover.md shows
//! outputs of this shape.
//!
//! | file | idea |
//! |---|---|
//! | `kills` | drills that are killed |
//! | `signed` | a standby whose records must be signed |
//! | `ways` | how a copy is made, where none can be made, and a copy that is not sound |

mod kills;
mod signed;
mod ways;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::failover::{Role, SitesStatus};
use lockstep_proto::silent::{SilentDrills, SilentReport};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::documented::documented;
use lockstep_tests::e2e::git::{fails, ok};
use lockstep_tests::e2e::load::Load;
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::processes::{self, environment, files, network_sockets, processes_in};
use lockstep_tests::e2e::until;
use lockstep_tests::e2e::upkeep::Upkeep;
use lockstep_tests::e2e::verify::converged;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::failover::{fail_over, pair};

const DRILL: [&str; 5] = ["drill", "--silent", "--reason", "once a week", "--json"];

/// Three sites of which `a` is active, with settings for silent drills at `b`.
async fn with(section: &str) -> Cluster {
    with_settings(pair().await, section).await
}

async fn with_settings(mut cluster: Cluster, section: &str) -> Cluster {
    let _ = cluster.nodes[1].stop().await;
    cluster.nodes[1].add_settings(&format!("[drill.silent]\nmemory = \"512MiB\"\n{section}\n"));
    cluster.nodes[1].start(None);
    cluster.ready().await;
    fit(&cluster.nodes[1]).await;
    cluster
}

/// Waits until the preflight is green: each node has left a digest.
async fn fit(node: &Node) {
    let green = async || node.cli(&["preflight", "--to", "b"]).await.status.success().then_some(());
    assert!(until(green).await.is_some(), "{:?}", node.cli(&["preflight", "--to", "b"]).await);
}

/// The refusals of a busy machine: a heartbeat or a digest is late, or the refdb is.
const NOT_NOW: [&str; 2] = ["the preflight is red", "look with `lockstep sites` before you ask again"];

/// Runs a drill, again while a busy machine does not begin it.
async fn drill(node: &Node, args: &[&str]) -> Output {
    let ran = until(async || {
        let output = node.cli(args).await;
        let said = String::from_utf8_lossy(&output.stderr);
        (!NOT_NOW.iter().any(|late| said.contains(late))).then_some(output)
    });
    ran.await.unwrap_or_else(|| panic!("no drill begins\n{}", node.log_tail()))
}

fn copies(node: &Node) -> PathBuf {
    node.root.join(".lockstep/drill")
}

async fn sites(node: &Node) -> SitesStatus {
    serde_json::from_str(&ok(node.cli(&["sites", "--json"]).await)).expect("JSON")
}

async fn drills(node: &Node) -> Option<SilentDrills> {
    let text = node.cli(&["drill", "history", "--json"]).await;
    let all: serde_json::Value = serde_json::from_slice(&text.stdout).ok()?;
    serde_json::from_value(all["silent"].clone()).ok()
}

fn report(output: &Output) -> SilentReport {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// A server that answers every request with 200 and keeps what it was sent.
async fn listener() -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let seen = Arc::new(Mutex::new(String::new()));
    let noted = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4_096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            noted.lock().push_str(&String::from_utf8_lossy(&request[..length]));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        }
    });
    (url, seen)
}

/// The traces of the processes on the copies.
#[derive(Default)]
struct Seen {
    standbys: BTreeSet<i32>,
    sockets: Vec<String>,
    environment: BTreeSet<String>,
    files: BTreeSet<PathBuf>,
}

/// Looks at the processes on the copies, over and over, until it is cancelled.
async fn watch(folder: PathBuf, done: CancellationToken) -> Seen {
    let mut seen = Seen::default();
    while !done.is_cancelled() {
        for process in processes_in(&folder) {
            seen.sockets.extend(network_sockets(process));
            seen.files.extend(files(process));
            if processes::runs(process, "silent-drill") {
                seen.standbys.insert(process.as_raw_nonzero().get());
                seen.environment.extend(environment(process));
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    seen
}

/// While users push to `a`, and the repositories of `b` are packed and collected, a standby comes up on a copy of `b`.
/// It has no connection to any network, it writes nowhere else, and nobody outside hears that it is active.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_comes_up_on_a_copy_while_the_real_one_goes_on_and_nobody_hears_of_it() {
    let (webhook, told) = listener().await;
    let cluster = with(&format!("copy = \"full\"\n[handover]\nwebhook = \"{webhook}\"")).await;
    let b = &cluster.nodes[1];
    let load = Load::start(&cluster, "p", &[0], 2, 5);
    // It goes on until the end: its git would leave a lock behind if it was killed.
    let _upkeep = Upkeep::of(vec![b.repository("p")]);
    let before = sites(b).await;
    let (folder, done) = (copies(b), CancellationToken::new());
    let watched = tokio::spawn(watch(folder.clone(), done.clone()));
    let output = drill(b, &DRILL[..4]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}\n{}", b.log_tail());
    documented("lockstep drill --silent --reason 'once a week'", &output);
    let output = drill(b, &DRILL).await;
    done.cancel();
    let seen = watched.await.expect("a watch");
    assert_eq!(seen.standbys.len(), 2, "one standby on each copy was seen");
    assert_eq!(seen.sockets, Vec::<String>::new(), "a standby on a copy has no way out");
    let known = ["GIT_CONFIG_NOSYSTEM", "HOME", "LC_ALL", "PATH", "TMPDIR"].map(str::to_owned);
    assert_eq!(seen.environment, BTreeSet::from(known), "it has no credentials");
    let lock = b.root.join(".lockstep/lock");
    let elsewhere = seen.files.iter().filter(|path| !path.starts_with(&folder) && **path != lock);
    assert_eq!(elsewhere.collect::<Vec<_>>(), Vec::<&PathBuf>::new(), "it writes nowhere else");
    // The real sidecar shows that all this can be seen.
    assert!(!network_sockets(b.id()).is_empty() && environment(b.id()).iter().any(|name| !known_to(&seen, name)));
    assert!(files(b.id()).iter().any(|path| path.starts_with(&b.root)), "{:?}", files(b.id()));
    let report = report(&output);
    assert!(report.is_green() && report.figures.green_ms >= report.figures.took_writes_ms, "{report:?}");
    assert!(report.figures.projects == 1 && report.figures.refs > 0 && report.figures.lacked.is_some(), "{report:?}");
    let steps: Vec<&str> = report.figures.steps.iter().map(|one| one.step.as_str()).collect();
    assert_eq!(steps, ["rebuild", "start", "promote", "probe", "compare"]);
    let ended = |all: &SilentDrills| all.past.len() == 2 && all.running.is_none();
    let all = until(async || drills(b).await.filter(ended)).await;
    assert!(all.is_some_and(|all| all.past.iter().all(SilentReport::is_green)), "{:?}", drills(b).await);
    documented("lockstep drill history    # with silent drills", &b.cli(&["drill", "history"]).await);

    let after = sites(b).await;
    let roles = |status: &SitesStatus| status.sites.iter().map(|one| (one.role, one.epoch)).collect::<Vec<_>>();
    assert_eq!((roles(&before), after.failover.is_none()), (roles(&after), true), "no real site has changed");
    let told = told.lock().clone();
    assert!(told.contains("standby") && !told.contains("\"role\":\"active\""), "{told}");
    assert!(!folder.exists(), "nothing is left");
    let ledger = load.stop().await;
    ledger.check(&converged(&cluster, "p").await, &b.repository("p"));
}

fn known_to(seen: &Seen, name: &str) -> bool {
    seen.environment.contains(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_standby_is_promoted_while_a_drill_runs() {
    let cluster = with("copy = \"full\"").await;
    let [a, b] = [&cluster.nodes[0], &cluster.nodes[1]];
    let (drilled, folder) = (drill(b, &DRILL), copies(b));
    let promote = async {
        let up = async || (!processes_in(&folder).is_empty()).then_some(());
        assert!(until(up).await.is_some(), "no standby comes up on the copy\n{}", b.log_tail());
        let (text, _) = fail_over(a, "a", "b", &[]).await;
        assert!(text.contains("done. b took writes"), "{text}");
    };
    let (output, ()) = tokio::join!(drilled, promote);
    let report = report(&output);
    let gave_way = report.red.first().is_some_and(|why| why.contains("became active meanwhile"));
    assert!(report.is_green() || gave_way, "{report:?}");
    assert!(!folder.exists() && processes_in(&folder).is_empty());
    let roles: Vec<Role> = sites(a).await.sites.iter().map(|site| site.role).collect();
    assert_eq!(roles, [Role::Standby, Role::Active, Role::Standby]);
    let refused = b.cli(&DRILL).await;
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    assert!(fails(refused).contains("a silent drill is of a node of a standby site"));
}
