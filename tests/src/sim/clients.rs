//! Clients: people and builds that push to a node of their site, all to the same few refs. Now and then they create,
//! delete and re-create a project.
//!
//! Every new object is unique, except that `Ask::Back` pushes a branch back to an earlier value. The watch learns of
//! every request and answer. A node that dies during a request gives no answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::announcement::{AnnounceRequest, StreamEvent};
use lockstep_proto::bridge::{
    ApiError, Expected, Outcome, ProjectResponse, RefCommand, RefTransactionRequest, RefTransactionResponse,
};
use lockstep_proto::refresh::Subject;
use lockstep_proto::{Command, EventBody, NodeId, Oid, ProjectName, RefKey, RefName, SiteId};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::check::availability::{Attempt, Ended};
use super::check::events::Posted;
use super::check::refresh::subject;
use super::commits;
use super::dice::Dice;
use super::workload::{Asker, Wish};
use super::world::{Life, World};

/// The time for which a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// The number of times that a client sends the same operation on a project.
const TRIES: u64 = 3;

/// A client of one site.
pub struct Client {
    world: Arc<World>,
    site: SiteId,
    name: String,
    dice: Arc<Dice>,
    stop: CancellationToken,
    asked: u64,
    /// Earlier requests that may be repeated: each with its node and the number of losses of that node's volume.
    repeatable: Vec<(NodeId, u64, ProjectName, RefTransactionRequest)>,
    /// The dice for posted events. They are separate, so that pushes do not depend on events.
    events: Dice,
    /// The dice for repeated requests.
    repeats: Dice,
}

/// The end of a request, as its client sees it.
enum End<T> {
    Answered(T),
    Error(ApiError),
    NodeDied,
    TimedOut,
}

impl Client {
    /// The client with this number at a site. It runs until `stop` is cancelled.
    #[must_use]
    pub fn new(world: Arc<World>, site: SiteId, number: u64, stop: CancellationToken) -> Self {
        let name = format!("{site}/c{number}");
        let dice = Arc::new(Dice::new(world.seed, &name));
        let events = Dice::new(world.seed, &format!("{name}/events"));
        let repeats = Dice::new(world.seed, &format!("{name}/repeats"));
        Self { world, site, name, dice, stop, asked: 0, repeatable: Vec::new(), repeats, events }
    }

    /// Sends one request after another.
    pub async fn run(mut self) {
        let mut asker = Asker::new(self.world.clone(), self.dice.clone());
        while self.thinks().await {
            if self.repeats.chance(self.world.scenario.repeats) {
                self.repeat().await;
                continue;
            }
            let Some((node, life)) = self.a_node() else { continue };
            self.asked += 1;
            let id = format!("{}-{}", self.name, self.asked);
            match asker.ask(&node, id) {
                Some((project, Wish::Refs(request))) => {
                    self.submit(&node, &life, &project, request.clone()).await;
                    self.may_repeat(node, life.losses, project, request);
                }
                Some((project, wish)) => self.operate(&project, wish, life).await,
                None => {}
            }
        }
    }

