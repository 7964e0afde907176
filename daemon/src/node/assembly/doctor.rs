//! The doctor of a running node: gathers the facts that only the sidecar knows, runs the checks when somebody asks, and
//! every ten minutes for the metrics.
//!
//! A look costs about ten calls at AWS, one call per peer, and one lookup per name of a host. The calls change nothing:
//! reads, the removal of a blob that nobody has, and a conditional removal whose condition does not hold.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use lockstep_proto::doctor::{CheckResult, Diagnosis, GerritSeen, Severity, SharedSettings};
use lockstep_proto::overview::NodeDigest;
use lockstep_proto::{Incarnation, IncarnationId, Lane, LaneId, NodeId, Seq, Slot};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::provision::{Wishes, provided};
use super::stages::{Stages, streams};
use crate::base::clock::SystemClock;
use crate::node::config::Settings;
use crate::node::doctor::shared::{configuration_hash, shared_settings};
use crate::node::doctor::{
    CHECKS, CallTried, Facts, NodeProgram, NotSeen, PeerSeen, Seen, StreamComplaint, examine, gather,
};
use crate::seams::aws::KmsKeys;
use crate::seams::aws::mend::look;
use crate::seams::blob::BlobError;
use crate::seams::tls::Credentials;
use crate::stages::handshake::HandshakeStage;
use crate::stages::ports::Doctor;
use crate::telemetry::metrics::DoctorState;

/// The pause before the first look, in which the node joins.
const FIRST: Duration = Duration::from_secs(60);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_secs(600);
/// The longest time of one look outside.
const LOOK: Duration = Duration::from_secs(5);
/// A key that no blob has.
const NO_BLOB: &str = "doctor/absent";
/// An instance id that no Gerrit has.
const NO_INSTANCE: &str = "lockstep doctor";

/// The doctor of one node.
pub(super) struct NodeDoctor {
    settings: Arc<Settings>,
    stages: Arc<Stages>,
    handshake: Arc<HandshakeStage>,
    credentials: Option<Arc<Credentials>>,
}

impl NodeDoctor {
    pub(super) fn new(
        settings: &Settings,
        stages: Arc<Stages>,
        handshake: Arc<HandshakeStage>,
        credentials: Option<Arc<Credentials>>,
    ) -> Arc<Self> {
        Arc::new(Self { settings: Arc::new(settings.clone()), stages, handshake, credentials })
    }

    /// Looks again and again, and keeps the counts of findings for the metrics. Never ends.
    pub(super) async fn watch(self: Arc<Self>, state: Arc<Mutex<DoctorState>>) {
        let mut last = Vec::new();
        sleep(FIRST).await;
        loop {
            let checks = self.diagnose().await.checks;
            *state.lock() = counts(&checks);
            tell(&checks, &last);
            last = checks;
            sleep(PAUSE).await;
        }
    }

    async fn facts(&self) -> Facts {
        let away = NotSeen("it was not looked at".to_owned());
        let machine = gather::of_machine(Arc::clone(&self.settings), &SystemClock, &away);
        let (facts, calls, streams, peers, programs) =
            tokio::join!(machine, self.calls(), self.streams(), self.peers(), self.programs());
        let certificate = self.credentials.as_ref().map(|one| Ok(gather::certificate(one)));
        let gerrit = self.gerrit().ok_or_else(|| {
            NotSeen("no Gerrit has made its handshake since the sidecar's start; it does so when it starts".to_owned())
        });
        let (calls, streams) = (Ok(calls), Ok(streams));
        Facts { certificate, calls, streams, peers: Ok(peers), programs, gerrit, ..facts }
    }

    fn gerrit(&self) -> Option<GerritSeen> {
        self.handshake.seen()
    }

    /// Tries calls that change nothing.
    async fn calls(&self) -> Vec<CallTried> {
        let (deps, node) = (&self.stages.deps, &self.settings.node);
        let (refdb, slot) = (&deps.refdb, no_slot(node));
        let tables = tokio::join!(
            tried("read of the table of refs", refdb.documents.went_back()),
            tried("query of the table of refs", refdb.nodes.nodes()),
            tried("conditional write to the table of refs", refdb.gerrit.release_instance(NO_INSTANCE, node)),
            tried("read of the table of the journal", refdb.journal.slot(&slot)),
            tried("removal of a blob", deps.blobs.delete(NO_BLOB)),
            tried("read of a blob", no_blob(self)),
        );
        let of_streams = streams(&self.stages).into_iter().map(|site| async move {
            tried(&format!("look at the stream of {site}"), deps.eventlog.describe(&site)).await
        });
        let mut all: Vec<CallTried> = <[CallTried; 6]>::from(tables).into();
        all.extend(join_all(of_streams).await);
        all
    }

