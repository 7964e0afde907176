//! Commits refs and history in as few parts as possible, one commit per part.
//!
//! A part costs a walk of the history and a pack of its own, in which no object can be stored as a delta upon one of
//! another part. So all refs go together, unless they are too many for a commit; then branches and tags go first. A
//! long history goes before them, in steps, on a ref of its own that is deleted at the end. The history that a part
//! brings ends at the commits behind the branches, which are committed by then. So a part costs in proportion to its
//! new objects.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::bridge::{
    self, Expected, Outcome, RefCommand, RefResult, RefTransactionRequest, RefTransactionResponse, RefusalCode,
};
use lockstep_proto::{Oid, ProjectKey, ProjectPhase, RefKey, RefName, limits};

use super::job::{Failure, Run, TRIES};
use crate::base::backoff::Backoff;
use crate::base::ref_names;
use crate::seams::git::IsCommitted;
use crate::state::materialize::Differs;

/// The ref that holds the history committed so far, while a seed is in progress.
pub(super) const STEP: &str = "refs/seed/step";

/// The deadline of a small part, in milliseconds.
const DEADLINE_MS: u64 = 30_000;
/// A part of at most this many refs is not halved when receivers would not take its pack.
const SMALL_PART: usize = limits::WRITE_COMMANDS;
/// Maximum number of passes over the disk. A pass also seeds refs that were written behind the sidecar's back since the
/// pass before it.
const ROUNDS: u32 = 10;
/// Maximum number of remembered commits behind the branches. Beyond it, packs may hold more than they must.
const REMEMBERED: usize = 2_000_000;

/// The commands of one pass, in their order.
#[derive(Default)]
struct Todo {
    /// The branch that `HEAD` names.
    trunk: Vec<RefCommand>,
    /// Other branches, and tags.
    tips: Vec<RefCommand>,
    /// All other refs, which are committed last.
    rest: Vec<RefCommand>,
    /// The refs that git accepts and Lockstep does not, with the reason.
    problems: Vec<String>,
}

impl Run {
    /// Whether others may commit to the project, too.
    fn takes_commits(&self) -> Result<bool, Failure> {
        Ok(self.phase()? == Some(ProjectPhase::Active))
    }

    /// Commits every ref whose value on the disk differs from the version map.
    pub(super) async fn fill(&self, key: &ProjectKey, head: &RefName) -> Result<(), Failure> {
        for _ in 0..ROUNDS {
            let todo = self.todo(key, head).await?;
            if !todo.problems.is_empty() {
                return Err(Failure(todo.problems));
            }
            if todo.trunk.is_empty() && todo.tips.is_empty() && todo.rest.is_empty() {
                return self.remove_step(key).await;
            }
            self.commit_all(key, todo).await?;
        }
        let name = &key.name;
        Err(format!("the repository of {name} keeps changing; stop all writes to it, then seed again").into())
    }

    /// The refs that differ. A ref that is not on the disk any more was committed by an earlier try, and is deleted.
    async fn todo(&self, key: &ProjectKey, head: &RefName) -> Result<Todo, Failure> {
        // Nobody else moves the refs of a project that is being seeded.
        let (differ, shown) = match self.takes_commits()? {
            true => self.seeder.materializer.differing_for_sure(key).await?,
            false => self.seeder.materializer.differing(key).await?,
        };
        let mut todo = Todo::default();
        let mut open = 0;
        for (name, differs) in differ {
            if name.as_str() == STEP
                || (differs.shown.is_none() && !self.seeder.materializer.is_gone(key, &name).await?)
            {
                continue;
            }
            open += u64::from(differs.shown.is_some());
            match ref_names::classify(&name) {
                Err(why) => todo.problems.push(format!("{name} {why}; rename or delete it with git")),
                Ok(_) if name == *head => todo.trunk.push(command(name, differs)),
                Ok(_) if ref_names::is_branch_or_tag(&name) => todo.tips.push(command(name, differs)),
                Ok(_) => todo.rest.push(command(name, differs)),
            }
        }
        let refs = shown as u64;
        self.tell(|progress| (progress.refs, progress.done) = (refs, refs.saturating_sub(open)));
        Ok(todo)
    }

