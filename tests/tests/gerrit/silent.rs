//! A silent drill beside a real Gerrit: a second Gerrit comes up on the copy, with the changes, the accounts and the
//! index of the real one. It takes a comment, and nobody outside hears of it. Nothing of it is left, also if the
//! sidecar is killed while it runs.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::silent::SilentReport;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::rest::{ADMIN, call, get};
use lockstep_tests::e2e::gerrit::{Kit, Sites};
use lockstep_tests::e2e::node::{Node, free_port};
use lockstep_tests::e2e::processes::{network_sockets, processes_in};
use lockstep_tests::e2e::{PATIENCE, until};
use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use crate::failover::make_standby;
use crate::lockstep;

/// The path at which users comment on the change.
const REVIEW: &str = "/changes/p~1/revisions/current/review";
/// A comment at the active site, and one at the Gerrit on the copy.
const AT_A: &str = "said-at-the-active-site";
const ON_COPY: &str = "said-on-the-copy";

type Mails = Arc<Mutex<Vec<String>>>;

/// A mail server that takes every mail, and its port.
async fn mail_server() -> (String, Mails) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port().to_string();
    let mails = Mails::default();
    let taken = Arc::clone(&mails);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(take_mails(stream, Arc::clone(&taken)));
        }
    });
    (port, mails)
}

