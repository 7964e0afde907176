//! A bare repository with the bridge installed, a clone to push from, and a fake sidecar.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use async_trait::async_trait;
use lockstep::seams::git::Judged;
use lockstep::stages::api::server::{ApiTasks, BoundApi};
use lockstep::stages::api::{Inspection, Transactions};
use lockstep::stages::ports::{PeerRefs, SharedRecords};
use lockstep_proto::bridge::*;
use lockstep_proto::debt::{ProjectStatus, Repair, RepairAnswer};
use lockstep_proto::digests::{DigestsHead, DigestsPage, DigestsRequest, RefsAnswer, RefsRequest, SET_DIGEST_FORMAT};
use lockstep_proto::explain::{ExplainRequest, Explanation, RefAtNode, RefAtNodeRequest};
use lockstep_proto::gerrit::BasePath;
use lockstep_proto::peer::{PeerAnswer, PeerStatus};
use lockstep_proto::replay::{Replay, ReplayRequest};
use lockstep_proto::resync::{Resync, ResyncRequest};
use lockstep_proto::sharing::{HandedRecord, RecordsAnswer, RecordsRequest};
use lockstep_proto::status::{Counters, DueStatus, HeldStatus, NodeStatus};
use lockstep_proto::verify::{Verification, VerifyRequest};
use lockstep_proto::{Oid, ProjectName, RefName, TxnId};
use lockstep_tests::e2e::git::shield;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The command under test.
pub const LOCKSTEP: &str = env!("CARGO_BIN_EXE_lockstep-under-test");

pub const MAIN: &str = "refs/heads/main";

/// A commit stage that moves refs with git, and keeps its requests.
#[derive(Default)]
pub struct Fake {
    repository: PathBuf,
    pub requests: Mutex<Vec<RefTransactionRequest>>,
    /// Refs that it refuses, with the reasons.
    pub refuse: Mutex<BTreeMap<String, String>>,
    /// Refs that it commits and cannot show, with the reasons.
    pub unseen: Mutex<BTreeMap<String, String>>,
    /// While this is set, every batch gets this error.
    pub closed: Mutex<Option<ApiError>>,
    /// While this is set, a batch waits for it before it begins.
    pub gate: Mutex<Option<Arc<Notify>>>,
    /// Notified when a batch has ended.
    pub done: Notify,
    pub projects: Mutex<BTreeMap<ProjectName, RefName>>,
    /// The git volume that it reports as its own.
    pub root: Mutex<Option<String>>,
    pub base_paths: Mutex<Vec<BasePath>>,
    /// The refs of its refdb, if they differ from those of the repository.
    pub refdb: Mutex<Option<BTreeMap<String, Oid>>>,
}

pub struct Site {
    pub folder: tempfile::TempDir,
    pub fake: Arc<Fake>,
    pub shutdown: CancellationToken,
    pub tasks: Option<ApiTasks>,
}

fn refusal(code: RefusalCode, message: &str, actual: Option<String>) -> Refusal {
    Refusal { actual, ..Refusal::new(code, false, message) }
}

impl Fake {
    fn refusal_of(&self, command: &RefCommand) -> Option<Refusal> {
        let name = command.name.as_str();
        if let Some(why) = self.refuse.lock().get(name) {
            return Some(refusal(RefusalCode::NonFastForward, why, None));
        }
        let refdb = self.refdb.lock();
        let actual = match &*refdb {
            Some(refdb) => refdb.get(name).map(Oid::to_string),
            None => value(&self.repository, name),
        };
        let fits = match command.old {
            Expected::Any => true,
            Expected::Absent => actual.is_none(),
            Expected::Oid(oid) => actual.as_deref() == Some(&oid.to_string()),
        };
        let actual = actual.unwrap_or_else(|| "absent".to_owned());
        (!fits).then(|| refusal(RefusalCode::Stale, &format!("the ref is {actual}"), Some(actual)))
    }

