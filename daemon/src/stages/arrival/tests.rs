//! The stage on seams in memory, on virtual time.

use lockstep_proto::bridge::RefusalCode;
use lockstep_proto::debt::DebtKind;
use lockstep_proto::{Command, ProjectName, Seq};

use super::*;
use crate::seams::refdb::CommitRequest;
use crate::seams::volume::RefRecord;
use crate::state::context::creation;
use crate::state::debts::Failure;
use crate::state::version_map::Mover;

const SOON: Duration = Duration::from_millis(100);

/// A Gerrit with subjects that it has not refreshed.
struct Gerrit {
    due: parking_lot::Mutex<Vec<Subject>>,
    reports: watch::Sender<u64>,
}

impl DueSubjects for Gerrit {
    fn due_of(&self, _: &ProjectName, _: &[RefKey]) -> Vec<Subject> {
        self.due.lock().clone()
    }

    fn is_outstanding(&self, subject: &Subject) -> bool {
        self.due.lock().contains(subject)
    }

    fn reports(&self) -> watch::Receiver<u64> {
        self.reports.subscribe()
    }
}

/// Node `n` of site `s`, with an open incarnation.
async fn world() -> (NodeContext, NodeState) {
    let context = NodeContext::in_memory();
    let _ = context.open_incarnation().await;
    let _ = context.refdb.nodes.put_node(&NodeRecord::first("n", "s"), None).await.unwrap();
    let state = NodeState::load(&context, Duration::from_millis(1)).unwrap();
    (context, state)
}

fn stage(world: &(NodeContext, NodeState), gerrit: Option<Arc<dyn DueSubjects>>) -> Arc<ArrivalStage> {
    Arc::new(ArrivalStage::new(&world.0, &world.1, gerrit, Arc::new(Vec::<String>::new)))
}

fn transaction() -> Transaction {
    Transaction { request_id: "r".to_owned(), ..creation(0) }
}

async fn commit(context: &NodeContext) -> TxnId {
    let transaction = transaction();
    let (id, encoded) = (transaction.id.clone(), transaction.encode());
    let request =
        CommitRequest { transaction, encoded, directories: Vec::new(), freed: Default::default(), lock_token: None };
    let _ = context.refdb.refs.commit(&request).await.unwrap();
    id
}

fn apply(state: &NodeState) {
    let transaction = transaction();
    let record =
        |one: &Command| RefRecord { version: one.version, value: one.new.clone(), txn: transaction.id.clone() };
    let records = transaction.commands.iter().map(|one| (one.key.clone(), record(one))).collect();
    state.versions.moved(&transaction.project, records, Mover::Other).unwrap();
    state.low_water.done(&transaction.id.slot);
}

/// Asks for a short time.
async fn ask(stage: &ArrivalStage, txn: &str) -> AwaitResponse {
    stage.arrival(txn.parse().unwrap(), None, SOON).await.unwrap()
}

