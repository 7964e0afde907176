//! Failovers of sites with a real Gerrit each, while users push, vote, comment and submit: the active site is killed or
//! paused, another one takes over by the command, users go on there, and the old one returns as a standby. Nothing that
//! users were told is lost, every index matches the refs, and the probes of `[probes]` are green.
//!
//! `LOCKSTEP_ROUNDS` is the number of forced failovers, and `LOCKSTEP_CRASH_SEED` chooses the edits and the kind of the
//! first outage. Threads and processes are scheduled freely, so a seed does not repeat every interleaving.

use std::time::Duration;

use lockstep_proto::failover::{FailoverPlan, Role, SitesStatus};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::load::{GROUP, Ledger, Load, MEMBER};
use lockstep_tests::e2e::gerrit::rest::{Login, browse};
use lockstep_tests::e2e::gerrit::server::Server;
use lockstep_tests::e2e::gerrit::stream::Key;
use lockstep_tests::e2e::gerrit::{Kit, Sites};
use lockstep_tests::e2e::git::{done, ok, text};
use lockstep_tests::e2e::node::Node;
use lockstep_tests::e2e::{PATIENCE, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::lockstep;

/// The user of the probes, with nothing but the rights that `docs/failover.md` lists.
const PROBE: Login<'_> = Login("probe", "pr0be");
/// The requests that users must have done before the active site fails, and after it was replaced.
const ENOUGH: usize = 25;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} = {text:?}")))
}

async fn sites_of(node: &Node) -> SitesStatus {
    serde_json::from_str(&ok(node.cli(&["sites", "--json"]).await)).expect("JSON")
}

/// Makes a site a standby, as an operator does, and waits until its nodes know.
pub async fn make_standby(cluster: &Cluster, site: &str) {
    let of_site = |node: &&Node| node.site == site;
    let known = sites_of(&cluster.nodes[0]).await;
    let epoch = known.sites.iter().find(|one| one.site.to_string() == site).expect("a site").epoch.to_string();
    let args = ["site", "role", site, "standby", "--expect-epoch", &epoch, "--reason", "one active site"];
    let _ = ok(cluster.nodes[0].cli(&args).await);
    for node in cluster.nodes.iter().filter(of_site) {
        node.reports(|status| status.role == "standby" && status.ready).await;
    }
}

/// Executes a failover as an operator does: plan, then execute that plan. Returns the report.
pub async fn fail_over(node: &Node, from: &str, to: &str, options: &[&str]) -> String {
    let plan = [&["failover", "plan", "--json", "--from", from, "--to", to], options].concat();
    let plan: FailoverPlan = serde_json::from_str(&ok(node.cli(&plan).await)).expect("JSON");
    let lost: Vec<&str> =
        plan.outside_refs.iter().filter(|row| row.fate == "lost").map(|row| row.name.as_str()).collect();
    assert!(lost.contains(&"web sessions") && lost.contains(&"reviewed flags"), "the plan says what is lost: {lost:?}");
    let args = ["failover", "execute", "--from", from, "--to", to, "--reason", "test", "--yes"];
    done(node.cli(&[&args[..], &["--plan-hash", &plan.hash], options].concat()).await)
}

/// Three sites, two of them with a Gerrit, and what users were told so far.
struct Story {
    sites: Sites,
    edited: Vec<u32>,
    told: Ledger,
    seed: u64,
    loads: u64,
}

impl Story {
    async fn begin(seed: u64) -> Self {
        let kit = Kit { log_level: "INFO", ..Kit::from_env() };
        let mut sites = Sites::with_gerrits(&kit, lockstep(), &["a-0", "b-0", "c-0"], 2).await;
        let a = &sites.servers[0];
        let _ = a.rest("PUT", &format!("/accounts/{MEMBER}"), &json!({"http_password": "one"})).await.json();
        let _ = a.rest("PUT", &format!("/groups/{GROUP}"), &json!({})).await.json();
        a.create("p").await;
        in_lockstep(&sites, "p").await;
        for site in ["b", "c"] {
            make_standby(&sites.cluster, site).await;
        }
        let user = sites.user(0, "p").await;
        let mut edited = Vec::new();
        for n in 0..4 {
            user.at("master").await;
            let _ = user.commit(&format!("file-{n}"), "text\n", &format!("change {n}")).await;
            edited.extend(user.review("master").await);
        }
        in_lockstep(&sites, "p").await;
        configure_probes(&mut sites).await;
        Self { sites, edited, told: Ledger::default(), seed, loads: 0 }
    }