    fn apply(&self, command: &RefCommand) {
        if let Some(refdb) = self.refdb.lock().as_mut() {
            refdb.extend(command.new.map(|new| (command.name.to_string(), new)));
            return;
        }
        let new = command.new.map(|oid| oid.to_string());
        let mut args = vec!["-c", "core.hooksPath=/dev/null", "update-ref"];
        match &new {
            Some(new) => args.extend([command.name.as_str(), new]),
            None => args.extend(["-d", command.name.as_str()]),
        }
        ok(git(&self.repository, &args));
    }
}

#[async_trait]
impl Transactions for Fake {
    async fn submit_judged(
        &self,
        _: &ProjectName,
        request: RefTransactionRequest,
        _: Judged,
    ) -> Result<RefTransactionResponse, ApiError> {
        self.requests.lock().push(request.clone());
        if let Some(error) = self.closed.lock().clone() {
            return Err(error);
        }
        let gate = self.gate.lock().clone();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        let mut refusals: Vec<Option<Refusal>> = request.commands.iter().map(|one| self.refusal_of(one)).collect();
        if request.atomic && refusals.iter().any(Option::is_some) {
            let other = || refusal(RefusalCode::Transaction, "another command was refused", None);
            refusals.iter_mut().for_each(|one| *one = Some(one.take().unwrap_or_else(other)));
        }
        let mut results = Vec::new();
        for (command, refusal) in request.commands.iter().zip(refusals) {
            if let Some(why) = self.unseen.lock().get(command.name.as_str()).filter(|_| refusal.is_none()) {
                let refusal = Some(Refusal::new(RefusalCode::Unavailable, false, why));
                let outcome = Outcome::CommittedNotYetVisible;
                results.push(RefResult { name: command.name.clone(), outcome, refusal });
                continue;
            }
            let outcome = if refusal.is_some() { Outcome::Refused } else { Outcome::Committed };
            if refusal.is_none() {
                self.apply(command);
            }
            results.push(RefResult { name: command.name.clone(), outcome, refusal });
        }
        let committed = results.iter().any(|result| result.outcome != Outcome::Refused);
        let outcome = if committed { Outcome::Committed } else { Outcome::Refused };
        self.done.notify_one();
        Ok(RefTransactionResponse { outcome, txn: None, results })
    }

    async fn create_project(
        &self,
        name: &ProjectName,
        request: CreateProjectRequest,
    ) -> Result<ProjectResponse, ApiError> {
        if self.projects.lock().contains_key(name) {
            let refusal = Some(refusal(RefusalCode::Project, "the project exists", None));
            return Ok(ProjectResponse { outcome: Outcome::Refused, txn: None, refusal });
        }
        self.projects.lock().insert(name.clone(), request.head);
        Ok(ProjectResponse { outcome: Outcome::Committed, txn: None, refusal: None })
    }

    async fn set_head(&self, name: &ProjectName, request: SetHeadRequest) -> Result<ProjectResponse, ApiError> {
        self.projects.lock().insert(name.clone(), request.head);
        Ok(ProjectResponse { outcome: Outcome::Committed, txn: None, refusal: None })
    }

    async fn delete_project(&self, name: &ProjectName, _: DeleteProjectRequest) -> Result<ProjectResponse, ApiError> {
        self.projects.lock().remove(name);
        Ok(ProjectResponse { outcome: Outcome::Committed, txn: None, refusal: None })
    }

    async fn look_up(&self, _: &ProjectName, _: &RefTransactionRequest) -> Result<RefTransactionResponse, ApiError> {
        let message = "this sidecar is starting; try again".to_owned();
        Err(ApiError::not_serving(message))
    }

    async fn outcome(&self, _: &TxnId) -> Result<ProjectResponse, ApiError> {
        let message = "this sidecar is starting; try again".to_owned();
        Err(ApiError::not_serving(message))
    }
}