    /// Waits for a while. Returns false when the run ends.
    async fn thinks(&self) -> bool {
        let think = Duration::from_millis(self.dice.between(1, self.world.scenario.think_ms));
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = sleep(think) => true,
        }
    }

    /// A node of the site, chosen by the dice; none if it does not serve.
    fn a_node(&self) -> Option<(NodeId, Life)> {
        let nodes = self.world.nodes_of(&self.site);
        let node = self.dice.pick(&nodes).cloned()?;
        let life = self.world.life(&node).filter(|life| life.node.is_ready())?;
        Some((node, life))
    }

    /// Keeps a request to repeat it later. One that was refused in part is over: its id is free again.
    fn may_repeat(&mut self, node: NodeId, losses: u64, project: ProjectName, request: RefTransactionRequest) {
        let is_over = {
            let known = self.world.watch.known();
            let entry = known.history.get(&request.request_id);
            entry.is_some_and(|entry| entry.verdicts.values().any(|outcome| *outcome == Outcome::Refused))
        };
        if !is_over {
            self.repeatable.push((node, losses, project, request));
        }
    }

    /// Sends an earlier request again, to the same node, with the same id. A node whose volume was lost or put back
    /// since then remembers no requests: then callers repeat only what names the old value of each ref.
    async fn repeat(&mut self) {
        let Some(at) = (!self.repeatable.is_empty()).then(|| self.repeats.below(self.repeatable.len() as u64)) else {
            return;
        };
        let (node, losses, project, request) = self.repeatable.swap_remove(usize::try_from(at).unwrap_or(0));
        let Some(life) = self.world.life(&node).filter(|life| life.node.is_ready()) else { return };
        if life.losses != losses {
            if request.commands.iter().any(|command| command.old == Expected::Any) {
                return;
            }
            self.world.watch.known().history.repeat_after_loss(&request.request_id);
        }
        self.note(&format!("repeats {}", request.request_id));
        self.submit(&node, &life, &project, request.clone()).await;
        self.may_repeat(node, losses, project, request);
    }

    async fn submit(&self, node: &NodeId, life: &Life, project: &ProjectName, request: RefTransactionRequest) {
        let steps = request.commands.iter().map(command_text).collect::<String>();
        let atomic = if request.atomic { " atomic" } else { "" };
        self.note(&format!("asks {node} {} {project}{atomic}{steps}", request.request_id));
        // A repeated request may be answered from memory.
        let is_new = self.world.watch.known().history.get(&request.request_id).is_none();
        self.world.watch.asked(project, &request);
        let transactions = life.node.transactions();
        let asked_ms = self.world.trace.now_ms();
        let end = wait(life, transactions.submit(project, request.clone())).await;
        self.is_in_time(life, project, &request.request_id, asked_ms);
        if let Some(ended) = end_of_attempt(&end).filter(|_| is_new && !life.ended.is_cancelled()) {
            self.world.attempted(Attempt { node, project, asked_ms, ended });
        }
        if let Some(response) = self.heard(&request.request_id, end, response_text)
            && !life.ended.is_cancelled()
        {
            self.world.watch.answered(node, &request.request_id, &response);
            self.indexes(node, project, subjects(project, &response));
            self.tell(node, project, &response).await;
        }
    }

    /// Judges the time of an answer, if no fault may have delayed it.
    fn is_in_time(&self, life: &Life, project: &ProjectName, id: &str, asked_ms: u64) {
        let Some(limit) = self.world.scenario.answer_ms.filter(|_| !life.ended.is_cancelled()) else { return };
        let took = self.world.trace.now_ms() - asked_ms;
        let throttles = (0..self.world.scenario.throttled_projects).any(|at| project.as_str() == format!("p{at}"));
        if took > limit && !throttles {
            self.world.watch.late(format!("{id} on {project}, which never throttles, was answered after {took} ms"));
        }
    }

    /// Posts a stream event about a commit, readable or not yet, at the node that made it, as its Gerrit does.
    async fn tell(&self, node: &NodeId, project: &ProjectName, response: &RefTransactionResponse) {
        let is_committed = |outcome| matches!(outcome, Outcome::Committed | Outcome::CommittedNotYetVisible);
        let committed = response.results.iter().filter(|result| is_committed(result.outcome));
        let names: BTreeSet<RefName> = committed.map(|result| result.name.clone()).collect();
        let Some(txn) = response.txn.as_ref().filter(|_| self.events.chance(self.world.scenario.events)) else {
            return;
        };
        let Some(transaction) = self.world.watch.known().facts.transactions.get(txn).cloned() else { return };
        let named = |command: &Command| {
            let name = command.key.as_ref_name().filter(|name| names.contains(*name))?;
            Some((name.clone(), command.version))
        };
        let id = format!("event-{txn}");
        let change = names.iter().find_map(|name| name.as_str().split('/').nth(3)?.parse().ok());
        let (origin, refs) = (node.clone(), transaction.commands.iter().filter_map(named).collect());
        let posted = Posted { id: id.clone(), origin, project: transaction.project.clone(), change, refs };
        let body = EventBody::new("{}").expect("JSON");
        let (kind, about) = ("ref-updated".to_owned(), Some(project.clone()));
        let event = StreamEvent { id: id.clone(), kind, project: about, change, refs: names, body };
        self.world.watch.posts(posted);
        self.note(&format!("posts {id} at {node}"));
        for _ in 0..TRIES {
            if let Some(life) = self.world.life(node)
                && let Some(events) = life.node.events()
            {
                let request = AnnounceRequest { events: vec![event.clone()] };
                if let End::Answered(()) = wait(&life, events.announce(request)).await {
                    self.world.watch.posted(&id);
                    return self.note(&format!("{id} is taken"));
                }
            }
            sleep(Duration::from_millis(self.events.between(100, 3_000))).await;
        }
    }

    /// Sends an operation on a project. If the answer is lost, sends the same operation again, to any node.
    async fn operate(&self, project: &ProjectName, wish: Wish, first: Life) {
        let mut life = first;
        for _ in 0..TRIES {
            if self.operate_once(project, &wish, &life).await || !self.thinks().await {
                return;
            }
            life = match self.a_node() {
                Some((_, life)) => life,
                None => life,
            };
        }
    }

    /// The node's Gerrit, through which the request came, indexes the committed subjects.
    fn indexes(&self, node: &NodeId, project: &ProjectName, subjects: Vec<Subject>) {
        if let Some(gerrit) = self.world.gerrit(node).filter(|_| !subjects.is_empty()) {
            gerrit.committed(&self.world, project, &subjects);
        }
    }

    /// Sends the operation once. Returns whether no retry is needed.
    async fn operate_once(&self, project: &ProjectName, wish: &Wish, life: &Life) -> bool {
        let transactions = life.node.transactions();
        let operates = |id: &str, key: RefKey, head: Option<RefName>| {
            self.note(&format!("asks {project} {wish:?}"));
            self.world.watch.operates(id, project, key, head);
        };
        let (id, end) = match wish {
            Wish::Refs(_) => return true,
            Wish::Create(request) => {
                operates(&request.request_id, RefKey::State, None);
                (&request.request_id, wait(life, transactions.create_project(project, request.clone())).await)
            }
            Wish::Delete(request) => {
                operates(&request.request_id, RefKey::State, None);
                (&request.request_id, wait(life, transactions.delete_project(project, request.clone())).await)
            }
            Wish::Head(request) => {
                operates(&request.request_id, RefKey::Head, Some(request.head.clone()));
                (&request.request_id, wait(life, transactions.set_head(project, request.clone())).await)
            }
        };
        // A request to point `HEAD` somewhere has no expected old value. A late retry of it would be a new request.
        let holds = !matches!(wish, Wish::Head(_));
        match self.heard(id, end, |response: &ProjectResponse| format!("{response:?}")) {
            Some(response) if !life.ended.is_cancelled() => {
                self.world.watch.operated(id, &response);
                !holds || response.outcome != Outcome::Unknown
            }
            Some(_) | None => !holds,
        }
    }

    /// Notes the end of a request in the trace. Returns its answer, if it has one.
    fn heard<T>(&self, id: &str, end: End<T>, text: impl Fn(&T) -> String) -> Option<T> {
        match end {
            End::Answered(response) => {
                self.note(&format!("{id} heard {}", text(&response)));
                return Some(response);
            }
            End::Error(error) => self.note(&format!("{id} heard {:?} {}", error.code, error.message)),
            End::NodeDied => self.note(&format!("{id} lost its node")),
            End::TimedOut => self.note(&format!("{id} gave up")),
        }
        None
    }

    fn note(&self, what: &str) {
        self.world.trace.note(&self.name, what);
    }
}

