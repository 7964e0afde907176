//! The requests of each class of operations. Each answers with the number of refs that it moves, or the reason why not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lockstep_loadtest::Fallible;
use lockstep_loadtest::load::ledger::Ended;
use lockstep_loadtest::load::model::Class;
use lockstep_loadtest::load::plan::Arrival;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::{Reported, Said, push, rest};
use super::commits::{self, Wanted};
use super::shared::Shared;
use super::told::Fact;
use super::world::{Account, BRANCH, Chain, Change, Draft, Project};

/// The share of pushed changes that are new ones, of 100: the model has 2.2 patch sets per change.
const NEW_OF_100: u64 = 45;
/// The branches of a project that bots move.
const BUMPED: u64 = 16;
/// The file that every change has, for comments: its message. Its subject is on this line.
const FILE: (&str, u32) = ("/COMMIT_MSG", 7);
/// The new bytes of a commit that a bot makes.
const BUMP_BYTES: u32 = 400;

/// One try of one operation.
pub struct Act<'a> {
    shared: &'a Arc<Shared>,
    arrival: &'a Arrival,
    site: usize,
    account: Account,
    pick: u64,
    deadline: Instant,
    /// The time in which commits were made.
    pub prepare: Duration,
    /// The time of the last request.
    pub answer: Duration,
}

impl<'a> Act<'a> {
    /// A try at a site. Later tries pick other changes.
    pub fn new(shared: &'a Arc<Shared>, arrival: &'a Arrival, site: usize, number: u32, deadline: Instant) -> Self {
        let pick = arrival.pick.wrapping_add(u64::from(number - 1));
        let (prepare, answer) = (Duration::ZERO, Duration::ZERO);
        Self { shared, arrival, site, account: Account::of(arrival), pick, deadline, prepare, answer }
    }

    /// Does it.
    pub async fn carry_out(&mut self) -> Said<u64> {
        let project = self.shared.world.project(self.arrival.project);
        let picked = project.pick(self.pick);
        let done = match (self.arrival.class, picked) {
            (Class::PushPatchSet, Some(chain)) if self.arrival.pick % 100 >= NEW_OF_100 => {
                self.push_patch_set(project, &chain).await
            }
            (Class::PushPatchSet, _) => self.push_new(project, self.arrival.count.max(1)).await,
            (Class::BotBump, _) => self.bump(project).await,
            (Class::ReleaseTag, _) => self.release(project).await,
            (Class::UserRef, _) => Ok(self.set_status().await),
            // There is nothing that could be reviewed yet.
            (_, None) => self.push_new(project, 1).await,
            (Class::MassRebase, Some(chain)) => self.push_patch_set(project, &chain).await,
            (Class::CiVote, Some(chain)) => Ok(self.vote(project, &chain).await),
            (Class::Comment, Some(chain)) => Ok(self.comment(project, &chain).await),
            (Class::Draft, Some(chain)) => Ok(self.draft(project, &chain).await),
            (Class::Submit, Some(_)) => Ok(self.submit(project).await),
            (Class::Fetch | Class::Clone | Class::LsRefs, _) => Err("a read moves no ref".into()),
        };
        done.unwrap_or_else(|why| Said::Refused { code: format!("client: {why}"), again: None })
    }

    /// Pushes new changes, each based on the one before it.
    pub async fn push_new(&mut self, project: &Project, count: u32) -> Fallible<Said<u64>> {
        let Some(mut tip) = self.value(project, BRANCH)? else { return Ok(Said::again("not_here")) };
        let bytes = (self.arrival.bytes / count).max(1);
        let (mut made, mut base) = (Vec::new(), tip.clone());
        for _ in 0..count {
            let number = self.shared.world.next();
            let (label, id) = (format!("load-{number}"), format!("I{number:040x}"));
            let Some(commit) = self.commit(project, &tip, &id, bytes, &message(&label, &self.account, &id)).await?
            else {
                return Ok(Said::again("not_here"));
            };
            base = std::mem::replace(&mut tip, commit.clone());
            made.push((label, id, commit));
        }
        let said = self.push(project, &[format!("{tip}:refs/for/{BRANCH}")]).await?;
        let Said::Done(reported) = said else { return Ok(said.map(|_| 0)) };
        let mut changes = Vec::new();
        for (label, id, commit) in made {
            let Some((number, _)) = reported.iter().find(|(_, word)| *word == label) else {
                return Ok(Said::Unknown(format!("the push of {label} reports {reported:?}")));
            };
            let fact = Fact::PatchSet { project: project.name.clone(), change: *number, commit };
            self.shared.tell(self.site, Ended::Committed, fact);
            changes.push(Change { number: *number, id });
        }
        let Some(top) = changes.pop() else { return Err("a push of no change".into()) };
        project.add(Arc::new(Chain { home: self.site, below: changes, top, base }));
        Ok(Said::Done(2 * u64::from(count)))
    }

