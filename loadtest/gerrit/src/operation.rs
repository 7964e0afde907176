//! What a user does in Gerrit, and how long he waited.

use std::time::Duration;

use lockstep_tests::e2e::gerrit::server::Server;
use lockstep_tests::e2e::gerrit::user::User;
use serde_json::{Value, json};
use tokio::time::Instant;

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A vote.
    Vote,
    /// A comment on a line.
    Comment,
    /// A draft of a comment.
    Draft,
    /// A push of so many new changes, each on the one before.
    Push(usize),
    /// A submit of a change.
    Submit,
}

/// A user at a server who works on one project.
pub struct Desk<'a> {
    server: &'a Server,
    user: User,
    project: &'static str,
    /// The change that is voted on.
    change: u32,
    done: usize,
}

impl<'a> Desk<'a> {
    /// Makes the change to vote on.
    pub async fn new(server: &'a Server, user: User, project: &'static str) -> Self {
        let mut desk = Self { server, user, project, change: 0, done: 0 };
        desk.commits(1).await;
        desk.change = desk.user.review("master").await[0];
        desk
    }

    /// Prepares an operation, does it, and answers how long it took.
    ///
    /// # Panics
    /// Gerrit refuses.
    pub async fn does(&mut self, operation: Operation) -> Duration {
        self.done += 1;
        let line = json!({"path": "first", "line": 1, "message": format!("remark {}", self.done)});
        match operation {
            Operation::Vote => {
                let value = if self.done.is_multiple_of(2) { 1 } else { -1 };
                self.calls("POST", self.change, "revisions/current/review", json!({"labels": {"Code-Review": value}}))
                    .await
            }
            Operation::Comment => {
                let body = json!({"comments": {"first": [line]}});
                self.calls("POST", self.change, "revisions/current/review", body).await
            }
            Operation::Draft => self.calls("PUT", self.change, "revisions/current/drafts", line).await,
            Operation::Push(changes) => {
                self.commits(changes).await;
                let start = Instant::now();
                let numbers = self.user.review("master").await;
                let took = start.elapsed();
                assert_eq!(numbers.len(), changes);
                took
            }
            Operation::Submit => {
                self.commits(1).await;
                let change = self.user.review("master").await[0];
                let _ =
                    self.calls("POST", change, "revisions/current/review", json!({"labels": {"Code-Review": 2}})).await;
                self.calls("POST", change, "submit", json!({})).await
            }
        }
    }

    /// Commits on what the branch shows; the first ones of all are what is voted on.
    async fn commits(&self, count: usize) {
        self.user.at("master").await;
        for at in 0..count {
            let name = if self.change == 0 { "first".to_owned() } else { format!("file-{}-{at}", self.done) };
            let _ = self.user.commit(&name, "content\n", &format!("{}.{at}", self.done)).await;
        }
    }

    async fn calls(&self, method: &str, change: u32, what: &str, body: Value) -> Duration {
        let path = format!("/changes/{}~{change}/{what}", self.project);
        let start = Instant::now();
        let answer = self.server.rest(method, &path, &body).await;
        let took = start.elapsed();
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
        took
    }
}

/// Both users do the same in turns, `times` times; each begins as often as the other. What each waited.
pub async fn in_turns(desks: &mut [Desk<'_>; 2], operation: Operation, times: usize) -> [Vec<Duration>; 2] {
    let mut waited = [Vec::new(), Vec::new()];
    for round in 0..times {
        for turn in 0..2 {
            let at = (round + turn) % 2;
            waited[at].push(desks[at].does(operation).await);
        }
    }
    waited
}
