//! A standby with a Gerrit: its own periodic writes rest, users who want to write are told the active site, and
//! reading goes on. After its promotion it does all of it, without a restart. `docs/gerrit.md` has the same rows.

use std::sync::Arc;

use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::rest::{ADMIN, Answer, Login, browse, fetch};
use lockstep_tests::e2e::gerrit::server::Server;
use lockstep_tests::e2e::gerrit::stream::Key;
use lockstep_tests::e2e::gerrit::{Kit, Sites};
use lockstep_tests::e2e::git::{fails, ok, text};
use lockstep_tests::e2e::until;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::failover::{fail_over, make_standby};
use crate::lockstep;

/// A user whose account is made while `b` is a standby, and who has never been there.
const JO: Login<'_> = Login("jo", "s3cret");
/// The words that name the active site.
const NAMED: &str = "write to a, which is active";
/// The header by which a proxy names the user who signs in.
const HEADER: &str = "X-Test-User";
/// The header by which it gives the e-mail address of this user.
const EMAIL: &str = "X-Test-Email";
/// The line that the job logs which packs, at every site.
const RUNS: &str = "Triggering gc on all repositories";

/// The jobs that this release can be made to run every few seconds: the class, and what it logs when it runs.
fn jobs(kit: &Kit) -> Vec<(&'static str, &'static str)> {
    let mut jobs = vec![
        ("ChangeCleanupRunner", "Running change cleanups"),
        ("AccountDeactivator", "Running account deactivations"),
        ("AttentionSetOwnerAdder", "Running attention-set owner adder"),
    ];
    if kit.release >= (3, 12) {
        jobs.push(("DraftCommentsCleanupRunner", "Starting draft comments cleanup"));
    }
    jobs
}

/// A mail server that notes who signs in, and hangs up.
async fn mail_server() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port().to_string();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if stream.write_all(b"+OK ready\r\n").await.is_err() {
                continue;
            }
            let mut line = String::new();
            let _ = BufReader::new(&mut stream).read_line(&mut line).await;
            if let Some(user) = line.trim().strip_prefix("USER ") {
                noted.lock().push(user.to_owned());
            }
        }
    });
    (port, seen)
}

