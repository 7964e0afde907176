//! A ref transaction takes exactly one call of DynamoDB, for any number of refs: through the API, and for a push with
//! plain git. Without transactions, it takes a lock and a move for each ref, and one call for the slot. The tests run
//! over the embedded emulators.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lockstep::cli::cost::idle::{Paces, calls};
use lockstep::cli::cost::model::Model;
use lockstep::cli::cost::traffic::Traffic;
use lockstep::cli::cost::units::{COMMAND_BYTES, SLOT_BYTES, collect_units, commit_units, slot_bytes, write_units};
use lockstep::clients::git_hooks::install::{Installation, install};
use lockstep::node::assembly::{Embedded, Seams, Sidecar, seams};
use lockstep::node::config::{self, Settings};
use lockstep::seams::embedded::dynamo::EmbeddedDynamo;
use lockstep::seams::git;
use lockstep::seams::refdb::dynamo::{Connection, DynamoRefDb, TableSettings, client};
use lockstep::seams::refdb::units::Units;
use lockstep::seams::refdb::{CommitAnswer, JournalStore, RefStore, Setup};
use lockstep_proto::bridge::{CreateProjectRequest, Expected, Outcome, RefCommand, RefTransactionRequest};
use lockstep_proto::{Oid, ProjectName};
use lockstep_tests::build::{Commit, project, slot, value};
use tempfile::TempDir;

/// The number of refs of the large transaction.
const REFS: usize = 50;

/// One sidecar with a project, whose repository has the git hooks.
struct Bed {
    sidecar: Sidecar,
    seams: Seams,
    project: ProjectName,
    repository: PathBuf,
    _embedded: Embedded,
    folder: TempDir,
}

impl Bed {
    async fn new() -> Self {
        Self::with("auto").await
    }

    /// A bed whose refdb is written in this mode.
    async fn with(writes: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let embedded = Embedded::start(&folder.path().join("aws")).await.unwrap();
        let settings = settings(folder.path(), writes);
        let seams = seams(&settings, Some(&embedded)).await.unwrap();
        let sidecar = Sidecar::start(&settings, &seams, hooked(&settings), None).await.unwrap();
        while !sidecar.node.is_ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let project: ProjectName = "trips".parse().unwrap();
        let head = "refs/heads/main".parse().unwrap();
        let request = CreateProjectRequest { request_id: "create".into(), head };
        let created = sidecar.node.transactions().create_project(&project, request).await.unwrap();
        assert_eq!(created.outcome, Outcome::Committed, "{created:?}");
        let repository = settings.base_paths.root().join("trips.git");
        Self { sidecar, seams, project, repository, _embedded: embedded, folder }
    }

    /// The least write units of five commits that create one ref each. Marks and heartbeats add to some of them.
    async fn units_of_one_ref(&self, value: Oid) -> f64 {
        let mut least = f64::MAX;
        for at in 0..5 {
            let before = self.seams.refdb.units().consumed().write;
            self.commit(&format!("units {at}"), vec![command(&format!("refs/heads/units-{at}"), value)]).await;
            least = least.min(self.seams.refdb.units().consumed().write - before);
        }
        least
    }

    /// Commits a batch. Returns the number of calls that it took.
    async fn commit(&self, id: &str, commands: Vec<RefCommand>) -> u64 {
        let before = self.seams.refdb.round_trips();
        let request = RefTransactionRequest {
            request_id: id.into(),
            deadline_ms: Some(240_000),
            atomic: true,
            commands,
            actor: None,
            traceparent: None,
            message: None,
            lock: None,
        };
        let answer = self.sidecar.node.transactions().submit(&self.project, request).await.unwrap();
        assert_eq!(answer.outcome, Outcome::Committed, "{answer:?}");
        self.seams.refdb.round_trips() - before
    }
}

fn settings(folder: &Path, writes: &str) -> Settings {
    let text = format!(
        r#"
site = "eu-aws"
node = "eu-aws-0"
sites = ["eu-aws"]
root = "{folder}/git"
state = "{folder}/git/.lockstep"
[api]
socket = "{folder}/api.sock"
[refdb]
writes = "{writes}"
[embedded]
dir = "{folder}/aws"
"#,
        folder = folder.display()
    );
    config::parse(&text).unwrap_or_else(|error| panic!("{error}"))
}

fn hooked(settings: &Settings) -> git::Settings {
    let (socket, base_paths) = (settings.api.socket.clone(), settings.base_paths.clone());
    let on_create = git::OnCreate::new(move |repository, project| {
        let binary = env!("CARGO_BIN_EXE_lockstep-under-test").into();
        let place = Some(base_paths.seen().git_dir(project));
        let (repository, project, socket) = (repository.to_owned(), project.clone(), socket.clone());
        Ok(install(&Installation { repository, place, project, socket, binary })?)
    });
    git::Settings { on_create: Some(on_create), ..git::Settings::default() }
}

