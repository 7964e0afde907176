//! The console of a real sidecar, used as a browser without a script uses it: by its pages, its forms and its cookies.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lockstep::base::clock::{Clock, SeededEntropy, SystemClock};
use lockstep::seams::tls::authority::{self, Validity};
use lockstep::seams::tls::{ClientFiles, ClientMaterial, PeerName, connect};
use lockstep::stages::api::operator_tokens::new_token;
use lockstep::stages::ports::OperatorRole;
use lockstep_proto::failover::Role;
use lockstep_proto::overview::Overview;
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{ok, refuses};
use lockstep_tests::e2e::node::{Node, free_port};
use lockstep_tests::e2e::until;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::failover::{roles, standbys};
use crate::lockstep;

/// An answer: its status, the page to which it leads, and its text.
#[derive(Debug)]
struct Answer {
    status: String,
    location: String,
    page: String,
}

impl Answer {
    /// The value of a field of the page's forms.
    fn field(&self, name: &str) -> String {
        let begin = format!("name=\"{name}\" value=\"");
        let (_, rest) = self.page.split_once(&begin).unwrap_or_else(|| panic!("no field {name} in: {}", self.page));
        rest.split('"').next().unwrap_or_default().to_owned()
    }
}

/// A browser that trusts one authority, and keeps cookies.
struct Browser {
    address: SocketAddr,
    material: ClientMaterial,
    cookies: Mutex<BTreeMap<String, String>>,
}

impl Browser {
    fn new(address: SocketAddr, trust: &Path) -> Self {
        let material = ClientMaterial::load(&ClientFiles { own: None, trust: trust.to_owned() }).expect("an authority");
        Self { address, material, cookies: Mutex::default() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\n"), "").await
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let pairs: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", value.replace(' ', "+"))).collect();
        let (form, origin) = (pairs.join("&"), self.address);
        let head = format!(
            "POST {path} HTTP/1.1\r\norigin: https://{origin}\r\ncontent-length: {}\r\ncontent-type: \
             application/x-www-form-urlencoded\r\n",
            form.len()
        );
        self.send(&head, &form).await
    }

    async fn send(&self, head: &str, body: &str) -> Answer {
        let cookies: Vec<String> = self.cookies.lock().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = cookies.join("; ");
        let text = format!("{head}host: {}\r\nconnection: close\r\ncookie: {cookies}\r\n\r\n{body}", self.address);
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        let name: PeerName = "127.0.0.1".parse().expect("a name");
        let mut stream = connect(&self.material, "127.0.0.1", name, stream).await.expect("TLS");
        stream.write_all(text.as_bytes()).await.expect("a request");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, page) = answer.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut location = String::new();
        for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
            match name.to_ascii_lowercase().as_str() {
                "location" => location = value.to_owned(),
                "set-cookie" => {
                    let (name, value) =
                        value.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
                    let _ = self.cookies.lock().insert(name.to_owned(), value.to_owned());
                }
                _ => {}
            }
        }
        Answer { status, location, page: page.to_owned() }
    }

    async fn log_in(&self, token: &str) {
        let csrf = self.get("/console/login").await.field("csrf");
        let answer = self.post("/console/login", &[("csrf", &csrf), ("token", token)]).await;
        assert_eq!((answer.status.as_str(), answer.location.as_str()), ("303", "/console"), "{answer:?}");
    }
}

/// Adds a console to the configuration of a node. Answers the token of an operator.
fn add_console(node: &Node, address: SocketAddr) -> String {
    let validity = Validity { now: Duration::from_millis(SystemClock.now_ms()), lifetime: Duration::from_secs(86_400) };
    let ca = authority::init("e2e", validity).expect("an authority");
    let own = authority::issue(&ca, &["127.0.0.1".parse().expect("a name")], validity).expect("a certificate");
    let made = new_token(&"alice".parse().expect("a name"), OperatorRole::Operator, &SeededEntropy::new(3));
    for (name, text) in
        [("ca.crt", &ca.certificate), ("tls.crt", &own.certificate), ("tls.key", &own.key), ("operators", &made.line)]
    {
        std::fs::write(node.home.join(name), format!("{text}\n")).expect("a file");
    }
    let home = node.home.display();
    node.add_settings(&format!(
        "[tls]\ncertificate_file = \"{home}/tls.crt\"\nkey_file = \"{home}/tls.key\"\ntrust_file = \"{home}/ca.crt\"\n\
         [operators]\nlisten = \"{address}\"\ntoken_file = \"{home}/operators\"\n\
         [console]\nenabled = true\nchanges = true\n"
    ));
    made.token
}