    async fn commit_all(&self, key: &ProjectKey, todo: Todo) -> Result<(), Failure> {
        for trunk in &todo.trunk {
            self.step_by_step(key, trunk, &self.behind_tips(key).await?).await?;
        }
        let refs = [todo.trunk, todo.tips, todo.rest].concat();
        // A name that gives way to one above or below it must be gone first.
        let (gone, others): (Vec<RefCommand>, Vec<RefCommand>) =
            refs.into_iter().partition(|command| command.new.is_none());
        self.commit_parts(key, &gone).await?;
        self.commit_parts(key, &others).await
    }

    async fn commit_parts(&self, key: &ProjectKey, refs: &[RefCommand]) -> Result<(), Failure> {
        let mut parts = ref_names::parts(refs, |command| &command.name, self.seeder.limits.part_refs);
        parts.reverse();
        let mut behind = None;
        while let Some(part) = parts.pop() {
            let known = match behind.take() {
                Some(known) => known,
                None => self.behind_tips(key).await?,
            };
            match self.commit(key, part, &known).await? {
                Taken::TooMuch => {
                    let (one, other) = part.split_at(part.len() / 2);
                    parts.extend([other, one]);
                }
                Taken::Yes if part.iter().any(|command| ref_names::is_branch_or_tag(&command.name)) => continue,
                Taken::Yes => {}
            }
            behind = Some(known);
        }
        Ok(())
    }

    /// The commits behind committed branches and tags. Every site has them, or will have them.
    async fn behind_tips(&self, key: &ProjectKey) -> Result<IsCommitted, Failure> {
        let versions = &self.seeder.materializer.versions;
        let mut tips: Vec<Oid> = Vec::new();
        versions.visit(key, |key, record| {
            if key.as_ref_name().is_some_and(|name| ref_names::is_branch_or_tag(name) || name.as_str() == STEP) {
                tips.extend(record.value.oid());
            }
        })?;
        let behind = self.seeder.materializer.repositories.commits_behind(&key.name, &tips, REMEMBERED).await?;
        Ok(Arc::new(move |oid| behind.binary_search(oid).is_ok()))
    }

    /// Commits a long history in steps, before its branch.
    async fn step_by_step(&self, key: &ProjectKey, trunk: &RefCommand, behind: &IsCommitted) -> Result<(), Failure> {
        let Some(tip) = trunk.new else { return Ok(()) };
        let step_commits = self.seeder.limits.step_commits;
        let steps = self.seeder.materializer.repositories.steps_to(&key.name, tip, step_commits).await?;
        let name: RefName = STEP.parse()?;
        for to in steps.into_iter().filter(|step| !behind(step)) {
            let step = RefCommand { name: name.clone(), old: Expected::Any, new: Some(to), force: true };
            let _one = self.commit(key, &[step], behind).await?;
        }
        Ok(())
    }

    async fn remove_step(&self, key: &ProjectKey) -> Result<(), Failure> {
        let name: RefName = STEP.parse()?;
        let known = self.seeder.materializer.versions.get(key, &RefKey::Ref(name.clone()))?;
        if known.is_none_or(|record| record.value.is_absent()) {
            return Ok(());
        }
        let nothing: IsCommitted = Arc::new(|_| false);
        let step = RefCommand { name, old: Expected::Any, new: None, force: true };
        self.commit(key, &[step], &nothing).await.map(drop)
    }

