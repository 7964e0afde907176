//! `make demo-gerrit`: starts two sites with a real Gerrit each, makes a change at one site, and votes on it at the
//! other. Then the user can try both sites, until Ctrl-C ends everything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use lockstep_tests::e2e::gerrit::rest::{ADMIN, Login};
use lockstep_tests::e2e::gerrit::server::Server;
use lockstep_tests::e2e::gerrit::{Kit, Sites};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::until;
use serde_json::json;
use tokio::signal;
use tokio::time::sleep;

/// The login of an automated user: in Gerrit, a member of the group `Service Users`.
const SERVICE: Login<'_> = Login("ci", "ci-secret");
const PROJECT: &str = "demo";

#[tokio::main]
async fn main() -> ExitCode {
    let binary = std::env::current_exe().expect("a program").with_file_name("lockstep-under-test");
    println!("starting two sidecars and two Gerrits; this takes half a minute");
    tokio::select! {
        biased;
        _ = signal::ctrl_c() => {}
        () = async {
            let kit = Kit { log_level: "INFO", ..Kit::from_env() };
            let sites = Sites::of(&kit, &binary, &["muc-1", "ber-1"]).await;
            play(&sites).await;
            watch(&sites).await;
        } => {}
    }
    println!("\neverything has stopped");
    ExitCode::SUCCESS
}

/// Plays a sample review: a change is pushed at one site and voted on at the other.
async fn play(sites: &Sites) {
    let (muc, ber) = sites.two();
    muc.create(PROJECT).await;
    let account = json!({"name": "Continuous Integration", "http_password": SERVICE.1, "groups": ["Service Users"]});
    let _ = muc.rest("PUT", &format!("/accounts/{}", SERVICE.0), &account).await.json();
    let user = sites.user(0, PROJECT).await;
    let _ = user.commit("README.md", "# Demo\n", "The first change").await;
    let number = user.review("master").await[0];
    let vote = json!({"labels": {"Code-Review": 1}, "message": "It builds."});
    let path = format!("/changes/{PROJECT}~{number}/revisions/current/review");
    let voted = until(async || (ber.rest_as(SERVICE, "POST", &path, &vote).await.status == 200).then_some(())).await;
    assert!(voted.is_some(), "{}", ber.log_tail());
    let seen = until(async || (muc.find("label:Code-Review=1").await == [number]).then_some(())).await;
    assert!(seen.is_some(), "{}", muc.log_tail());
    println!(
        "\nchange {number} was pushed at muc and got Code-Review+1 at ber, from the service user; muc finds it.\n"
    );
    for (name, server) in [("muc", muc), ("ber", ber)] {
        println!("  {name}  http://{}/  ssh port {}", server.http, server.ssh.port());
        println!("       git clone {}", server.clone_url(PROJECT));
        let query = format!("http://{}/a/changes/?q=project:{PROJECT}&o=DETAILED_LABELS", server.http);
        println!("       curl --user {}:{} '{query}'", SERVICE.0, SERVICE.1);
    }
    print!("{}", places(sites));
    println!("\n  administrator {} / {}, service user {} / {}", ADMIN.0, ADMIN.1, SERVICE.0, SERVICE.1);
    println!("  these Gerrits have no web pages: use REST, git and ssh. Ctrl-C stops everything.\n");
}

/// The text that says where everything is: folders, sockets and logs.
fn places(sites: &Sites) -> String {
    let binary = std::env::current_exe().expect("a program").with_file_name("lockstep-under-test");
    let place = |(node, server): (&Node, &Server)| Place {
        name: node.name.clone(),
        repositories: node.root.clone(),
        logs: [server.log(), node.log()],
        socket: node.socket(),
    };
    let each = sites.cluster.nodes.iter().zip(&sites.servers).map(place);
    told(&sites.cluster.scratch(""), &binary, each)
}

/// The places of one site.
struct Place {
    name: String,
    repositories: PathBuf,
    /// The log of Gerrit, and that of the sidecar.
    logs: [PathBuf; 2],
    socket: PathBuf,
}

/// The indent of the places below the name of a site.
const PLACE: &str = "         ";

fn told(folder: &Path, binary: &Path, each: impl Iterator<Item = Place>) -> String {
    let site = |Place { name, repositories, logs: [gerrit, sidecar], socket }: Place| {
        format!(
            "  {name}  repositories {}\n\
             {PLACE}log of Gerrit (level INFO) {}\n\
             {PLACE}log of the sidecar (level INFO) {}\n\
             {PLACE}LOCKSTEP_SOCKET={} {} status\n",
            repositories.display(),
            gerrit.display(),
            sidecar.display(),
            socket.display(),
            binary.display()
        )
    };
    let sites: String = each.map(site).collect();
    format!("\n  folder of this demo, removed at its end: {}\n{sites}", folder.display())
}

/// Prints one line per transaction once both sites show it, with the time that each site took after the commit.
async fn watch(sites: &Sites) {
    println!("One line per commit. The columns muc and ber say after how long its refs could be read at that site:");
    println!("the first is the site's own time if the commit was made there, the other the way through the event log.");
    println!("{:>8} {:>8}  {:<12} {:>4}  first ref", "muc", "ber", "project", "refs");
    let mut printed = BTreeSet::new();
    loop {
        let mut rows: BTreeMap<(u64, String), Vec<String>> = BTreeMap::new();
        for node in &sites.cluster.nodes {
            let origins = node.status().await.map(|status| status.origins).unwrap_or_default();
            for entry in origins.into_iter().flat_map(|origin| origin.recent) {
                let lag = entry.visible_at_ms.saturating_sub(entry.committed_at_ms);
                let row = rows.entry((entry.committed_at_ms, entry.txn.to_string())).or_default();
                row.push(format!("{lag} ms"));
                if row.len() == sites.cluster.nodes.len() && printed.insert(entry.txn.to_string()) {
                    let (project, refs, first) = (entry.project, entry.refs, entry.first_ref);
                    println!("{:>8} {:>8}  {project:<12} {refs:>4}  {first}", row[0], row[1]);
                }
            }
        }
        sleep(Duration::from_millis(300)).await;
    }
}

#[test]
fn the_places_of_each_site_are_told_with_a_command_to_paste() {
    let place = |name: &str| Place {
        name: name.to_owned(),
        repositories: format!("/d/{name}/git").into(),
        logs: [format!("/d/gerrit-of-{name}/console.log").into(), format!("/d/{name}/log").into()],
        socket: format!("/d/{name}/run/api.sock").into(),
    };
    let text = told(Path::new("/d/"), Path::new("/t/lockstep-under-test"), ["muc-1", "ber-1"].map(place).into_iter());
    let expected = "
  folder of this demo, removed at its end: /d/
  muc-1  repositories /d/muc-1/git
         log of Gerrit (level INFO) /d/gerrit-of-muc-1/console.log
         log of the sidecar (level INFO) /d/muc-1/log
         LOCKSTEP_SOCKET=/d/muc-1/run/api.sock /t/lockstep-under-test status
  ber-1  repositories /d/ber-1/git
         log of Gerrit (level INFO) /d/gerrit-of-ber-1/console.log
         log of the sidecar (level INFO) /d/ber-1/log
         LOCKSTEP_SOCKET=/d/ber-1/run/api.sock /t/lockstep-under-test status
";
    assert_eq!(text, expected);
}