/// Takes the mails of one connection.
async fn take_mails(stream: TcpStream, mails: Mails) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 ready\r\n").await?;
    let (mut is_mail, mut mail) = (false, String::new());
    while let Some(line) = lines.next_line().await? {
        let answer = match (is_mail, line.as_str()) {
            (true, ".") => {
                is_mail = false;
                mails.lock().push(std::mem::take(&mut mail));
                "250 taken\r\n"
            }
            (true, line) => {
                mail.push_str(line);
                mail.push('\n');
                continue;
            }
            (false, "DATA") => {
                is_mail = true;
                "354 go on\r\n"
            }
            (false, _) => "250 fine\r\n",
        };
        write.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

fn is_told(mails: &Mails, text: &str) -> bool {
    mails.lock().iter().any(|mail| mail.contains(text))
}

/// Runs a silent drill, again while a busy machine does not begin it.
async fn drill(node: &Node) -> Output {
    let end = Instant::now() + PATIENCE;
    loop {
        let output = node.cli(&["drill", "--silent", "--reason", "once a week", "--json"]).await;
        if output.status.code() != Some(3) {
            return output;
        }
        assert!(Instant::now() < end, "no drill begins: {output:?}\n{}", node.log_tail());
        sleep(Duration::from_millis(200)).await;
    }
}

/// Has the node start a Gerrit on the copies of its drills. While the file `held` exists, that Gerrit listens at
/// `aside`, where the drill does not look for it: the drill then waits.
async fn start_gerrits_on_copies(sites: &mut Sites, at: usize, held: &Path, aside: SocketAddr) {
    let server = &sites.servers[at];
    let first = format!(
        "[ ! -e {held:?} ] || git config -f \"$LOCKSTEP_DRILL_SITE/etc/gerrit.config\" httpd.listenUrl http://{aside}/"
    );
    let program = sites.cluster.scratch("drill-gerrit");
    std::fs::write(&program, server.drill_program(&first)).expect("a program");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let bridge = PathBuf::from("lib").join(server.kit.bridge.file_name().expect("a jar"));
    let (site, port) = (sites.cluster.scratch(&format!("gerrit-{at}")), free_port());
    let node = &mut sites.cluster.nodes[at];
    node.add_settings(&format!(
        "[drill.silent]\ncopy = \"full\"\nmemory = \"512MiB\"\ngerrit_command = {program:?}\ngerrit_site = {site:?}\n\
         gerrit_url = \"http://{port}/\"\ngerrit_keep = [{bridge:?}]\n"
    ));
    let _ = node.stop().await;
    node.start(None);
    node.ready().await;
}

/// Whether a socket, as a line of `/proc`, leads nowhere but to this machine. A listener has no other end.
fn is_local(line: &str) -> bool {
    let is_loopback = |end: &str| end.ends_with("0100007F");
    let mut ends = line.split_whitespace().skip(1).filter_map(|end| Some(end.split_once(':')?.0));
    ends.next().is_some_and(is_loopback)
        && ends.next().is_some_and(|end| is_loopback(end) || end.bytes().all(|digit| digit == b'0'))
}

/// The Gerrit on the copy has everything that the standby has but its plugins, and takes a comment. It has no way out.
async fn holds_a_whole_site(at: SocketAddr, copy: &Path, node: &Node) {
    let up = async || get(at, "/config/server/version").await.is_ok_and(|one| one.status == 200).then_some(());
    assert!(until(up).await.is_some(), "no Gerrit comes up on the copy\n{}", node.log_tail());
    let read = async |path: &str| call(at, ADMIN, "GET", path, &Value::Null).await.expect("an answer").json();
    // The index on the disk may be some minutes old: the sidecar on the copy hands out what it lacks, as after a kill.
    let finds = async || {
        let found = read("/changes/?q=project:p").await;
        (found.as_array().is_some_and(|all| all.len() == 1) && found[0]["_number"] == 1).then_some(())
    };
    assert!(until(finds).await.is_some(), "the index lacks the change: {}", read("/changes/?q=project:p").await);
    assert_eq!(read("/accounts/jo").await["name"], "Jo");
    let _ = call(at, ADMIN, "POST", REVIEW, &json!({"message": ON_COPY})).await.expect("an answer").json();
    let said = read("/changes/p~1/messages").await.to_string();
    assert!(said.contains(AT_A) && said.contains(ON_COPY), "{said}");
    assert_eq!(read("/plugins/?all").await, json!({}), "plugins that nobody has named stay behind");
    let sockets: Vec<String> = processes_in(copy).into_iter().flat_map(network_sockets).collect();
    assert!(!sockets.is_empty() && sockets.iter().all(|line| is_local(line)), "{sockets:#?}");
}

async fn leaves_nothing(copy: &Path) {
    let none = async || processes_in(copy).is_empty().then_some(());
    assert!(until(none).await.is_some(), "a process on the copy outlives the drill");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_gerrit_on_the_copy_takes_a_comment_sends_nothing_and_leaves_nothing() {
    let (port, mails) = mail_server().await;
    let (on, host) = ("true".to_owned(), "127.0.0.1".to_owned());
    let settings = vec![("sendemail.enable", on), ("sendemail.smtpServer", host), ("sendemail.smtpServerPort", port)];
    let kit = Kit { settings, log_level: "INFO", ..Kit::from_env() };
    let mut sites = Sites::of(&kit, lockstep(), &["a-0", "b-0"]).await;
    make_standby(&sites.cluster, "b").await;
    let (a, b) = sites.two();
    a.create("p").await;
    let jo = json!({"name": "Jo", "email": "jo@example.com", "http_password": "s3"});
    let _ = a.rest("PUT", "/accounts/jo", &jo).await.json();
    let user = sites.user(0, "p").await;
    let _ = user.commit("file", "one\n", "First").await;
    assert_eq!(user.review("master").await, [1]);
    let _ = a.rest("POST", "/changes/p~1/reviewers", &json!({"reviewer": "jo"})).await.json();
    let _ = a.rest("POST", REVIEW, &json!({"message": AT_A})).await.json();
    a.shows("a mail about the comment", async || is_told(&mails, AT_A)).await;
    in_lockstep(&sites, "p").await;
    assert!(!b.read("/plugins/?all").await["test-plugin"].is_null(), "the standby itself has a plugin");

    let (held, aside) = (sites.cluster.scratch("held"), free_port());
    start_gerrits_on_copies(&mut sites, 1, &held, aside).await;
    let node = &sites.cluster.nodes[1];
    let copy = node.root.join(".lockstep/drill");
    let output = drill(node).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}\n{}", node.log_tail());
    let report: SilentReport = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(report.is_green() && report.figures.steps.iter().any(|one| one.step == "gerrit"), "{report:?}");
    assert!(!copy.exists(), "the copy is left");
    leaves_nothing(&copy).await;

    // The next one waits for its Gerrit, until the sidecar is killed.
    std::fs::write(&held, "").expect("a file");
    let killed = async {
        holds_a_whole_site(aside, &copy, node).await;
        node.signal(Signal::KILL);
    };
    let (output, ()) = tokio::join!(drill(node), killed);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    leaves_nothing(&copy).await;
    let node = &mut sites.cluster.nodes[1];
    let _ = node.end().await;
    node.start(None);
    node.ready().await;
    assert!(until(async || (!copy.exists()).then_some(())).await.is_some(), "the copy is left\n{}", node.log_tail());

    // Users and sites have heard nothing of the comment on the copy.
    in_lockstep(&sites, "p").await;
    for server in &sites.servers {
        let said = server.read("/changes/p~1/messages").await.to_string();
        assert!(said.contains(AT_A) && !said.contains(ON_COPY), "{said}");
    }
    assert!(!is_told(&mails, ON_COPY), "the Gerrit on the copy has sent a mail");
}