    /// Commits one part, with retries. When the outcome is unknown, the retry has the same request id.
    async fn commit(&self, key: &ProjectKey, part: &[RefCommand], behind: &IsCommitted) -> Result<Taken, Failure> {
        let request = RefTransactionRequest {
            request_id: self.request_id(),
            deadline_ms: Some(bridge::deadline_ms(DEADLINE_MS, part.len())),
            atomic: false,
            commands: part.to_vec(),
            actor: Some("seed".to_owned()),
            traceparent: None,
            message: None,
            lock: None,
        };
        let entropy = Arc::clone(&self.seeder.entropy);
        let mut backoff = Backoff::new(entropy, Duration::from_millis(100), Duration::from_secs(5));
        let mut last = String::new();
        for _ in 0..TRIES {
            match self.seeder.commits.commit(key, request.clone(), behind).await {
                Ok(response) => match judge(&response, part, self.takes_commits()?) {
                    Judged::Done => {
                        let news = part.iter().filter(|command| command.name.as_str() != STEP && command.new.is_some());
                        let news = news.count() as u64;
                        self.tell(|progress| progress.done = (progress.done + news).min(progress.refs));
                        crate::base::faults::failpoint::reach("seed.part");
                        return Ok(Taken::Yes);
                    }
                    Judged::Refused(problems) if problems.len() == part.len() && part.len() > SMALL_PART => {
                        return Ok(Taken::TooMuch);
                    }
                    Judged::Refused(problems) => return Err(Failure(problems)),
                    Judged::Again(why) => last = why,
                },
                Err(error) if error.retry => last = error.message,
                Err(error) => return Err(error.message.into()),
            }
            backoff.wait().await;
        }
        Err(format!("{last}; {TRIES} tries failed; seed again later").into())
    }
}

/// Whether a part was taken.
enum Taken {
    Yes,
    /// All of it was refused. If that is for its size, a half of it may be taken.
    TooMuch,
}

/// The outcome of a part.
enum Judged {
    Done,
    Refused(Vec<String>),
    Again(String),
}

/// Judges the answer to a part. In a project that is `shared`, another site may have moved a ref meanwhile: the ref
/// then has that value here, too, and the value of the disk is a stray.
fn judge(response: &RefTransactionResponse, part: &[RefCommand], shared: bool) -> Judged {
    let (mut refused, mut again) = (Vec::new(), None);
    for (result, command) in response.results.iter().zip(part) {
        let why = || {
            let why = result.refusal.as_ref().map_or("no reason was given", |refusal| refusal.message.as_str());
            let name = result.name.as_str();
            if why.starts_with(name) { why.to_owned() } else { format!("{name}: {why}") }
        };
        match result.outcome {
            Outcome::Committed | Outcome::CommittedNotYetVisible => {}
            Outcome::Refused if is_so_already(result, command) || shared && is_stale(result) => {}
            Outcome::Refused if result.refusal.as_ref().is_some_and(|refusal| !refusal.retry) => refused.push(why()),
            Outcome::Refused | Outcome::Unknown => again = Some(why()),
        }
    }
    match (refused.is_empty(), again) {
        (false, _) => Judged::Refused(refused),
        (true, Some(why)) => Judged::Again(why),
        (true, None) => Judged::Done,
    }
}

/// Whether the ref has the wanted value already: an earlier try, whose answer was lost, has committed it.
fn is_so_already(result: &RefResult, command: &RefCommand) -> bool {
    let actual = result.refusal.as_ref().and_then(|refusal| refusal.actual.as_deref());
    let wanted = command.new.map_or("absent".to_owned(), |oid| oid.to_string());
    actual == Some(wanted.as_str())
}

/// Whether somebody else has moved the ref, and this node has caught up with that.
fn is_stale(result: &RefResult) -> bool {
    result.refusal.as_ref().is_some_and(|refusal| refusal.code == RefusalCode::Stale && refusal.caught_up)
}

fn command(name: RefName, differs: Differs) -> RefCommand {
    let old = differs.known.map_or(Expected::Absent, Expected::Oid);
    RefCommand { name, old, new: differs.shown, force: true }
}
