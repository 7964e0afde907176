//! Calls between a Gerrit and its sidecar are lost. A user's request is then done once, or the user is told that its
//! outcome is not known. Index, refs and events match what really happened.

use lockstep_tests::e2e::gerrit::Sites;
use lockstep_tests::e2e::gerrit::agree::in_lockstep;
use lockstep_tests::e2e::gerrit::between::{Between, Loss};
use lockstep_tests::e2e::gerrit::rest::Answer;
use lockstep_tests::e2e::gerrit::server::Server;
use lockstep_tests::e2e::gerrit::stream::{Key, Listener};
use lockstep_tests::e2e::gerrit::user::User;
use lockstep_tests::e2e::git::fails;
use serde_json::{Value, json};

use crate::lockstep;

/// More losses than the retries of a call within its timeout.
pub const ALWAYS: usize = 10_000;
const REVIEW: &str = "/changes/p~1/revisions/current/review";

async fn comment(server: &Server, text: &str) -> Answer {
    server.rest("POST", REVIEW, &json!({"message": text})).await
}

/// The number of times that the first change has a message.
async fn said(server: &Server, text: &str) -> usize {
    let messages = server.read("/changes/p~1/messages").await;
    let texts = messages.as_array().into_iter().flatten().filter_map(|message| message["message"].as_str());
    texts.filter(|message| message.ends_with(text)).count()
}

fn is_comment(event: &Value, text: &str) -> bool {
    event["comment"].as_str().is_some_and(|comment| comment.ends_with(text))
}

fn is_push(event: &Value, name: &str) -> bool {
    event["type"] == "patchset-created" && event["change"]["subject"] == name
}

/// The number of events for a comment, and for a push, that a listener received.
fn told(listener: &Listener, name: &str) -> [usize; 2] {
    let heard = listener.heard();
    [is_comment, is_push].map(|is_it| heard.iter().filter(|event| is_it(event, name)).count())
}

/// A site whose calls to its sidecar can be lost, and another site.
struct Scene<'a> {
    sites: &'a Sites,
    between: &'a Between,
    user: User,
}

impl Scene<'_> {
    /// Commits a change with this name.
    async fn change(&self, name: &str) {
        self.user.at("master").await;
        let _ = self.user.commit("file", &format!("{name}\n"), name).await;
    }

    /// One answer, or one request, is lost. The user does not notice.
    async fn one_is_lost(&self) {
        let mut numbers = Vec::new();
        for (loss, name) in [(Loss::Answer, "lost answer"), (Loss::Request, "lost request")] {
            self.change(name).await;
            self.between.lose(loss, 2);
            numbers.extend(self.user.review("master").await);
            assert_eq!(self.between.mend(), 2, "a push: {name}");
            self.between.lose(loss, 1);
            assert_eq!(comment(&self.sites.servers[0], name).await.status, 200);
            assert_eq!(self.between.mend(), 1, "a comment: {name}");
        }
        assert_eq!(numbers, [1, 2]);
        in_lockstep(self.sites, "p").await;
    }

    /// All answers, or all requests, are lost, for a comment and for a push. The user is told that the outcome is not
    /// known.
    async fn all_are_lost(&self, loss: Loss, name: &str) {
        self.between.lose(loss, ALWAYS);
        let unknown = comment(&self.sites.servers[0], name).await;
        assert!(self.between.mend() > 1, "the call must be repeated");
        assert_eq!(unknown.status, 503, "{unknown:?}");
        assert!(unknown.text.contains("not known yet whether this was committed"), "{unknown:?}");
        in_lockstep(self.sites, "p").await;
        self.change(name).await;
        self.between.lose(loss, ALWAYS);
        let unknown = fails(self.user.push("refs/for/master").await);
        assert!(self.between.mend() > 1, "the call must be repeated");
        assert!(unknown.contains("not known yet whether this was committed"), "{unknown}");
        in_lockstep(self.sites, "p").await;
    }

    /// Checks the final state at both sites.
    async fn ends(&self, listeners: &[Listener; 2]) {
        let (a, b) = self.sites.two();
        assert_eq!(comment(a, "the end").await.status, 200);
        in_lockstep(self.sites, "p").await;
        for (server, listener) in [a, b].into_iter().zip(listeners) {
            // If the user was told that the outcome is not known, the events come once it is known. The last push was
            // repeated.
            let rows = [
                ("lost answer", 1, [1, 1]),
                ("lost request", 1, [1, 1]),
                ("all answers lost", 1, [1, 1]),
                ("all requests lost", 0, [0, 1]),
            ];
            for fits in [is_comment, is_push] {
                let _ = listener.hears("the unknown request", |event| fits(event, "all answers lost")).await;
            }
            let _ = listener.hears("the end", |event| is_comment(event, "the end")).await;
            for (text, times, events) in rows {
                assert_eq!(said(server, text).await, times, "{text}");
                assert_eq!(told(listener, text), events, "{text}: {:#?}", listener.heard());
            }
            assert_eq!(server.find("project:p").await.len(), 4);
            listener.was_told_well();
        }
    }
}

/// Two sites, and a proxy between the first site's Gerrit and its sidecar.
pub async fn lossy() -> (Sites, Between) {
    let mut sites = Sites::start(lockstep(), &["a-0", "b-0"]).await;
    let between = Between::before(&sites.cluster.nodes[0].socket(), &sites.cluster.scratch("between.sock"));
    sites.servers[0].stop().await;
    sites.servers[0].set("lockstep.socket", &between.socket.display().to_string()).await;
    sites.servers[0].set("lockstep.timeout", "4 s").await;
    sites.servers[0].run().await;
    (sites, between)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Gerrit: make gerrit-e2e"]
async fn an_answer_that_is_lost_is_asked_for_again_or_said_to_be_unknown() {
    let (sites, between) = lossy().await;
    let (a, b) = sites.two();
    let key = Key::give(a, &sites.cluster.scratch("key")).await;
    let listeners = sites.listeners(&key).await;
    a.create("p").await;
    let scene = Scene { sites: &sites, between: &between, user: sites.user(0, "p").await };
    scene.one_is_lost().await;

    scene.all_are_lost(Loss::Answer, "all answers lost").await;
    assert_eq!(b.find("project:p").await.len(), 3, "the push must be committed");
    let again = fails(scene.user.push("refs/for/master").await);
    assert!(again.contains("no new changes"), "{again}");

    scene.all_are_lost(Loss::Request, "all requests lost").await;
    assert_eq!(b.find("project:p").await.len(), 3, "the push must not be committed");
    assert_eq!(scene.user.review("master").await.len(), 1);
    scene.ends(&listeners).await;
}
