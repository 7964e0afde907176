//! Clients: people and builds that push to a node of their site, all to the same few refs.
//!
//! Every new object is unique, except that `Ask::Back` pushes a branch back to what it was before. What a client
//! asks and hears goes to the watch; a node that dies under a request gives no answer.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::bridge::{ApiError, Expected, RefCommand, RefTransactionRequest, RefTransactionResponse};
use lockstep_proto::{NodeId, Oid, ProjectName, RefKey, SiteId};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::dice::Dice;
use super::workload::Asker;
use super::world::{Life, World};

/// A client of one site.
pub struct Client {
    world: Arc<World>,
    site: SiteId,
    name: String,
    dice: Arc<Dice>,
    stop: CancellationToken,
    asked: u64,
}

/// How a request ended for its client.
enum End {
    Answered(RefTransactionResponse),
    Error(ApiError),
    NodeDied,
    TimedOut,
}

impl Client {
    /// The `number`th client of a site; it goes on until `stop`.
    #[must_use]
    pub fn new(world: Arc<World>, site: SiteId, number: u64, stop: CancellationToken) -> Self {
        let name = format!("{site}/c{number}");
        let dice = Arc::new(Dice::new(world.seed, &name));
        Self { world, site, name, dice, stop, asked: 0 }
    }

    /// Asks, again and again.
    pub async fn run(mut self) {
        let mut asker = Asker::new(self.world.clone(), self.dice.clone());
        loop {
            let think = Duration::from_millis(self.dice.between(1, self.world.scenario.think_ms));
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = sleep(think) => {}
            }
            let nodes = self.world.nodes_of(&self.site);
            let Some(node) = self.dice.pick(&nodes).cloned() else { return };
            let Some(life) = self.world.life(&node).filter(|life| life.node.is_ready()) else { continue };
            self.asked += 1;
            let id = format!("{}-{}", self.name, self.asked);
            if let Some((project, request)) = asker.ask(&node, id) {
                self.submit(&node, &life, &project, request).await;
            }
        }
    }

    async fn submit(&self, node: &NodeId, life: &Life, project: &ProjectName, request: RefTransactionRequest) {
        let steps = request.commands.iter().map(command_text).collect::<String>();
        let atomic = if request.atomic { " atomic" } else { "" };
        self.note(&format!("asks {node} {} {project}{atomic}{steps}", request.request_id));
        self.world.watch.asked(project, &request);
        let end = self.wait(life, project, request.clone()).await;
        match end {
            End::Answered(response) => {
                self.note(&format!("{} heard {}", request.request_id, response_text(&response)));
                if !life.ended.is_cancelled() {
                    self.world.watch.answered(node, &request.request_id, &response);
                }
            }
            End::Error(error) => self.note(&format!("{} heard {:?} {}", request.request_id, error.code, error.message)),
            End::NodeDied => self.note(&format!("{} lost its node", request.request_id)),
            End::TimedOut => self.note(&format!("{} gave up", request.request_id)),
        }
    }

    async fn wait(&self, life: &Life, project: &ProjectName, request: RefTransactionRequest) -> End {
        let transactions = life.node.transactions();
        let patience = Duration::from_secs(60);
        tokio::select! {
            biased;
            () = life.ended.cancelled() => End::NodeDied,
            answer = timeout(patience, transactions.submit(project, request)) => match answer {
                Ok(Ok(response)) => End::Answered(response),
                Ok(Err(error)) => End::Error(error),
                Err(_) => End::TimedOut,
            },
        }
    }

    fn note(&self, what: &str) {
        self.world.trace.note(&self.name, what);
    }
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