#[async_trait]
impl Inspection for Fake {
    async fn status(&self) -> NodeStatus {
        NodeStatus {
            site: "eu-aws".parse().unwrap(),
            node: "eu-aws-0".parse().unwrap(),
            root: self.root.lock().clone(),
            base_paths: self.base_paths.lock().clone(),
            incarnation: None,
            role: "active".to_owned(),
            epoch: 1,
            ready: true,
            latches: Vec::new(),
            origins: Vec::new(),
            lanes: Vec::new(),
            checkpoints: Vec::new(),
            streams: Vec::new(),
            sharing: None,
            parked: 0,
            quarantined: 0,
            degraded: Vec::new(),
            degraded_projects: 0,
            held_elsewhere: Vec::new(),
            projects: Vec::new(),
            events: lockstep_proto::status::EventsStatus::default(),
            counters: Counters::default(),
            refresh: None,
            guards_off: Vec::new(),
            left_locks: Vec::new(),
            refdb_went_back: None,
            refdb_not_own: None,
            handover: Vec::new(),
            tls: None,
            signing: None,
            capacity: None,
            aws: None,
            bootstrap: None,
            coming_back: None,
            locks: Vec::new(),
            last_contact_ms: None,
            background: None,
            turns: None,
            verified: Vec::new(),
            uncommitted: Vec::new(),
            last_errors: Vec::new(),
        }
    }

    fn introduction(&self) -> PeerAnswer {
        PeerAnswer {
            site: "eu-aws".parse().unwrap(),
            node: "eu-aws-0".parse().unwrap(),
            version: "fake".to_owned(),
            role: "active".to_owned(),
            epoch: 1,
            ready: true,
            waits_for: Vec::new(),
        }
    }

    async fn due(&self) -> Vec<DueStatus> {
        Vec::new()
    }

    async fn peers(&self) -> Vec<PeerStatus> {
        Vec::new()
    }

    async fn every_project(&self) -> Result<Vec<ProjectStatus>, ApiError> {
        Ok(Vec::new())
    }

    async fn parked(&self) -> Result<Vec<HeldStatus>, ApiError> {
        Ok(Vec::new())
    }

    async fn quarantined(&self) -> Result<Vec<HeldStatus>, ApiError> {
        Ok(Vec::new())
    }

    async fn verify(&self, _: VerifyRequest) -> Result<Verification, ApiError> {
        Err(ApiError::unavailable("the fake has no refs"))
    }

    async fn verification(&self) -> Option<Verification> {
        None
    }

    async fn explain(&self, request: ExplainRequest) -> Result<Explanation, ApiError> {
        Err(ApiError::invalid(format!("the refdb has no project {}", request.project)))
    }

    async fn ref_here(&self, _: RefAtNodeRequest) -> Result<RefAtNode, ApiError> {
        Err(ApiError::unavailable("the fake has no refs"))
    }

    async fn begin_resync(&self, _: &str, _: ResyncRequest) -> Result<Resync, ApiError> {
        Err(ApiError::unavailable("the fake has no refs"))
    }

    fn resync(&self) -> Option<Resync> {
        None
    }

    async fn begin_replay(&self, _: &str, _: ReplayRequest) -> Result<Replay, ApiError> {
        Err(ApiError::unavailable("the fake has no streams"))
    }

    fn replay(&self) -> Option<Replay> {
        None
    }

    async fn repair(&self, _: Repair) -> Result<RepairAnswer, ApiError> {
        Ok(RepairAnswer { done: true, message: "there is nothing to repair".to_owned() })
    }
}

#[async_trait]
impl PeerRefs for Fake {
    async fn holds(&self, project: &ProjectName) -> Result<(), ApiError> {
        match self.projects.lock().contains_key(project) {
            true => Ok(()),
            false => Err(ApiError::new(RefusalCode::Project, false, format!("the fake holds no project {project}"))),
        }
    }

    async fn digests(&self, _: DigestsRequest) -> Result<DigestsPage, ApiError> {
        let (site, node) = ("eu-aws".parse().unwrap(), "eu-aws-0".parse().unwrap());
        let head = DigestsHead { site, node, format: SET_DIGEST_FORMAT, refdb: None, reconciles: false };
        Ok(DigestsPage { head, projects: Vec::new(), next: None })
    }