/// Three sites, of which `a` is active, and a browser at the console of `b`.
async fn visited() -> (Cluster, Browser, String) {
    let (address, token) = (free_port(), Mutex::new(String::new()));
    let tune = |node: &Node| {
        node.set_gerrit("refresh = \"none\"");
        if node.name == "b-0" {
            *token.lock() = add_console(node, address);
        }
    };
    let cluster = standbys(Cluster::start_tuned(lockstep(), &["a-0", "b-0", "c-0"], &tune).await).await;
    let browser = Browser::new(address, &cluster.nodes[1].home.join("ca.crt"));
    let token = token.lock().clone();
    (cluster, browser, token)
}

/// The rows of the overview's page, one per site, as the command line's answer says them.
fn rows(all: &Overview) -> Vec<String> {
    let row = |site: &lockstep_proto::overview::SiteOverview| {
        let safe = site.safe.as_ref().map_or("none".to_owned(), |safe| safe.safe.to_string());
        let (name, role) = (&site.status.site, site.status.role.name());
        format!("data-site=\"{name}\" data-safe=\"{safe}\" data-role=\"{role}\"")
    };
    all.sites.iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wizard_moves_the_writes_and_the_pages_say_what_the_command_line_says() {
    let (cluster, browser, token) = visited().await;
    let b = &cluster.nodes[1];
    assert_eq!(browser.get("/console").await.location, "/console/login");
    browser.log_in(&token).await;
    let _ = ok(b.cli(&["verify"]).await);
    let same = async || {
        let page = browser.get("/console").await.page;
        // Its exit code tells whether something is out of order, which may be so.
        let shown = b.cli(&["status", "--all", "--json"]).await;
        let all: Overview = serde_json::from_slice(&shown.stdout).expect("JSON");
        let is_safe = page.contains("data-site=\"b\" data-safe=\"true\" data-role=\"standby\"");
        (is_safe && rows(&all).iter().all(|row| page.contains(row))).then_some(())
    };
    assert!(until(same).await.is_some(), "{:?}\n{}", browser.get("/console").await, b.log_tail());
    assert!(browser.get("/console/projects").await.page.contains("<th scope=\"row\">p</th>"));

    let plan = "/console/failover/plan?kind=planned&from=a&to=b&max_loss=0";
    let planned = async || Some(browser.get(plan).await).filter(|answer| answer.page.contains("can be executed"));
    let Some(planned) = until(planned).await else { panic!("blocked: {:?}", browser.get(plan).await) };
    let names = ["csrf", "kind", "from", "to", "max_loss", "hash"];
    let values = names.map(|name| planned.field(name));
    let mut fields: Vec<(&str, &str)> = names.into_iter().zip(values.iter().map(String::as_str)).collect();
    fields.extend([("reason", "moved by the wizard"), ("confirm", "a")]);
    let unsure = browser.post("/console/failover/execute", &fields).await;
    assert!(unsure.status == "409" && unsure.page.contains("Nothing was changed"), "{unsure:?}");
    fields.pop();
    fields.push(("confirm", "b"));
    let begun = browser.post("/console/failover/execute", &fields).await;
    assert_eq!((begun.status.as_str(), begun.location.as_str()), ("303", "/console/failover"), "{begun:?}");
    let done = async || {
        let page = browser.get("/console/failover").await.page;
        let is_done = page.contains("data-step=\"stand_by\" data-state=\"done\"");
        (is_done && page.contains("from a to b (planned), is done.")).then_some(())
    };
    assert!(until(done).await.is_some(), "{:?}\n{}", browser.get("/console/failover").await, b.log_tail());
    assert_eq!(roles(&cluster.nodes[2]).await, [Role::Standby, Role::Active, Role::Standby]);
    let _ = ok(b.cli(&["project", "create", "at-b"]).await);
    // The old site reads its role twice per second. Until then it says that it is draining.
    let by_standby = async || {
        let refused = cluster.nodes[0].cli(&["project", "create", "at-a"]).await;
        String::from_utf8_lossy(&refused.stderr).contains("standby").then_some(refused)
    };
    refuses(until(by_standby).await.expect("a refusal by a standby"), "standby");
    let audit = browser.get("/console/audit").await.page;
    assert!(audit.contains("token alice") && audit.contains("moved by the wizard"), "{audit}");

    // The same form again is one of a plan that is out of date.
    let again = browser.post("/console/failover/execute", &fields).await;
    assert_eq!(again.status, "409", "{again:?}");
    // A removed line ends the session.
    std::fs::write(b.home.join("operators"), "").expect("a file");
    assert_eq!(browser.get("/console").await.location, "/console/login");
}