    fn index(site: &str) -> usize {
        usize::from(site != "a")
    }

    fn server(&self, site: &str) -> &Server {
        &self.sites.servers[Self::index(site)]
    }

    fn node(&self, site: &str) -> &Node {
        &self.sites.cluster.nodes[Self::index(site)]
    }

    /// Users come to a site. Waits until they have done enough there.
    async fn users_at(&mut self, site: &str) -> Load {
        self.loads += 1;
        let seed = self.seed * 1_000 + self.loads;
        let pusher = self.sites.user_named(&format!("pusher-{}", self.loads), Self::index(site), "p").await;
        let load = Load::start(self.server(site), pusher, &self.edited, seed);
        let went_on = until(async || (load.done() >= ENOUGH).then_some(())).await;
        assert!(went_on.is_some(), "users did {} requests at {site}\n{}", load.done(), self.server(site).log_tail());
        load
    }

    /// The active site fails under load, and `to` takes over by force. The old one returns as a standby.
    async fn forced(&mut self, from: &str, to: &str, is_killed: bool) {
        let load = self.users_at(from).await;
        let at = Self::index(from);
        match is_killed {
            true => {
                self.sites.cluster.nodes[at].kill().await;
                self.sites.servers[at].kill().await;
            }
            false => {
                self.sites.cluster.nodes[at].signal(Signal::STOP);
                self.sites.servers[at].signal(Signal::STOP);
            }
        }
        self.told.add(load.abandon());
        let report = fail_over(self.node(to), from, to, &["--forced"]).await;
        println!("{} of {from}:\n{report}", if is_killed { "kill -9" } else { "SIGSTOP" });
        assert!(report.contains(" and its probes were green after "), "{report}");
        assert!(report.contains("Nothing that was acknowledged is lost"), "{report}");
        self.keeps(to).await;
        let load = self.users_at(to).await;
        self.returns(from, to, is_killed).await;
        self.told.add(load.stop().await);
        self.agrees().await;
    }

    /// A site that has just taken over shows everything that users were told, once its index has followed.
    async fn keeps(&self, site: &str) {
        self.node(site).refreshes(|refresh| refresh.due == 0).await;
        self.told.is_kept_at(self.server(site)).await;
    }

    /// A site that was replaced wakes or is started again: it commits nothing, and one command makes it a standby.
    async fn returns(&mut self, site: &str, active: &str, is_killed: bool) {
        let at = Self::index(site);
        if is_killed {
            self.sites.cluster.nodes[at].start(None);
        } else {
            self.sites.servers[at].signal(Signal::CONT);
            self.sites.cluster.nodes[at].signal(Signal::CONT);
        }
        fenced_and_ready(&mut self.sites.cluster.nodes[at]).await;
        match is_killed {
            true => self.sites.servers[at].run().await,
            false => self.sites.servers[at].ready().await,
        }
        self.refuses(site, active).await;
        let epoch = sites_of(self.node(active)).await.sites[at].epoch.to_string();
        let args = ["site", "role", site, "standby", "--expect-epoch", &epoch, "--reason", "it is back"];
        let _ = ok(self.node(site).cli(&args).await);
        self.node(site).reports(|status| status.role == "standby" && status.ready).await;
        self.refuses(site, active).await;
    }

    /// A comment at this site is refused with the name of the active one. (Of a closed change, Gerrit itself refuses
    /// some votes.)
    async fn refuses(&self, site: &str, active: &str) {
        let review = format!("/changes/p~{}/revisions/current/review", self.edited[0]);
        let comment = json!({"message": "not here"});
        let named = format!("write to {active}, which is active");
        let refused = async || {
            let answer = self.server(site).rest("POST", &review, &comment).await;
            assert_eq!(answer.status, 503, "a fenced site took a comment: {answer:?}");
            answer.text.contains(&named)
        };
        self.server(site).shows("a refusal that names the active site", refused).await;
    }