    async fn refs(&self, request: RefsRequest) -> Result<RefsAnswer, ApiError> {
        let gate = self.gate.lock().clone();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        let behind = request.catch_up.then(|| "the fake catches up with nothing".to_owned());
        Ok(RefsAnswer { refs: Vec::new(), behind })
    }
}

#[async_trait]
impl SharedRecords for Fake {
    async fn records(&self, request: RecordsRequest) -> Result<RecordsAnswer, ApiError> {
        let records = vec![HandedRecord { sequence: "8".to_owned(), data: "ZGF0YQ==".to_owned() }];
        Ok(RecordsAnswer::Records { follows: request.after, records, ended: false, behind: false })
    }
}

impl Site {
    /// A bare repository with two branches and a tag, a clone, and then the bridge. The fake serves it.
    pub async fn new() -> Self {
        let mut site = Self::unserved();
        site.serve().await;
        site
    }

    pub fn unserved() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fake = Arc::new(Fake { repository: folder.path().join("build.git"), ..Fake::default() });
        let site = Self { folder, fake, shutdown: CancellationToken::new(), tasks: None };
        let work = site.work();
        ok(git(site.folder.path(), &["init", "-q", "--bare", "-b", "main", "build.git"]));
        ok(git(site.folder.path(), &["init", "-q", "-b", "main", "work"]));
        ok(git(&work, &["commit", "-q", "--allow-empty", "-m", "one"]));
        ok(git(&work, &["branch", "old"]));
        ok(git(&work, &["tag", "-a", "-m", "v1", "v1"]));
        ok(git(&work, &["remote", "add", "origin", "../build.git"]));
        ok(git(&work, &["push", "-q", "origin", "main", "old", "v1"]));
        ok(site.lockstep(&["hook", "install", "build.git", "--project", "tools/build"]));
        site
    }

    pub async fn serve(&mut self) {
        self.serve_at(&self.socket()).await;
    }

    pub async fn serve_at(&mut self, socket: &Path) {
        let bound = BoundApi::bind(socket, None).await.unwrap();
        self.tasks = Some(bound.spawn(self.fake.clone(), self.fake.clone(), &self.shutdown));
    }

    pub fn bare(&self) -> PathBuf {
        self.folder.path().join("build.git")
    }

    pub fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("run/api.sock")
    }

    /// Runs the command in the site's folder, against the site's socket.
    pub fn lockstep(&self, args: &[&str]) -> Output {
        let mut command = quiet(Command::new(LOCKSTEP), self.folder.path());
        command.args(args).env("LOCKSTEP_SOCKET", self.socket()).output().unwrap()
    }

    pub fn push(&self, args: &[&str]) -> Output {
        git(&self.work(), &[&["push", "origin"], args].concat())
    }

    /// Every ref of the bare repository, with its value.
    pub fn refs(&self) -> String {
        ok(git(&self.bare(), &["for-each-ref", "--format=%(refname) %(objectname)"]))
    }

    /// Makes a commit in the clone, which is on no branch of the bare repository.
    pub fn commit(&self) -> String {
        ok(git(&self.work(), &["commit", "-q", "--allow-empty", "-m", "more"]));
        ok(git(&self.work(), &["rev-parse", "HEAD"])).trim().to_owned()
    }
}

pub fn value(repository: &Path, name: &str) -> Option<String> {
    let output = git(repository, &["rev-parse", "-q", "--verify", name]);
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

pub fn git(folder: &Path, args: &[&str]) -> Output {
    quiet(Command::new("git"), folder).args(args).output().unwrap()
}

/// Shields a command from the machine's own git configuration.
pub fn quiet(mut command: Command, folder: &Path) -> Command {
    shield(&mut command, folder);
    command.current_dir(folder);
    command
}

/// The standard output of a command that must succeed.
pub fn ok(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The standard error of a command that must fail.
pub fn fails(output: Output) -> String {
    assert!(!output.status.success(), "it should fail: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}