    /// Pushes another patch set of the last change of a chain.
    async fn push_patch_set(&mut self, project: &Project, chain: &Chain) -> Fallible<Said<u64>> {
        let (change, label) = (&chain.top, format!("load-{}", self.shared.world.next()));
        let message = message(&label, &self.account, &change.id);
        let commit = self.commit(project, &chain.base, &change.id, self.arrival.bytes, &message).await?;
        let Some(commit) = commit else { return Ok(Said::again("not_here")) };
        let said = self.push(project, &[format!("{commit}:refs/for/{BRANCH}")]).await?;
        let Said::Done(reported) = said else { return Ok(said.map(|_| 0)) };
        if !reported.contains(&(change.number, label.clone())) {
            return Ok(Said::Unknown(format!("the push of {label} reports {reported:?}")));
        }
        let fact = Fact::PatchSet { project: project.name.clone(), change: change.number, commit };
        self.shared.tell(self.site, Ended::Committed, fact);
        Ok(Said::Done(2))
    }

    async fn vote(&mut self, project: &Project, chain: &Chain) -> Said<u64> {
        let value = if self.pick.is_multiple_of(5) { -1 } else { 1 };
        let review = json!({"labels": {"Code-Review": value}, "tag": "autogenerated:load"});
        self.review(&self.account.clone(), project, &chain.top, review).await
    }

    async fn comment(&mut self, project: &Project, chain: &Chain) -> Said<u64> {
        let remark = json!([{"line": FILE.1, "message": "please look at this again"}]);
        let review = json!({"comments": {FILE.0: remark}});
        self.review(&self.account.clone(), project, &chain.top, review).await
    }

    /// Posts a review with a message of its own.
    async fn review(&mut self, who: &Account, project: &Project, change: &Change, mut review: Value) -> Said<u64> {
        let text = self.shared.world.text();
        review["message"] = text.clone().into();
        let path = format!("/changes/{}~{}/revisions/current/review", project.name, change.number);
        let said = self.call(who, "POST", &path, &review).await;
        let fact = Fact::Message { project: project.name.clone(), change: change.number, text };
        self.shared.tell(self.site, ended(&said), fact);
        said.map(|_| 1)
    }

    /// Writes a draft, or removes one.
    async fn draft(&mut self, project: &Project, chain: &Chain) -> Said<u64> {
        if self.arrival.count == 0
            && let Some(draft) = project.take_draft(self.pick)
        {
            return self.remove_draft(project, draft).await;
        }
        let (change, text, account) = (chain.top.number, self.shared.world.text(), self.account.clone());
        let revisions = format!("/changes/{}~{change}/revisions", project.name);
        let body = json!({"path": FILE.0, "line": FILE.1, "message": text});
        let said = self.call(&account, "PUT", &format!("{revisions}/current/drafts"), &body).await;
        let fact = Fact::Draft { change, text: text.clone() };
        self.shared.tell(self.site, ended(&said), fact);
        if let Said::Done(draft) = &said
            && let (Some(id), Some(commit)) = (draft["id"].as_str(), draft["commit_id"].as_str())
        {
            project.drafted(Draft { path: format!("{revisions}/{commit}/drafts/{id}"), text, account });
        }
        said.map(|_| 1)
    }

    async fn remove_draft(&mut self, project: &Project, draft: Draft) -> Said<u64> {
        let said = self.call(&draft.account, "DELETE", &draft.path, &json!({})).await;
        if matches!(said, Said::Refused { .. }) {
            // The site may not have it yet.
            project.drafted(draft);
        } else {
            self.shared.tell(self.site, ended(&said), Fact::DraftRemoved { text: draft.text });
        }
        said.map(|_| 1)
    }

    /// Votes for each change of a chain, and submits all of them.
    async fn submit(&mut self, project: &Project) -> Said<u64> {
        let Some(chain) = project.take(self.pick) else { return Said::again("nothing_open") };
        let said = self.submit_chain(project, &chain).await;
        if matches!(said, Said::Refused { .. }) {
            project.add(chain);
        }
        said
    }

    async fn submit_chain(&mut self, project: &Project, chain: &Chain) -> Said<u64> {
        let (admin, mut refs) = (Account::admin(), 1);
        for change in chain.changes() {
            match self.review(&admin, project, change, json!({"labels": {"Code-Review": 2}})).await {
                Said::Done(_) => refs += 2,
                other => return other,
            }
        }
        let path = format!("/changes/{}~{}/submit", project.name, chain.top.number);
        let said = self.call(&admin, "POST", &path, &json!({})).await;
        if let Said::Done(_) = said {
            for change in chain.changes() {
                let fact = Fact::Merged { project: project.name.clone(), change: change.number };
                self.shared.tell(self.site, Ended::Committed, fact);
            }
        }
        said.map(|_| refs)
    }