    /// A planned failover while users go on: a user who is refused comes again.
    async fn planned(&mut self, from: &str, to: &str) {
        let load = self.users_at(from).await;
        let report = fail_over(self.node(to), from, to, &[]).await;
        println!("planned:\n{report}");
        assert!(report.contains(" and its probes were green after "), "{report}");
        self.told.add(load.stop().await);
        self.keeps(to).await;
        let load = self.users_at(to).await;
        self.told.add(load.stop().await);
        self.refuses(from, to).await;
        self.agrees().await;
    }

    /// All sites hold the same, each index matches the refs, users find all that they were told, and nothing was
    /// fetched as a whole.
    async fn agrees(&self) {
        let truth = in_lockstep(&self.sites, "p").await;
        assert!(truth.refs.len() > self.edited.len(), "{truth:?}");
        for server in &self.sites.servers {
            self.told.is_kept_at(server).await;
            let said = server.read(&format!("/changes/p~{}/messages", self.edited[0])).await.to_string();
            assert!(!said.contains("not here"), "a fenced commit is shown: {said}");
        }
        for node in &self.sites.cluster.nodes {
            let log = std::fs::read_to_string(node.log()).expect("a log");
            assert!(!log.contains("starting a state transfer"), "{} was filled anew\n{}", node.name, node.log_tail());
        }
    }
}

/// Waits until a node of a fenced site serves reads. If its process ended, starts it again, as a supervisor does.
async fn fenced_and_ready(node: &mut Node) {
    let end = Instant::now() + PATIENCE;
    while !node.status().await.is_some_and(|status| status.ready && status.role == "fenced") {
        if node.ended().is_some() {
            let _ = node.end().await;
            node.start(None);
        }
        assert!(Instant::now() < end, "{}", node.log_tail());
        sleep(Duration::from_millis(100)).await;
    }
}