/// Waits for an answer, as long as a client does.
async fn wait<T>(life: &Life, call: impl Future<Output = Result<T, ApiError>>) -> End<T> {
    tokio::select! {
        biased;
        () = life.ended.cancelled() => End::NodeDied,
        answer = timeout(PATIENCE, call) => match answer {
            Ok(Ok(response)) => End::Answered(response),
            Ok(Err(error)) => End::Error(error),
            Err(_) => End::TimedOut,
        },
    }
}

/// The end of an attempt to commit. None if its node died.
fn end_of_attempt(end: &End<RefTransactionResponse>) -> Option<Ended> {
    match end {
        End::Answered(response) => Some(commits::ended(response)),
        End::Error(error) => Some(commits::refused(error.code)),
        End::NodeDied => None,
        End::TimedOut => Some(Ended::Failed),
    }
}

/// The subjects of the refs that are committed and can be read.
fn subjects(project: &ProjectName, response: &RefTransactionResponse) -> Vec<Subject> {
    let committed = response.results.iter().filter(|result| result.outcome == Outcome::Committed);
    let names: Vec<&RefName> = committed.map(|result| &result.name).collect();
    names.into_iter().filter_map(|name| subject(project, name)).collect()
}

fn command_text(command: &RefCommand) -> String {
    let old = match command.old {
        Expected::Any => "any".to_owned(),
        Expected::Absent => "absent".to_owned(),
        Expected::Oid(oid) => oid.to_string(),
    };
    let new = command.new.map_or("absent".to_owned(), |oid: Oid| oid.to_string());
    format!(" {} {old}>{new}", RefKey::Ref(command.name.clone()))
}

fn response_text(response: &RefTransactionResponse) -> String {
    let results = response.results.iter().map(|result| {
        let why = result.refusal.as_ref().map(|refusal| format!("({:?})", refusal.code)).unwrap_or_default();
        format!(" {}={:?}{why}", result.name, result.outcome)
    });
    let txn = response.txn.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{:?} {txn}{}", response.outcome, results.collect::<String>())
}