/// Makes a commit without a parent, in the project's repository or in another one.
fn commit(repository: &Path, message: &str) -> Oid {
    let tree = run(repository, &["mktree"]);
    run(repository, &["commit-tree", tree.trim(), "-m", message]).trim().parse().unwrap()
}

fn run(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@lockstep.invalid", "-C"])
        .arg(folder)
        .args(args)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn command(name: &str, new: Oid) -> RefCommand {
    RefCommand { name: name.parse().unwrap(), old: Expected::Any, new: Some(new), force: true }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_one_ref_or_of_fifty_takes_one_call() {
    let bed = Bed::new().await;
    let (first, second) = (commit(&bed.repository, "first"), commit(&bed.repository, "second"));
    let many = |oid| (0..REFS).map(|at| command(&format!("refs/heads/deep/er/branch-{at}"), oid)).collect();
    assert_eq!(bed.commit("one", vec![command("refs/heads/one", first)]).await, 1, "creating one ref");
    // The units are those that `lockstep cost` computes: the slot of one ref is below a KiB.
    let computed = commit_units(true, 1.0, write_units(slot_bytes(1.0, 0.0)));
    assert_eq!(bed.units_of_one_ref(first).await, computed);
    assert_eq!(bed.commit("one again", vec![command("refs/heads/one", second)]).await, 1, "moving one ref");
    assert_eq!(bed.commit("many", many(first)).await, 1, "creating {REFS} refs below new directories");
    assert_eq!(bed.commit("many again", many(second)).await, 1, "moving {REFS} refs");
    let gone = |at| RefCommand { new: None, ..command(&format!("refs/heads/deep/er/branch-{at}"), first) };
    assert_eq!(bed.commit("none", (0..REFS).map(gone).collect()).await, 1, "deleting {REFS} refs");
    // A transaction takes two units for each of its items.
    let units = bed.seams.refdb.units().consumed();
    assert!(units.write >= 2.0 * 3.0 * REFS as f64 && units.read > 0.0, "{units:?}");
    bed.sidecar.stop(Duration::from_secs(5)).await;
}

/// Each part of 100 refs takes a call for its locks and one for its move. The slot takes one, at any length of the
/// transaction, because its long form is in the blob store.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_ten_thousand_refs_takes_two_calls_per_hundred_and_one() {
    for (count, calls) in [(2_000, 41), (10_000, 201)] {
        let bed = Bed::new().await;
        let first = commit(&bed.repository, "first");
        let many = (0..count).map(|at| command(&format!("refs/tags/t-{at}"), first)).collect();
        // The folder `refs/tags` itself can be no ref, and needs no mark.
        assert_eq!(bed.commit(&format!("{count} refs"), many).await, calls, "{count} refs");
        bed.sidecar.stop(Duration::from_secs(5)).await;
    }
}

/// Tables with multi-Region strong consistency have no transactions. The calls of one step go side by side, so one ref
/// or many wait for three of them one after the other, and once more for a folder that is new.
#[tokio::test(flavor = "multi_thread")]
async fn without_transactions_a_ref_takes_two_calls_and_a_transaction_one() {
    let bed = Bed::with("single_item").await;
    let (first, second) = (commit(&bed.repository, "first"), commit(&bed.repository, "second"));
    let many = |oid| (0..REFS).map(|at| command(&format!("refs/heads/deep/er/branch-{at}"), oid)).collect();
    assert_eq!(bed.commit("one", vec![command("refs/heads/one", first)]).await, 3, "creating one ref");
    let computed = commit_units(false, 1.0, write_units(slot_bytes(1.0, 0.0)));
    assert_eq!(bed.units_of_one_ref(first).await, computed);
    assert_eq!(bed.commit("one again", vec![command("refs/heads/one", second)]).await, 3, "moving one ref");
    let calls = 2 * REFS as u64 + 1;
    assert_eq!(bed.commit("many", many(first)).await, calls + 2, "creating {REFS} refs below two new folders");
    assert_eq!(bed.commit("many again", many(second)).await, calls, "moving {REFS} refs");
    let tags = (0..10_000).map(|at| command(&format!("refs/tags/t-{at}"), first)).collect();
    assert_eq!(bed.commit("tags", tags).await, 20_001, "creating 10,000 refs");
    bed.sidecar.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_fifty_refs_takes_one_call() {
    let bed = Bed::new().await;
    let clone = bed.folder.path().join("clone.git");
    run(bed.folder.path(), &["init", "-q", "--bare", "clone.git"]);
    let (url, oid) = (bed.repository.display().to_string(), commit(&clone, "pushed"));
    let mut args = vec!["push".to_owned(), "-q".to_owned(), url];
    args.extend((0..REFS).map(|at| format!("{oid}:refs/heads/pushed-{at}")));
    let before = bed.seams.refdb.round_trips();
    let push = tokio::process::Command::new("git").args(&args).current_dir(&clone).output().await.unwrap();
    assert!(push.status.success(), "{}", String::from_utf8_lossy(&push.stderr));
    assert_eq!(bed.seams.refdb.round_trips() - before, 1);
    let shown = run(&bed.repository, &["for-each-ref", "--format=%(refname)", "refs/heads/"]);
    assert_eq!(shown.lines().count(), REFS, "every ref can be read when the push has its answer");
    bed.sidecar.stop(Duration::from_secs(5)).await;
}

/// A thousandth of a day of the load model, transaction by transaction, as the model of the cost sees them: the refs of
/// each class, and packs of its distribution below the limit of a slot.
fn replayed() -> Vec<(u32, usize)> {
    let model = Model { builds_per_day: 100.0, developers: 11.0, ..Model::default() };
    let traffic = Traffic::of(&model, false);
    let (pushes, all) =
        ((model.builds_per_day / model.jobs_per_trigger * 0.55) as usize, traffic.transactions as usize);
    let push = |at: usize| (4, 20_000 + 9_000 * at);
    (0..pushes).map(push).chain((pushes..all).map(|_| (1, 1_500))).collect()
}

/// The units of each commit and of the collection of its slot are those that `lockstep cost` computes. Its estimate of
/// the size of a slot is never below the real one, and at most a KiB above it for a transaction of few refs.
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_day_takes_the_units_that_the_cost_has() {
    let server = EmbeddedDynamo::in_memory().await.unwrap();
    let connection = client(&Connection::emulator(server.endpoint())).await;
    let db = DynamoRefDb::new(&connection, "test", TableSettings::default());
    db.prepare(true).await.unwrap();
    let (project, day) = (project("tools/build#1"), replayed());
    assert!((50..100).contains(&day.len()), "{} transactions", day.len());
    let (mut expected, before) = (0.0, db.units().consumed());
    for (seq, (refs, pack)) in day.iter().enumerate() {
        let create = |commit: Commit, at| commit.first(&format!("refs/changes/{seq}/{at}"), value(1));
        let request = (0..*refs).fold(Commit::at(&project, seq as u64), create).pack(vec![7; *pack]).request();
        assert_eq!(db.commit(&request).await, Ok(CommitAnswer::Committed));
        let id = &request.transaction.id;
        let item = "pktxndata".len() + id.slot.to_string().len() + id.to_string().len() + request.encoded.len();
        let estimate = slot_bytes(f64::from(*refs), *pack as f64);
        assert!(item as f64 <= estimate && estimate <= item as f64 + 1_024.0, "{item} bytes, estimated {estimate}");
        let slot = write_units(item as f64);
        expected += commit_units(true, f64::from(*refs), slot) + collect_units(slot);
    }
    let slots: Vec<_> = (0..day.len() as u64).map(slot).collect();
    db.collect(&slots).await.unwrap();
    let after = db.units().consumed();
    let counted = Units { write: after.write - before.write, read: after.read - before.read };
    assert_eq!(counted, Units { write: expected, read: 0.0 });
    assert_eq!(slot_bytes(4.0, 0.0), f64::from(SLOT_BYTES + 4 * COMMAND_BYTES));
}

/// A sidecar that idles takes the units that `lockstep cost` computes from its intervals. Each periodic call may fall
/// into the time once more often. On a busy machine the calls come later, so the lower bound is a half.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_sidecar_takes_the_units_that_the_cost_has() {
    let bed = Bed::new().await;
    // The marks of the creation of the project are written a second after it.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (began, before) = (tokio::time::Instant::now(), bed.seams.refdb.units().consumed());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (seconds, after) = (began.elapsed().as_secs_f64(), bed.seams.refdb.units().consumed());
    // Only a sidecar with metrics reads them, and has a doctor.
    let watched = ["metrics of failovers", "doctor"];
    let all = calls(Paces::with(Duration::from_secs(5)), 1.0, 1.0, 1.0);
    let rows: Vec<_> = all.into_iter().filter(|row| !watched.contains(&row.name)).collect();
    for (at, counted) in [(0, after.write - before.write), (1, after.read - before.read)] {
        let computed: f64 = rows.iter().map(|row| row.within(seconds)[at]).sum();
        let once: f64 = rows.iter().map(|row| if at == 0 { row.writes } else { row.reads }).sum();
        let is_near = counted <= computed + once && counted >= computed / 2.0;
        assert!(is_near, "{counted} units, computed {computed}, and {once} per round");
    }
    bed.sidecar.stop(Duration::from_secs(5)).await;
}
