//! Operations of a user in Gerrit, and the time that the user waits.

use std::time::Duration;

use lockstep_loadtest::Fallible;
use lockstep_loadtest::stats::Stats;
use lockstep_tests::e2e::gerrit::server::Server;
use lockstep_tests::e2e::gerrit::user::User;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::inside::{Inside, Sidecar};
use crate::pair::Pair;

/// An operation of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A vote on the label Code-Review, by REST.
    Vote,
    /// A comment on a line.
    Comment,
    /// A draft of a comment.
    Draft,
    /// A push of this many new changes, each on top of the one before.
    Push(usize),
    /// A submit of a change.
    Submit,
}

/// The wait of a user, with the sidecar's part.
#[derive(Clone, Copy, Debug)]
pub struct Waited {
    /// The duration of the operation.
    pub took: Duration,
    /// The sidecar's totals during the operation. Zero without a sidecar.
    pub inside: Inside,
}

/// A user at a server, who works on one project.
pub struct Desk<'a> {
    server: &'a Server,
    user: User,
    project: &'static str,
    sidecar: Option<Sidecar>,
    /// The change that gets the votes and comments.
    change: u32,
    done: usize,
}

impl<'a> Desk<'a> {
    /// Two desks, one without a sidecar and one with it. Creates the changes to vote on.
    pub async fn both(pair: &'a Pair, project: &'static str) -> [Self; 2] {
        let ([plain, bridged], [without, with]) = (pair.users(project).await, pair.servers());
        let sidecar = Sidecar(pair.sites.cluster.nodes[0].health);
        [Self::new(without, plain, project, None).await, Self::new(with, bridged, project, Some(sidecar)).await]
    }

    async fn new(server: &'a Server, user: User, project: &'static str, sidecar: Option<Sidecar>) -> Self {
        let mut desk = Self { server, user, project, sidecar, change: 0, done: 0 };
        desk.prepare(1).await;
        desk.change = desk.user.review("master").await[0];
        desk
    }

    /// Prepares an operation and does it. Only its last call is timed.
    ///
    /// # Panics
    /// If Gerrit refuses.
    pub async fn does(&mut self, operation: Operation) -> Waited {
        self.done += 1;
        let line = json!({"path": "first", "line": 1, "message": format!("remark {}", self.done)});
        match operation {
            Operation::Vote => {
                let value = if self.done.is_multiple_of(2) { 1 } else { -1 };
                self.timed(self.reviews(self.change, json!({"labels": {"Code-Review": value}}))).await
            }
            Operation::Comment => self.timed(self.reviews(self.change, json!({"comments": {"first": [line]}}))).await,
            Operation::Draft => self.timed(self.calls("PUT", self.change, "revisions/current/drafts", line)).await,
            Operation::Push(changes) => {
                self.prepare(changes).await;
                let push = async { assert_eq!(self.user.review("master").await.len(), changes) };
                self.timed(push).await
            }
            Operation::Submit => {
                self.prepare(1).await;
                let change = self.user.review("master").await[0];
                self.reviews(change, json!({"labels": {"Code-Review": 2}})).await;
                self.timed(self.calls("POST", change, "submit", json!({}))).await
            }
        }
    }

    /// Makes commits on top of the branch. The first one of all becomes the change to vote on.
    async fn prepare(&self, count: usize) {
        self.user.at("master").await;
        for at in 0..count {
            let name = if self.change == 0 { "first".to_owned() } else { format!("file-{}-{at}", self.done) };
            let _ = self.user.commit(&name, "content\n", &format!("{}.{at}", self.done)).await;
        }
    }

    async fn timed(&self, action: impl Future<Output = ()>) -> Waited {
        let before = self.inside().await;
        let start = Instant::now();
        action.await;
        let took = start.elapsed();
        Waited { took, inside: self.inside().await.since(&before) }
    }

    async fn reviews(&self, change: u32, review: Value) {
        self.calls("POST", change, "revisions/current/review", review).await;
    }

    async fn calls(&self, method: &str, change: u32, what: &str, body: Value) {
        let path = format!("/changes/{}~{change}/{what}", self.project);
        let answer = self.server.rest(method, &path, &body).await;
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
    }

    async fn inside(&self) -> Inside {
        match &self.sidecar {
            Some(sidecar) => sidecar.inside().await,
            None => Inside::default(),
        }
    }
}

/// Both users do the operation in turns, `times` times. Each begins equally often. Returns the waits of each.
pub async fn in_turns(desks: &mut [Desk<'_>; 2], operation: Operation, times: usize) -> [Vec<Waited>; 2] {
    let mut waited = [Vec::new(), Vec::new()];
    for round in 0..times {
        for turn in 0..2 {
            let at = (round + turn) % 2;
            waited[at].push(desks[at].does(operation).await);
        }
    }
    waited
}

/// The distribution of the waits.
pub fn stats(waited: &[Waited]) -> Fallible<Stats> {
    Stats::of(waited.iter().map(|one| one.took))
}