/// Begins to wait, and returns when the wait stands.
async fn waits(stage: &Arc<ArrivalStage>, txn: &TxnId) -> tokio::task::JoinHandle<AwaitResponse> {
    let (stage, txn) = (Arc::clone(stage), txn.clone());
    let wait = tokio::spawn(async move { stage.arrival(txn, None, Duration::from_secs(30)).await.unwrap() });
    tokio::time::sleep(SOON).await;
    assert!(!wait.is_finished());
    wait
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_once_when_the_transaction_is_applied() {
    let world = world().await;
    let (stage, txn) = (stage(&world, None), commit(&world.0).await);
    let late = ask(&stage, &txn.to_string()).await;
    assert_eq!((late.outcome, late.retry), (Arrival::NotYet, true));
    assert!(late.message.unwrap().contains("node n has not applied it yet"));
    let wait = waits(&stage, &txn).await;
    apply(&world.1);
    let applied = Instant::now();
    let answer = wait.await.unwrap();
    assert_eq!((answer.outcome, answer.retry, answer.message), (Arrival::Shown, false, None));
    assert!(applied.elapsed() < SOON, "it was woken, and did not look by chance: {:?}", applied.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_gerrit_that_has_not_refreshed_is_waited_for() {
    let world = world().await;
    let subject = Subject::Branch { project: "p".parse().unwrap(), name: "refs/heads/a".parse().unwrap() };
    let gerrit = Arc::new(Gerrit { due: parking_lot::Mutex::new(vec![subject]), reports: watch::Sender::new(0) });
    let (stage, txn) = (stage(&world, Some(Arc::clone(&gerrit) as _)), commit(&world.0).await);
    apply(&world.1);
    let wait = waits(&stage, &txn).await;
    assert!(ask(&stage, &txn.to_string()).await.message.unwrap().contains("not refreshed refs/heads/a of project p"));
    gerrit.due.lock().clear();
    gerrit.reports.send_modify(|count| *count += 1);
    let reported = Instant::now();
    assert_eq!(wait.await.unwrap().outcome, Arrival::Shown);
    assert!(reported.elapsed() < SOON);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_never_was_is_refused_or_unknown_and_never_shown() {
    let world = world().await;
    let (stage, began) = (stage(&world, None), Instant::now());
    world.0.refdb.journal.poison(&"n.1.0.3".parse().unwrap()).await.unwrap();
    let refused = ask(&stage, "n.1.0.3.00000000000000aa").await;
    assert_eq!((refused.outcome, refused.retry), (Arrival::Refused, false));
    let nobody = ask(&stage, "m.1.0.0.00000000000000aa").await;
    assert_eq!((nobody.outcome, nobody.retry), (Arrival::Unknown, false));
    assert_eq!(began.elapsed(), Duration::ZERO, "nothing is waited for");
    assert_eq!(ask(&stage, "n.1.0.5.00000000000000aa").await.outcome, Arrival::NotYet, "it may be in progress");
    assert_eq!(began.elapsed(), SOON);
    world.1.roles.began_with(["s".parse().unwrap()].into());
    let elsewhere = stage.arrival(transaction().id, Some("x".parse().unwrap()), SOON).await;
    assert_eq!(elsewhere.unwrap_err().code, RefusalCode::Invalid);
}

#[tokio::test(start_paused = true)]
async fn waits_behind_a_read_that_does_not_end_are_answered_in_time_and_end_with_the_node() {
    let world = world().await;
    let (stage, txn) = (stage(&world, None), commit(&world.0).await);
    apply(&world.1);
    // Another wait reads the nodes' records, and has no answer.
    let _reads = stage.nodes.lock().await;
    let began = Instant::now();
    let text = txn.to_string();
    let (one, other) = tokio::join!(ask(&stage, &text), ask(&stage, &text));
    assert!(began.elapsed() <= SOON + PATIENCE + SOON, "{:?}", began.elapsed());
    for late in [one, other] {
        assert_eq!(late.outcome, Arrival::NotYet);
        assert!(late.message.unwrap().contains("is slow"));
    }
    let stops = async {
        tokio::time::sleep(SOON).await;
        world.0.tasks.cancel();
    };
    let (ended, ()) = tokio::join!(stage.arrival(txn, None, Duration::from_secs(30)), stops);
    assert_eq!(ended.unwrap_err().code, RefusalCode::NotServing);
    assert!(began.elapsed() <= SOON + PATIENCE + SOON + SOON, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_collected_transaction_is_shown_if_this_node_remembers_it() {
    let world = world().await;
    let (stage, state) = (stage(&world, None), &world.1);
    let (site, id) = ("s".parse().unwrap(), "n.1".parse().unwrap());
    let _ = world.0.refdb.incarnations.mark(&site, &id, &[Seq(1)], &[Seq(1)]).await.unwrap();
    let txn = transaction().id.to_string();
    assert_eq!(ask(&stage, &txn).await.outcome, Arrival::Unknown, "the slot is empty, and it is not remembered");
    state.requests.note(&transaction());
    assert_eq!(ask(&stage, &txn).await.outcome, Arrival::Shown);
    let other = transaction().id.slot.txn(0xbb).to_string();
    assert_eq!(ask(&stage, &other).await.outcome, Arrival::Unknown, "another attempt at the same slot");
    let failure = Failure { kind: DebtKind::BadContent, why: "bad".into(), txn: None, refs: Vec::new() };
    state.debts.failed(&"p".parse().unwrap(), failure, None);
    assert_eq!(ask(&stage, &txn).await.outcome, Arrival::NotYet, "the project is degraded here");
}