    /// The changes that streams need. A stream that does not answer is told by its call.
    async fn streams(&self) -> Vec<StreamComplaint> {
        let log = &self.stages.deps.eventlog;
        let looks = streams(&self.stages).into_iter().map(|site| async move {
            let complaint = timeout(LOOK, log.complaint(&site)).await.ok()?.ok()??;
            Some(StreamComplaint { site: site.to_string(), complaint })
        });
        join_all(looks).await.into_iter().flatten().collect()
    }

    async fn peers(&self) -> Vec<PeerSeen> {
        let peers = &self.stages.deps.peers;
        let looks = peers.statuses().await.into_iter().map(|status| async move {
            let shared = match &status.problem {
                None => peers.shared_settings(&status.name).await.map_err(NotSeen::because),
                Some(_) => Err(NotSeen(format!("peer {} does not answer", status.name))),
            };
            PeerSeen { name: status.name, answer: status.answer, problem: status.problem, shared }
        });
        join_all(looks).await
    }

    async fn programs(&self) -> Seen<Vec<NodeProgram>> {
        let digests = timeout(LOOK, self.stages.deps.refdb.nodes.digests()).await;
        let digests = digests.map_err(|_| NotSeen("the refdb did not answer in time".to_owned()))?;
        let nodes = timeout(LOOK, self.stages.deps.refdb.nodes.nodes()).await;
        let nodes = nodes.map_err(|_| NotSeen("the refdb did not answer in time".to_owned()))?;
        let (digests, nodes) = (digests.map_err(NotSeen::because)?, nodes.map_err(NotSeen::because)?);
        let is_listed = |node: &NodeId| nodes.iter().any(|one| one.node == *node && !one.expelled);
        let programs = digests.iter().filter(|record| is_listed(&record.node)).map(|record| {
            let digest = serde_json::from_str::<NodeDigest>(&record.body);
            let program = digest.map(|digest| digest.program).unwrap_or_default();
            NodeProgram { node: record.node.to_string(), program }
        });
        Ok(programs.collect())
    }
}

#[async_trait]
impl Doctor for NodeDoctor {
    async fn diagnose(&self) -> Diagnosis {
        let facts = self.facts().await;
        diagnosis(&facts, examine(&facts))
    }

    fn shared_settings(&self) -> SharedSettings {
        shared_settings(&self.settings)
    }
}

/// The diagnosis of a node whose sidecar does not answer: the checks of its machine, and a look at its resources at
/// AWS.
pub async fn without_sidecar(settings: Settings, why: &str) -> Diagnosis {
    let away = NotSeen(format!("the sidecar does not answer: {why}"));
    let settings = Arc::new(settings);
    let (machine, calls) =
        tokio::join!(gather::of_machine(Arc::clone(&settings), &SystemClock, &away), resources(&settings));
    let facts = Facts { calls, ..of_command(machine, &away) };
    diagnosis(&facts, examine(&facts))
}

/// The facts of a machine as a command sees them. Its user and its umask are not those of the sidecar, and its rights
/// are only if it runs as the owner of the store.
fn of_command(mut machine: Facts, away: &NotSeen) -> Facts {
    let store = machine.settings.state.join("node.redb");
    let owner = machine.files.iter().find(|file| file.path == store).map(|file| file.uid);
    let own = machine.process.as_ref().ok().map(|process| process.uid);
    if own.is_none() || own != owner {
        for folder in &mut machine.folders {
            folder.access = Err(away.clone());
        }
    }
    Facts { process: Err(away.clone()), ..machine }
}

/// Looks at the tables, the stream and the bucket as `lockstep aws check` does. A resource that cannot be looked at is
/// a call that failed.
async fn resources(settings: &Settings) -> Seen<Vec<CallTried>> {
    let keys = KmsKeys::default();
    let wishes = Wishes { sites: [settings.site.clone()].into(), keys, tags: Default::default(), mode: None };
    let all = provided(settings, &wishes).await.map_err(NotSeen::because)?;
    let looked = timeout(LOOK * 6, look(&all)).await.map_err(|_| NotSeen("AWS did not answer in time".to_owned()))?;
    let call = "look at tables, stream and bucket".to_owned();
    let failed = |error: &dyn std::fmt::Display| CallTried { call: call.clone(), problem: Some(error.to_string()) };
    Ok(looked.failures.iter().map(|error| failed(error)).collect())
}