    /// Moves a branch to a new commit, past review.
    async fn bump(&mut self, project: &Project) -> Fallible<Said<u64>> {
        let branch = format!("bump-{}", self.pick % BUMPED);
        let before = match self.value(project, &branch)? {
            Some(value) => Some(value),
            None => self.value(project, BRANCH)?,
        };
        let Some(before) = before else { return Ok(Said::again("not_here")) };
        let text = format!("load-{} moves {branch}\n", self.shared.world.next());
        let commit = self.commit(project, &before, "bumped", BUMP_BYTES, &text).await?;
        let Some(commit) = commit else { return Ok(Said::again("not_here")) };
        let name = format!("refs/heads/{branch}");
        let said = self.push(project, &[format!("{commit}:{name}")]).await?;
        if let Said::Done(_) = said {
            let fact = Fact::Ref { project: project.name.clone(), name, value: commit };
            self.shared.tell(self.site, Ended::Committed, fact);
        }
        Ok(said.map(|_| 1))
    }

    async fn set_status(&mut self) -> Said<u64> {
        let text = self.shared.world.text();
        let said = self.call(&self.account.clone(), "PUT", "/accounts/self/status", &json!({"status": text})).await;
        self.shared.tell(self.site, ended(&said), Fact::Status { text });
        said.map(|_| 1)
    }

    /// Pushes tags. Their names hold a number of their own, because another try must not meet them.
    async fn release(&mut self, project: &Project) -> Fallible<Said<u64>> {
        let Some(tip) = self.value(project, BRANCH)? else { return Ok(Said::again("not_here")) };
        let release = self.shared.world.next();
        let names: Vec<String> = (0..self.arrival.count).map(|tag| format!("refs/tags/r{release}-{tag}")).collect();
        let specs: Vec<String> = names.iter().map(|name| format!("{tip}:{name}")).collect();
        let said = self.push(project, &specs).await?;
        if let Said::Done(_) = said {
            for name in names {
                let fact = Fact::Ref { project: project.name.clone(), name, value: tip.clone() };
                self.shared.tell(self.site, Ended::Committed, fact);
            }
        }
        Ok(said.map(|_| u64::from(self.arrival.count)))
    }

    fn repository(&self, project: &Project) -> PathBuf {
        self.shared.places[self.site].repository(&project.name)
    }

    /// The value of a branch, as if the client had just fetched it.
    fn value(&self, project: &Project, branch: &str) -> Fallible<Option<String>> {
        commits::value(&self.repository(project), &format!("refs/heads/{branch}"))
    }

    /// Writes a commit on a thread for blocking work.
    async fn commit(
        &mut self,
        project: &Project,
        parent: &str,
        file: &str,
        bytes: u32,
        message: &str,
    ) -> Fallible<Option<String>> {
        let began = Instant::now();
        let folder = self.shared.pusher(self.site, &project.name)?;
        let seed = self.pick ^ self.shared.world.next();
        let [parent, file, message, email] = [parent, file, message, &self.account.email()].map(str::to_owned);
        #[expect(clippy::disallowed_methods, reason = "libgit2 blocks; no simulator runs the generator")]
        let work = tokio::task::spawn_blocking(move || {
            let (parent, file, message, email) = (&*parent, &*file, &*message, &*email);
            commits::write(&folder, &Wanted { parent, file, bytes, seed, message, email })
        });
        let written = work.await?;
        self.prepare += began.elapsed();
        written
    }

    async fn push(&mut self, project: &Project, specs: &[String]) -> Fallible<Said<Vec<Reported>>> {
        let folder = self.shared.pusher(self.site, &project.name)?;
        let url = self.shared.places[self.site].url(self.account.login(), &project.name);
        let began = Instant::now();
        let said = push(&self.shared.git, &folder, &url, specs, self.deadline).await;
        self.answer = began.elapsed();
        Ok(said)
    }

    async fn call(&mut self, who: &Account, method: &str, path: &str, body: &Value) -> Said<Value> {
        let began = Instant::now();
        let server = self.shared.places[self.site].http;
        let said = rest(server, who.login(), (method, path), body, self.deadline).await;
        self.answer = began.elapsed();
        said
    }
}

/// The message of a commit. The first word of its subject is the label by which the answer to its push is read.
fn message(label: &str, account: &Account, id: &str) -> String {
    format!("{label} by {}\n\nChange-Id: {id}\n", account.name())
}

fn ended<T>(said: &Said<T>) -> Ended {
    match said {
        Said::Done(_) => Ended::Committed,
        Said::Refused { .. } => Ended::Refused,
        Said::Unknown(_) => Ended::Unknown,
    }
}