/// Every periodic job is due every few seconds, and a proxy names the user who signs in.
fn settings(mail_port: &str) -> Vec<(&'static str, String)> {
    let mut settings: Vec<(&'static str, String)> = [
        ("auth.type", "HTTP"),
        ("auth.httpHeader", HEADER),
        ("auth.httpEmailHeader", EMAIL),
        ("auth.autoUpdateAccountActiveStatus", "true"),
        ("changeCleanup.abandonAfter", "1000 d"),
        ("attentionSet.readdOwnerAfter", "1000 d"),
        ("receiveemail.protocol", "POP3"),
        ("receiveemail.host", "127.0.0.1"),
        ("receiveemail.port", mail_port),
        ("receiveemail.username", "{node}"),
        ("receiveemail.password", "secret"),
        ("receiveemail.fetchInterval", "3 s"),
        ("gc.startTime", "00:00"),
        ("gc.interval", "20 s"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .into();
    for (start, interval) in [
        ("changeCleanup.startTime", "changeCleanup.interval"),
        ("accountDeactivation.startTime", "accountDeactivation.interval"),
        ("attentionSet.startTime", "attentionSet.interval"),
        ("draftCommentsCleanup.startTime", "draftCommentsCleanup.interval"),
    ] {
        settings.extend([(start, "00:00".to_owned()), (interval, "3 s".to_owned())]);
    }
    settings
}

/// A request that writes refs.
struct Write {
    who: Login<'static>,
    method: &'static str,
    path: String,
    body: Value,
}

/// The requests that users and administrators make, by REST. `old_draft` is the path of a draft of jo.
fn writes(release: (u32, u32), old_draft: &str) -> Vec<Write> {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl x";
    let token = if release >= (3, 13) { "/accounts/self/tokens/t1" } else { "/accounts/self/password.http" };
    let of_token = if release >= (3, 13) { json!({}) } else { json!({"generate": true}) };
    let review = "/changes/p~1/revisions/current/review";
    let draft = json!({"path": "file", "line": 1, "message": "a draft"});
    let rules = json!({"global:Registered-Users": {"action": "ALLOW"}});
    let access = json!({"add": {"refs/heads/x": {"permissions": {"read": {"rules": rules}}}}});
    let of_users = [
        ("POST", review, json!({"labels": {"Code-Review": 1}})),
        ("POST", review, json!({"message": "a comment"})),
        ("PUT", "/changes/p~1/revisions/current/drafts", draft),
        ("DELETE", old_draft, json!({})),
        ("PUT", "/changes/p~1/edit/file", json!("two\n")),
        ("POST", "/changes/", json!({"project": "p", "branch": "master", "subject": "by REST"})),
        ("PUT", "/accounts/self/starred.changes/p~1", json!({})),
        ("PUT", "/accounts/self/preferences", json!({"changes_per_page": 10})),
        ("POST", "/accounts/self/watched.projects", json!([{"project": "p", "notify_new_changes": true}])),
        ("PUT", token, of_token),
        ("POST", "/accounts/self/sshkeys", json!(key)),
    ];
    let of_administrators = [
        ("PUT", "/changes/p~1/topic", json!({"topic": "t"})),
        ("POST", "/changes/p~1/submit", json!({})),
        ("POST", "/changes/p~1/abandon", json!({})),
        ("POST", "/changes/p~1/reviewers", json!({"reviewer": "jo"})),
        ("POST", "/changes/p~1/hashtags", json!({"add": ["h"]})),
        ("POST", "/changes/p~1/attention", json!({"user": "admin", "reason": "text"})),
        ("DELETE", "/changes/p~1", json!({})),
        ("PUT", "/projects/q", json!({})),
        ("PUT", "/projects/p/branches/x", json!({"revision": "HEAD"})),
        ("DELETE", "/projects/p/branches/other", json!({})),
        ("POST", "/projects/p/access", access),
        ("PUT", "/projects/p/description", json!({"description": "text"})),
        ("PUT", "/projects/p/HEAD", json!({"ref": "refs/heads/other"})),
        ("PUT", "/accounts/new", json!({"http_password": "secret"})),
        ("PUT", "/accounts/jo/name", json!({"name": "Joanna"})),
        ("DELETE", "/accounts/jo/active", json!({})),
        ("PUT", "/groups/crew", json!({})),
    ]
    .map(|(method, path, body)| Write { who: ADMIN, method, path: path.to_owned(), body });
    let of_users = of_users.map(|(method, path, body)| Write { who: JO, method, path: path.to_owned(), body });
    of_users.into_iter().chain(of_administrators).collect()
}

/// Each write by REST is refused at once, with the name of the active site. All that were not are reported together.
async fn refuses_rest(b: &Server, old_draft: &str) {
    let mut wrong = Vec::new();
    for Write { who, method, path, body } in writes(b.kit.release, old_draft) {
        let answer = b.rest_as(who, method, &path, &body).await;
        if answer.status != 503 || !answer.text.contains(NAMED) {
            wrong.push(format!("{method} {path}: {} {}", answer.status, answer.text));
        }
    }
    assert!(wrong.is_empty(), "not refused as they should be:\n{}", wrong.join("\n"));
}

/// Commands over SSH that write. An administrator and a user who has never been there.
async fn refuses_ssh(b: &Server, admin: &Key, jo: &Key) {
    let mut wrong = Vec::new();
    for (key, command) in [
        (jo, "gerrit review --project p 1,1 --code-review 1"),
        (admin, "gerrit set-topic p~1 --topic t"),
        (admin, "gerrit set-account jo --full-name Joanna"),
        (admin, "gerrit create-account --http-password x new"),
        (admin, "gerrit create-project q"),
        (admin, "gerrit create-branch p x master"),
        (admin, "gerrit create-group crew"),
        (admin, "gerrit set-reviewers -p p --add jo 1"),
        (admin, "gerrit set-head p --new-head refs/heads/other"),
    ] {
        let output = key.run(b, &command.split(' ').collect::<Vec<_>>()).await;
        if output.status.success() || !text(&output).contains(NAMED) {
            wrong.push(format!("{command}: {} {}", output.status, text(&output)));
        }
    }
    assert!(wrong.is_empty(), "not refused as they should be:\n{}", wrong.join("\n"));
}

/// A browser that signs in, in the name of this user.
async fn sign_in(server: &Server, user: &str) -> Answer {
    sign_in_with(server, &[(HEADER, user)]).await
}

/// The same, with all that the proxy says about the user.
async fn sign_in_with(server: &Server, headers: &[(&str, &str)]) -> Answer {
    browse(server.http, "/login/", headers).await.expect("Gerrit answers")
}

/// The name of the user of a session; none if the session is not known.
async fn user_of(server: &Server, session: &str) -> Option<String> {
    let answer = browse(server.http, "/accounts/self", &[("Cookie", session)]).await.expect("Gerrit answers");
    if answer.status != 200 {
        return None;
    }
    answer.json()["username"].as_str().map(str::to_owned)
}

/// Reading goes on, also for a user who has never been here. The site's own data can be written.
async fn serves_readers(a: &Server, b: &Server, jo: &Key) {
    b.answers(JO, "/accounts/self", 200).await;
    b.shows("the key of jo opens b", async || jo.opens(b).await).await;
    for path in [
        "/changes/p~1/detail",
        "/accounts/self/preferences",
        "/projects/p/access",
        "/groups/",
        // A merge: Gerrit compares it with the automatic merge of its parents, which it may keep in a ref of its own.
        "/changes/p~2/revisions/current/files",
        "/changes/p~2/revisions/current/files?parent=1",
        "/changes/p~2/revisions/current/files/%2FMERGE_LIST/diff",
        "/changes/p~2/revisions/current/files/file/diff?parent=1",
    ] {
        assert_eq!(b.rest_as(JO, "GET", path, &Value::Null).await.status, 200, "{path}");
    }
    let _ = ok(jo.run(b, &["gerrit", "query", "change:1"]).await);
    for (who, method, path) in [
        (ADMIN, "POST", "/changes/p~1/index"),
        (ADMIN, "POST", "/accounts/jo/index"),
        (JO, "PUT", "/changes/p~1/revisions/current/files/file/reviewed"),
    ] {
        let answer = b.rest_as(who, method, path, &json!({})).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
    }
    let reviewed = "/changes/p~1/revisions/current/files?reviewed";
    let flags = async |at: &Server| at.rest_as(JO, "GET", reviewed, &Value::Null).await.json();
    assert_eq!((flags(b).await, flags(a).await), (json!(["file"]), json!([])), "reviewed flags are the site's own");
}

/// A user who was never there signs in.
async fn first_logins(a: &Server, b: &Server) {
    // An account that exists nowhere would have to be written.
    let refused = sign_in(b, "newcomer").await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.text.contains(NAMED) && refused.text.contains("sign in at the active site once"), "{refused:?}");
    assert_eq!(refused.session(), None);
    let accounts = b.read("/accounts/?q=username:newcomer").await;
    assert_eq!(accounts, json!([]), "nothing was written");
    let program = fetch(b.http, "/login/", &[(HEADER, "newcomer")]).await.expect("Gerrit answers");
    assert!(program.status == 503 && program.head.contains("text/plain"), "{program:?}");
    assert!(program.text.contains(NAMED) && !program.text.contains("<html>"), "{program:?}");
    // An account that the active site has made is known here.
    let at_a = sign_in(a, "carol").await;
    let session = at_a.session().unwrap_or_else(|| panic!("no session: {at_a:?}"));
    b.shows("carol can sign in at b", async || sign_in(b, "carol").await.session().is_some()).await;
    let own = sign_in(b, "carol").await.session().expect("a session");
    assert_eq!(user_of(b, &own).await.as_deref(), Some("carol"));
    assert_eq!(user_of(b, &session).await, None, "a session is of one site");
    assert_eq!(user_of(a, &session).await.as_deref(), Some("carol"));
    // An e-mail address that the account does not have would have to be written, too.
    let with_email = [(HEADER, "carol"), (EMAIL, "carol@example.com")];
    let refused = sign_in_with(b, &with_email).await;
    assert!(refused.status == 503 && refused.text.contains(NAMED), "{refused:?}");
    assert_eq!(refused.session(), None);
    assert!(sign_in_with(a, &with_email).await.session().is_some());
    let is_known = async || sign_in_with(b, &with_email).await.session().is_some();
    b.shows("carol can sign in at b with her address", is_known).await;
}

/// Has a job of a plugin write a branch. Returns the result of the update, or the reason why it failed.
async fn job_of_plugin(server: &Server) -> String {
    let answer = server.rest("POST", "/projects/p/test-plugin~job", &json!({})).await.json();
    answer.as_str().unwrap_or_else(|| panic!("the plugin answers with a text: {answer}")).to_owned()
}

/// Waits until a log has a line with each of these texts.
async fn logs(server: &Server, since: u64, texts: &[String]) {
    for text in texts {
        server.shows(text, async || server.log_since(since).contains(text.as_str())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn a_standby_writes_nothing_and_names_the_active_site_until_it_is_promoted() {
    let (port, mailboxes) = mail_server().await;
    let kit = Kit { settings: settings(&port), log_level: "INFO", ..Kit::from_env() };
    let sites = Sites::of(&kit, lockstep(), &["a-0", "b-0"]).await;
    let (a, b) = sites.two();
    a.create("p").await;
    in_lockstep(&sites, "p").await;
    make_standby(&sites.cluster, "b").await;
    let from = b.log_length();
    mailboxes.lock().retain(|user| user != "b-0");

    // Everything that users do at the active site arrives, for a user who is new too.
    let account = json!({"http_password": JO.1, "name": "Jo", "email": "jo@example.com"});
    let _ = a.rest("PUT", "/accounts/jo", &account).await.json();
    let user = sites.user(0, "p").await;
    let _ = user.commit("file", "one\n", "First").await;
    assert_eq!(user.review("master").await, [1]);
    let _ = a.rest("PUT", "/projects/p/branches/other", &json!({"revision": "HEAD"})).await.json();
    let vote = json!({"labels": {"Code-Review": 2}});
    let _ = a.rest("POST", "/changes/p~1/revisions/current/review", &vote).await.json();
    let draft = json!({"path": "file", "line": 1, "message": "a draft"});
    let drafts = "/changes/p~1/revisions/current/drafts";
    let made = a.rest_as(JO, "PUT", drafts, &draft).await.json();
    let old_draft = format!("{drafts}/{}", made["id"].as_str().expect("an id"));
    let _ = ok(user.push("refs/heads/side").await);
    let merge = json!({"project": "p", "branch": "master", "subject": "Merge", "merge": {"source": "side"}});
    assert_eq!(a.rest("POST", "/changes/", &merge).await.json()["_number"], 2);
    let admin = Key::give(a, &sites.cluster.scratch("admin")).await;
    let jo = Key::give_to(JO, a, &sites.cluster.scratch("jo")).await;
    let before = in_lockstep(&sites, "p").await;

    serves_readers(a, b, &jo).await;
    let has_draft = async || b.rest_as(JO, "GET", &old_draft, &Value::Null).await.status == 200;
    b.shows("the draft of jo", has_draft).await;
    refuses_rest(b, &old_draft).await;
    refuses_ssh(b, &admin, &jo).await;
    let at_b = sites.user(1, "p").await;
    let _ = at_b.commit("other", "one\n", "At b").await;
    let refused = fails(at_b.push("refs/for/master").await);
    assert!(refused.contains(NAMED), "{refused}");
    for to in ["refs/heads/topic", "refs/tags/v1"] {
        let refused = fails(at_b.git(&["push", "origin", &format!("HEAD~1:{to}")]).await);
        assert!(refused.contains(NAMED), "{to}: {refused}");
    }
    first_logins(a, b).await;
    let refused = job_of_plugin(b).await;
    assert!(refused.contains(NAMED), "{refused}");

    // The periodic jobs are due, and do not run.
    let jobs = jobs(&kit);
    let resting = |(job, _): &(&str, &str)| format!("{job} does not run: the role of this site is standby");
    let rest: Vec<String> = jobs.iter().map(resting).chain([resting(&("Pop3MailReceiver", ""))]).collect();
    let works: Vec<String> = jobs.iter().map(|(_, line)| (*line).to_owned()).collect();
    logs(b, from, &rest).await;
    logs(b, from, &[RUNS.to_owned()]).await;
    logs(a, 0, &works).await;
    let log = b.log_since(from);
    assert!(!works.iter().any(|line| log.contains(line.as_str())), "a job ran at a standby: {works:?}");
    assert!(!mailboxes.lock().contains(&"b-0".to_owned()), "a standby fetched mails");
    assert_eq!(in_lockstep(&sites, "p").await.refs, before.refs, "nothing was written");

    // The same Gerrit, promoted: its jobs run, and it takes what it refused.
    let (from_a, from_b) = (a.log_length(), b.log_length());
    let report = fail_over(&sites.cluster.nodes[1], "a", "b", &[]).await;
    println!("{report}");
    logs(b, from_b, &works).await;
    logs(a, from_a, &rest).await;
    let fetched = until(async || mailboxes.lock().contains(&"b-0".to_owned()).then_some(())).await;
    assert!(fetched.is_some(), "the promoted site fetches mails");
    assert!(sign_in(b, "newcomer").await.session().is_some(), "the first login writes now");
    assert_eq!(job_of_plugin(b).await, "NEW");
    let _ = b.rest_as(JO, "POST", "/changes/p~1/revisions/current/review", &json!({"message": "at b"})).await.json();
    let _ = ok(admin.run(b, &["gerrit", "set-account", "jo", "--full-name", "Jo"]).await);
    let _ = b.rest("POST", "/changes/p~1/submit", &json!({})).await.json();
    let refused = a.rest_as(JO, "POST", "/changes/p~1/revisions/current/review", &json!({"message": "at a"})).await;
    assert!(refused.status == 503 && refused.text.contains("write to b, which is active"), "{refused:?}");
    in_lockstep(&sites, "p").await;
}