/// A user for the probes, with the rights that the guide lists, and `[probes]` at each site with a Gerrit. Its token,
/// its key and its sessions are made now, long before a failover.
pub async fn configure_probes(sites: &mut Sites) {
    let (a, b) = sites.two();
    let account = json!({"http_password": PROBE.1, "email": "probe@example.com"});
    let made = a.rest("PUT", "/accounts/probe", &account).await.json();
    let number = made["_account_id"].as_u64().expect("a number");
    a.create("probe").await;
    let rule = json!({"rules": {"global:Registered-Users": {"action": "ALLOW"}}});
    let rights = json!({"add": {"refs/heads/lockstep-probe/*": {"permissions": {"push": rule, "create": rule}}}});
    let _ = a.rest("POST", "/projects/probe/access", &rights).await.json();
    let folder = sites.cluster.scratch("probe");
    let key = Key::give_to(PROBE, a, &folder).await;
    std::fs::write(folder.join("password"), PROBE.1).expect("a file");
    std::fs::write(folder.join("known_hosts"), a.known_hosts() + &b.known_hosts()).expect("a file");
    in_lockstep(sites, "probe").await;
    for (server, node) in sites.servers.iter().zip(&mut sites.cluster.nodes) {
        server.answers(PROBE, "/accounts/self", 200).await;
        let login = browse(server.http, &format!("/login/?account_id={number}"), &[]).await.expect("an answer");
        let session = login.session().unwrap_or_else(|| panic!("no session: {login:?}"));
        std::fs::write(folder.join(format!("session-{}", node.name)), session).expect("a file");
        // One site is probed by SSH and the other one by HTTP.
        let git = match node.site.as_str() {
            "a" => format!("ssh://probe@{}/probe", server.ssh),
            _ => format!("http://{}/a/probe", server.http),
        };
        node.add_settings(&format!(
            "[probes]\ngit = \"{git}\"\nemail = \"probe@example.com\"\nrest = \"http://{http}/a/accounts/self\"\n\
             user = \"probe\"\npassword_file = \"{folder}/password\"\nssh = \"probe@{ssh}\"\nkey_file = {key:?}\n\
             known_hosts_file = \"{folder}/known_hosts\"\nsession = \"http://{http}/accounts/self\"\n\
             session_file = \"{folder}/session-{name}\"\ntimeout = \"10s\"\n",
            http = server.http,
            ssh = server.ssh,
            folder = folder.display(),
            key = key.file(),
            name = node.name,
        ));
        let _ = node.stop().await;
        node.start(None);
        node.ready().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn users_go_on_at_another_gerrit_and_nothing_that_they_were_told_is_lost() {
    let (seed, rounds) = (number("LOCKSTEP_CRASH_SEED", 1), number("LOCKSTEP_ROUNDS", 2));
    println!("to repeat it: make gerrit-failover SEED={seed} ROUNDS={rounds}");
    let mut story = Story::begin(seed).await;
    let (mut from, mut to) = ("a", "b");
    for round in 0..rounds {
        story.forced(from, to, (round + seed) % 2 == 1).await;
        (from, to) = (to, from);
    }
    story.planned(from, to).await;
    story.planned(to, from).await;
    let roles: Vec<Role> = sites_of(story.node("a")).await.sites.iter().map(|site| site.role).collect();
    assert_eq!(roles.iter().filter(|role| **role == Role::Active).count(), 1, "{roles:?}");
    let Ledger { messages, changes, merged, done, failed } = &story.told;
    println!(
        "{done} requests done and {failed} failed; {} messages, {} changes and {} submissions are kept",
        messages.len(),
        changes.len(),
        merged.len()
    );
}

/// The probes against a real Gerrit, each made red in its own way: by a drill, which runs those of the active site.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn each_probe_of_a_real_gerrit_is_green_and_turns_red_with_its_reason() {
    let mut sites = Sites::with_gerrits(&Kit::from_env(), lockstep(), &["a-0", "b-0"], 2).await;
    make_standby(&sites.cluster, "b").await;
    configure_probes(&mut sites).await;
    let (a, node) = (&sites.servers[0], &sites.cluster.nodes[0]);
    let drill = async || node.cli(&["drill", "--to", "b", "--reason", "test"]).await;
    let green = async || {
        let output = drill().await;
        output.status.success().then(|| text(&output))
    };
    assert!(until(green).await.is_some(), "{}", text(&drill().await));
    let branch = "refs/heads/lockstep-probe/a-0";
    assert!(sites.cluster.nodes[1].repository("probe").exists());
    a.shows("the probe has pushed", async || {
        a.rest("GET", &format!("/projects/probe/branches/{}", branch.replace('/', "%2F")), &Value::Null).await.status
            == 200
    })
    .await;

    let folder = sites.cluster.scratch("probe");
    let other_host = format!(
        "[127.0.0.1]:{} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\n",
        a.ssh.port()
    );
    for (file, content, reasons) in [
        ("known_hosts", other_host.as_str(), &["ssh at ", "fetch at ", "REMOTE HOST IDENTIFICATION HAS CHANGED"][..]),
        ("password", "another", &["rest", "401"][..]),
        ("session-a-0", "GerritAccount=another", &["session", "403"][..]),
    ] {
        let good = std::fs::read(folder.join(file)).expect("a file");
        std::fs::write(folder.join(file), content).expect("a file");
        let red = drill().await;
        assert_eq!(red.status.code(), Some(2), "{file}: {}", text(&red));
        assert!(reasons.iter().all(|reason| text(&red).contains(reason)), "{file}: {}", text(&red));
        // Both the probe by SSH and that by git at this site see another host.
        let of_host = text(&red).matches("REMOTE HOST IDENTIFICATION HAS CHANGED").count();
        assert!(file != "known_hosts" || of_host >= 2, "{file}: {}", text(&red));
        std::fs::write(folder.join(file), good).expect("a file");
    }
    // Without the right to push, or with an address that is not the user's.
    let rule = json!({"permissions": {"push": {"rules": {"global:Registered-Users": {"action": "ALLOW"}}}}});
    let rights = json!({"remove": {"refs/heads/lockstep-probe/*": rule}});
    let _ = a.rest("POST", "/projects/probe/access", &rights).await.json();
    let red = drill().await;
    assert!(red.status.code() == Some(2) && text(&red).contains("push"), "{}", text(&red));
}
