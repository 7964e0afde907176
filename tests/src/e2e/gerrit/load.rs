//! Users who edit changes, an account and a group at one Gerrit, until it dies or they are stopped, and the ledger of
//! their answers.
//!
//! A user whose request got no answer, or an error, does not know whether it was done. Only requests that were answered
//! with success are in the ledger.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::rest::{ADMIN, call};
use super::server::Server;
use super::user::User;

/// The group whose members the users change, and its member.
pub const GROUP: &str = "crew";
/// The account that comes into the group and leaves it.
pub const MEMBER: &str = "jo";

/// The pause after a request that failed.
const AGAIN: Duration = Duration::from_millis(50);

/// The answers that users got. They have to find all of it for ever.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Messages that were answered with success: the number of the change, and a text that no other message has.
    pub messages: Vec<(u32, String)>,
    /// Changes that a push reported.
    pub changes: Vec<u32>,
    /// Changes whose submission was answered with success.
    pub merged: Vec<u32>,
    /// Number of requests that were answered with success.
    pub done: usize,
    /// Number of requests that got an error or no answer.
    pub failed: usize,
}

impl Ledger {
    /// Adds what users were told later or elsewhere.
    pub fn add(&mut self, other: Self) {
        self.messages.extend(other.messages);
        self.changes.extend(other.changes);
        self.merged.extend(other.merged);
        self.done += other.done;
        self.failed += other.failed;
    }

    /// Checks that a site shows everything that users were told: each message once, each change, each submission.
    ///
    /// # Panics
    /// If something is missing.
    pub async fn is_kept_at(&self, server: &Server) {
        let mut by_change: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for (change, text) in &self.messages {
            by_change.entry(*change).or_default().push(text);
        }
        for (change, texts) in by_change {
            let said = server.read(&format!("/changes/p~{change}/messages")).await.to_string();
            for text in texts {
                assert_eq!(said.matches(text).count(), 1, "change {change} says {text:?} once: {said}");
            }
        }
        for (query, numbers) in [("project:p", &self.changes), ("project:p is:merged", &self.merged)] {
            let found = server.find(query).await;
            let lost: Vec<&u32> = numbers.iter().filter(|number| !found.contains(number)).collect();
            assert!(lost.is_empty(), "{query} does not find {lost:?}: {found:?}");
        }
    }
}

/// Users at one Gerrit.
pub struct Load {
    stop: CancellationToken,
    ledger: Arc<Mutex<Ledger>>,
    users: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts two users who edit `changes` of project `p` by REST, and one who pushes new changes from a clone.
    #[must_use]
    pub fn start(server: &Server, pusher: User, changes: &[u32], seed: u64) -> Self {
        let (stop, ledger) = (CancellationToken::new(), Arc::default());
        let mut users = Vec::new();
        for number in 0..2 {
            let editor = Editor {
                server: server.http,
                changes: changes.to_vec(),
                name: format!("{seed}-{number}"),
                random: ChaCha8Rng::seed_from_u64(seed * 10 + number),
                ledger: Arc::clone(&ledger),
            };
            users.push(tokio::spawn(editor.run(stop.clone())));
        }
        users.push(tokio::spawn(push(pusher, seed, Arc::clone(&ledger), stop.clone())));
        Self { stop, ledger, users }
    }

    /// Number of requests that were answered with success so far.
    #[must_use]
    pub fn done(&self) -> usize {
        self.ledger.lock().done
    }

    /// Leaves the requests in progress alone: a server that is stopped never answers them. Returns what the users were
    /// told until now.
    #[must_use]
    pub fn abandon(self) -> Ledger {
        self.users.iter().for_each(JoinHandle::abort);
        std::mem::take(&mut self.ledger.lock())
    }

    /// Waits for the requests in progress, and returns what the users were told.
    ///
    /// # Panics
    /// If a user panicked.
    pub async fn stop(mut self) -> Ledger {
        self.stop.cancel();
        for user in self.users.drain(..) {
            user.await.expect("a user");
        }
        std::mem::take(&mut self.ledger.lock())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.users.iter().for_each(JoinHandle::abort);
    }
}