fn diagnosis(facts: &Facts, checks: Vec<CheckResult>) -> Diagnosis {
    Diagnosis {
        site: facts.settings.site.clone(),
        node: facts.settings.node.clone(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        at_ms: facts.now_ms,
        configuration: configuration_hash(&facts.settings),
        gerrit: facts.gerrit.as_ref().ok().cloned(),
        checks,
    }
}

/// Tries a call within its time.
async fn tried<T, E: std::fmt::Display>(name: &str, call: impl Future<Output = Result<T, E>>) -> CallTried {
    let problem = match timeout(LOOK, call).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {} s", LOOK.as_secs())),
    };
    CallTried { call: name.to_owned(), problem }
}

/// Reads a blob that nobody has. That it is absent is an answer.
async fn no_blob(doctor: &NodeDoctor) -> Result<(), BlobError> {
    let spill: &Path = &doctor.settings.state;
    match doctor.stages.deps.blobs.get(NO_BLOB, 1, &[0; 32], spill).await {
        Ok(_) | Err(BlobError::Absent(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A slot of a node that no incarnation of it ever has.
fn no_slot(node: &NodeId) -> Slot {
    let incarnation = IncarnationId { node: node.clone(), number: Incarnation(u64::MAX) };
    Slot { lane: LaneId { incarnation, lane: Lane(0) }, seq: Seq(0) }
}

/// The number of findings of each check and severity, those without any included.
fn counts(checks: &[CheckResult]) -> DoctorState {
    let count = |check: &str, severity: Severity| {
        let result = checks.iter().find(|one| one.check == check);
        let findings = result.into_iter().flat_map(|one| &one.findings);
        findings.filter(|finding| finding.severity == severity).count() as u64
    };
    let each = CHECKS.iter().flat_map(|check| Severity::ALL.map(|severity| (check.name, severity)));
    DoctorState { findings: each.map(|(name, severity)| ((name, severity), count(name, severity))).collect() }
}

/// Writes each finding into the log that the last look did not have. Notes are left out.
fn tell(now: &[CheckResult], last: &[CheckResult]) {
    for check in now {
        let before = last.iter().find(|one| one.check == check.check).map(|one| &one.findings);
        let told = check.findings.iter().filter(|one| one.severity > Severity::Note);
        for finding in told.filter(|one| before.is_none_or(|before| !before.contains(one))) {
            let (check, subject, remedy) = (check.check.as_str(), finding.subject.as_str(), finding.remedy.as_str());
            tracing::warn!(check, subject, remedy, "the doctor has found: {}", finding.text);
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::doctor::Finding;

    use super::*;
    use crate::node::doctor::{Access, OwnedFile, Process};

    #[test]
    fn a_command_of_another_user_tells_nothing_about_the_user_and_the_rights_of_the_sidecar() {
        let away = NotSeen("the sidecar does not answer".to_owned());
        let of = |uid: u32| {
            let mut facts = Facts::in_order();
            facts.files.push(OwnedFile { path: facts.settings.state.join("node.redb"), uid: 1_000 });
            facts.process = Ok(Process { uid, umask: 0o077 });
            facts.folders[0].access = Ok(Access { mode: 0o755, writes: false });
            let checks = examine(&of_command(facts, &away));
            let process = checks.into_iter().find(|one| one.check == "process").unwrap();
            let subjects: Vec<String> = process.findings.into_iter().map(|one| one.subject).collect();
            (subjects, process.not_seen.is_some())
        };
        assert_eq!(of(0), (Vec::new(), true), "neither the umask of root nor its user is that of the sidecar");
        assert_eq!(of(1_000), (vec!["root".to_owned()], true), "the owner of the store has the sidecar's rights");
    }

    #[test]
    fn each_check_has_a_count_for_each_severity() {
        let finding = |severity| Finding { severity, subject: "s".into(), text: "t".into(), remedy: "r".into() };
        let findings = vec![finding(Severity::Error), finding(Severity::Error), finding(Severity::Note)];
        let disk = CheckResult { check: "disk".into(), looks_at: "l".into(), findings, not_seen: None };
        let state = counts(&[disk]);
        assert_eq!(state.findings.len(), CHECKS.len() * Severity::ALL.len());
        assert_eq!(state.findings[&("disk", Severity::Error)], 2);
        assert_eq!(state.findings[&("disk", Severity::Warning)], 0);
        assert_eq!(state.findings[&("clock", Severity::Error)], 0, "an alert ends with its finding");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_fails_or_hangs_is_told_by_its_name() {
        let refused = tried("read", async { Err::<(), _>("denied") }).await;
        assert_eq!(refused, CallTried { call: "read".into(), problem: Some("denied".into()) });
        let hangs = tried("read", std::future::pending::<Result<(), String>>()).await;
        assert_eq!(hangs.problem.as_deref(), Some("no answer within 5 s"));
        assert_eq!(tried("read", async { Ok::<_, String>(7) }).await.problem, None);
    }
}