/// Pushes one new change after the other.
async fn push(user: User, seed: u64, ledger: Arc<Mutex<Ledger>>, stop: CancellationToken) {
    let mut count = 0;
    while !stop.is_cancelled() {
        count += 1;
        if !user.fetch().await {
            ledger.lock().failed += 1;
            sleep(AGAIN).await;
            continue;
        }
        user.out("master").await;
        let name = format!("{seed}-{count}");
        let _ = user.commit(&format!("pushed-{name}"), "text\n", &format!("push {name}")).await;
        let output = user.push("refs/for/master").await;
        let mut ledger = ledger.lock();
        match output.status.success() {
            true => {
                ledger.done += 1;
                ledger.changes.extend(User::pushed(&output));
            }
            false => ledger.failed += 1,
        }
    }
}

/// A user who edits by REST.
struct Editor {
    server: SocketAddr,
    changes: Vec<u32>,
    name: String,
    random: ChaCha8Rng,
    ledger: Arc<Mutex<Ledger>>,
}

impl Editor {
    async fn run(mut self, stop: CancellationToken) {
        let mut count = 0;
        while !stop.is_cancelled() {
            count += 1;
            if !self.edit(count).await {
                sleep(AGAIN).await;
            }
        }
    }

    /// Makes one edit. Answers whether it was answered with success.
    async fn edit(&mut self, count: u32) -> bool {
        let change = self.changes[self.random.random_range(0..self.changes.len())];
        let text = format!("by {} {count};", self.name);
        let (at, review) = (format!("/changes/p~{change}"), format!("/changes/p~{change}/revisions/current/review"));
        let vote = self.random.random_range(-1..=1);
        let label = json!({"message": text, "labels": {"Code-Review": vote}});
        match self.random.random_range(0..20) {
            0..=5 => self.say(change, &text, &review, &json!({"message": text})).await,
            6..=10 => self.say(change, &text, &review, &label).await,
            11..=12 => self.ask("PUT", &format!("{at}/topic"), &json!({"topic": text})).await,
            13..=14 => self.ask("POST", &format!("{at}/hashtags"), &json!({"add": [format!("h{vote}")]})).await,
            15 => self.say(change, &text, &format!("{at}/abandon"), &json!({"message": text})).await,
            16 => self.say(change, &text, &format!("{at}/restore"), &json!({"message": text})).await,
            17 => self.ask("PUT", "/accounts/self/status", &json!({"status": text})).await,
            18 => self.ask("PUT", &format!("/groups/{GROUP}/members/{MEMBER}"), &json!({})).await,
            _ if self.random.random_bool(0.5) => self.submit(change).await,
            _ => self.ask("DELETE", &format!("/groups/{GROUP}/members/{MEMBER}"), &json!({})).await,
        }
    }

    /// Makes an edit that leaves a message.
    async fn say(&self, change: u32, text: &str, path: &str, body: &Value) -> bool {
        let is_done = self.ask("POST", path, body).await;
        if is_done {
            self.ledger.lock().messages.push((change, text.to_owned()));
        }
        is_done
    }

    async fn submit(&self, change: u32) -> bool {
        let review = format!("/changes/p~{change}/revisions/current/review");
        let is_done = self.ask("POST", &review, &json!({"labels": {"Code-Review": 2}})).await
            && self.ask("POST", &format!("/changes/p~{change}/submit"), &json!({})).await;
        if is_done {
            self.ledger.lock().merged.push(change);
        }
        is_done
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> bool {
        let answer = call(self.server, ADMIN, method, path, body).await;
        let is_done = answer.is_ok_and(|answer| (200..300).contains(&answer.status));
        let mut ledger = self.ledger.lock();
        match is_done {
            true => ledger.done += 1,
            false => ledger.failed += 1,
        }
        is_done
    }
}
