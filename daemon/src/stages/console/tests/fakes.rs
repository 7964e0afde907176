//! Stages that know a little of everything, keep the changes that they are asked for, and have names that are markup.

use async_trait::async_trait;
use lockstep_proto::bridge::{ApiError, ProjectResponse};
use lockstep_proto::debt::{ProjectStatus, Repair, RepairAnswer};
use lockstep_proto::drill::{DrillBegun, DrillRequest, Drills, Preflight, PreflightRequest};
use lockstep_proto::explain::{ExplainRequest, Explanation, RefAtNode, RefAtNodeRequest};
use lockstep_proto::failover::{
    ActRequest, ExecuteRequest, Failover, FailoverPlan, ModeRequest, PlanRequest, RoleRequest, SitesStatus,
};
use lockstep_proto::gerrit::{HandshakeRequest, HandshakeResponse, Stray, StrayRequest};
use lockstep_proto::history::History;
use lockstep_proto::keys::{ChangeKeyRequest, RequireSigningRequest, SigningStatus};
use lockstep_proto::overview::Overview;
use lockstep_proto::peer::{PeerAnswer, PeerStatus};
use lockstep_proto::replay::{Replay, ReplayRequest};
use lockstep_proto::resync::{Resync, ResyncRequest};
use lockstep_proto::silent::{SilentBegun, SilentDrills, SilentRequest};
use lockstep_proto::site_list::{AddSiteRequest, RemoveNodeRequest, RemoveSiteRequest};
use lockstep_proto::status::{DueStatus, HeldStatus, NodeStatus};
use lockstep_proto::verify::{Verification, VerifyRequest};
use lockstep_proto::{NodeId, ProjectName, SiteId};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::overview;
use crate::stages::ports::{
    Handshake, Inspection, OperatorRole, Operators, TokenError, TokenHash, TokenHolder, TokenHolders, check_approval,
};

/// A text that would run if it were not escaped.
pub(super) const EVIL: &str = "<script>alert(1)</script>";

/// All stages of the console in one.
#[derive(Default)]
pub(super) struct Fakes {
    pub(super) changes: Mutex<Vec<String>>,
    pub(super) is_old: Mutex<bool>,
    /// Whether the refdb does not answer.
    pub(super) is_away: Mutex<bool>,
    /// The fields of the failover that have other values.
    pub(super) others: Mutex<Vec<(&'static str, Value)>>,
}

fn read<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A failover that is paused before `stop`, for an approval.
fn failover() -> Value {
    let step = |name: &str, began: Option<u64>, ended: Option<u64>| {
        let (by, note) = ("b-0", EVIL);
        json!({"step": name, "began_ms": began, "ended_ms": ended, "by": by, "note": note})
    };
    json!({
        "number": 7, "kind": "planned", "from": "a", "to": "b", "from_epoch": 1, "to_epoch": 2, "actor": EVIL,
        "reason": EVIL, "requested_ms": 1, "paused": true, "pause_before": ["stop"],
        "steps": [step("verify", Some(1), Some(2)), step("stop", None, None), step("promote", None, None)],
        "probed": {"b-0": {"probes": [{"probe": "push", "red": EVIL}]}},
        "audit": [{"at_ms": 1, "actor": EVIL, "act": "execute", "reason": EVIL}],
    })
}

fn held() -> HeldStatus {
    read(json!({"txn": EVIL, "project": format!("{EVIL}#1"), "reason": EVIL, "waits_for": [EVIL], "since_ms": 1,
        "bytes": 7, "entry": EVIL}))
}

impl Fakes {
    fn there(&self) -> Result<(), ApiError> {
        if *self.is_away.lock() { Err(ApiError::unavailable("the refdb is away")) } else { Ok(()) }
    }

    fn change(&self, text: String) {
        self.changes.lock().push(text);
    }

    fn failover(&self) -> Value {
        let mut failover = failover();
        for (field, value) in self.others.lock().iter() {
            failover[*field] = value.clone();
        }
        failover
    }
}

fn unused<T>() -> Result<T, ApiError> {
    Err(ApiError::unavailable("the console does not call this"))
}

#[async_trait]
impl Operators for Fakes {
    async fn sites(&self) -> Result<SitesStatus, ApiError> {
        self.there()?;
        let site = |name, role| json!({"site": name, "role": role, "epoch": 1, "nodes": [], "unpublished": 0});
        Ok(read(json!({"sites": [site("a", "active"), site("b", "standby")], "failover": self.failover(),
            "waits_for": EVIL})))
    }

    async fn overview(&self) -> Result<Overview, ApiError> {
        self.there()?;
        Ok(overview(2.0, *self.is_old.lock()))
    }

    async fn history(&self) -> Result<History, ApiError> {
        self.there()?;
        let mut past = failover();
        past["change"] = "failover".into();
        let role = json!({"change": "role", "at_ms": 1, "actor": EVIL, "reason": EVIL, "site": "b", "from": "active",
            "to": "standby", "epoch": 1, "done": true});
        Ok(read(json!({"past": [past, role]})))
    }

    async fn plan(&self, _: &PlanRequest) -> Result<FailoverPlan, ApiError> {
        self.there()?;
        Ok(read(json!({"kind": "planned", "from": "a", "to": "b", "sites": [],
            "steps": [{"step": "stop", "text": EVIL}], "blockers": [], "warnings": [EVIL], "behind": 0,
            "at_risk": {"transactions": 1, "ref_count": 1, "refs": [{"project": EVIL, "name": EVIL}]},
            "outside_refs": [{"name": EVIL, "fate": "lost", "note": EVIL}], "hash": EVIL})))
    }

    async fn execute(&self, actor: &str, request: ExecuteRequest) -> Result<Failover, ApiError> {
        let ExecuteRequest { plan, plan_hash, reason, pause_before } = request;
        let (from, to) = (plan.from, plan.to);
        self.change(format!("{actor}: execute {from} {to} {plan_hash} {reason} {}", pause_before.len()));
        Ok(read(failover()))
    }

    async fn act(&self, actor: &str, request: ActRequest) -> Result<Failover, ApiError> {
        let act = serde_json::to_value(request.act).unwrap();
        let act = act.as_str().unwrap();
        self.change(format!("{actor}: act {act} {} {}", request.number, request.reason));
        Ok(read(failover()))
    }

    async fn approve(&self, actor: &str, request: ActRequest) -> Result<Failover, ApiError> {
        check_approval(Some(&read(self.failover())), &request)?;
        self.act(actor, request).await
    }

    async fn add_site(&self, _: &str, _: &SiteId, _: AddSiteRequest) -> Result<SitesStatus, ApiError> {
        unused()
    }

    async fn remove_site(&self, _: &str, _: &SiteId, _: RemoveSiteRequest) -> Result<SitesStatus, ApiError> {
        unused()
    }

    async fn change_mode(&self, _: &str, _: &SiteId, _: ModeRequest) -> Result<SitesStatus, ApiError> {
        unused()
    }

    async fn remove_node(&self, _: &str, _: &NodeId, _: RemoveNodeRequest) -> Result<SitesStatus, ApiError> {
        unused()
    }

    async fn signing(&self) -> Result<SigningStatus, ApiError> {
        unused()
    }

    async fn require_signing(&self, _: &str, _: RequireSigningRequest) -> Result<SigningStatus, ApiError> {
        unused()
    }

    async fn change_key(&self, _: &str, _: ChangeKeyRequest) -> Result<SigningStatus, ApiError> {
        unused()
    }

    async fn preflight(&self, _: &PreflightRequest) -> Result<Preflight, ApiError> {
        let check = json!({"check": "refdb", "red": [EVIL], "note": ""});
        Ok(read(json!({"by": "b-0", "at_ms": 1, "checks": [check]})))
    }

    async fn drills(&self) -> Result<Drills, ApiError> {
        self.there()?;
        let drill = |number: u64, red: &[&str]| {
            json!({"number": number, "at_ms": number, "by": "b-0", "actor": EVIL, "red": red, "green_ms": 1_500,
                "request": {"kind": "planned", "from": "a", "to": "b", "reason": EVIL}})
        };
        let running = json!({"number": 3, "by": "b-0", "at_ms": 1});
        Ok(read(json!({"running": running, "past": [drill(2, &[EVIL]), drill(1, &[])]})))
    }

    async fn drill(&self, actor: &str, request: DrillRequest) -> Result<DrillBegun, ApiError> {
        let DrillRequest { kind, from, to, reason, .. } = request;
        self.change(format!("{actor}: drill {} {from} {to} {reason}", kind.name()));
        Ok(read(json!({"number": 1, "by": "b-0", "at_ms": 1})))
    }

    async fn silent_drills(&self) -> Result<SilentDrills, ApiError> {
        self.there()?;
        let past = json!({"id": "x", "site": "b", "node": "b-0", "at_ms": 1, "actor": EVIL, "reason": EVIL});
        Ok(read(json!({"past": [past]})))
    }

    async fn silent_drill(&self, actor: &str, request: SilentRequest) -> Result<SilentBegun, ApiError> {
        self.change(format!("{actor}: silent {}", request.reason));
        Ok(read(json!({"id": "x", "node": "b-0", "at_ms": 1})))
    }

    async fn change_role(&self, _: &str, _: &SiteId, _: RoleRequest) -> Result<SitesStatus, ApiError> {
        unused()
    }
}

#[async_trait]
impl Inspection for Fakes {
    async fn status(&self) -> NodeStatus {
        let uncommitted = json!({"project": "p", "ref": "refs/heads/x", "old": null, "new": null, "actor": EVIL,
            "at_ms": 1});
        let debt = json!({"project": format!("{EVIL}#1"), "refs": [], "txn": null, "kind": "disk", "reason": EVIL,
            "since_ms": 1, "tries": 1, "next_try_ms": null, "takes_commits": true});
        let counters = json!({"committed": 0, "refused": 0, "unknown": 0, "applied": 0, "skipped": 0,
            "caught_up": 0, "published": 0});
        read(json!({"site": "b", "node": "b-0", "incarnation": null, "role": "standby", "epoch": 1, "ready": true,
            "latches": [], "origins": [], "lanes": [], "checkpoints": [], "parked": 1, "quarantined": 1,
            "degraded": [debt], "counters": counters, "uncommitted": [uncommitted], "last_errors": [],
            "verified": [{"against": "refdb", "at_ms": 1, "projects": 1, "whole": true, "mismatches": 0}]}))
    }

    fn introduction(&self) -> PeerAnswer {
        read(json!({"site": "b", "node": "b-0", "version": "1", "role": "standby", "epoch": 1, "ready": true}))
    }

    async fn due(&self) -> Vec<DueStatus> {
        Vec::new()
    }

    async fn peers(&self) -> Vec<PeerStatus> {
        Vec::new()
    }

    async fn every_project(&self) -> Result<Vec<ProjectStatus>, ApiError> {
        let project = |name: &str, state: &str, reason: Option<&str>| {
            read(json!({"project": name, "state": state, "reason": reason}))
        };
        Ok(vec![project(EVIL, "degraded", Some(EVIL)), project("app", "ok", None)])
    }

    async fn parked(&self) -> Result<Vec<HeldStatus>, ApiError> {
        Ok(vec![held()])
    }

    async fn quarantined(&self) -> Result<Vec<HeldStatus>, ApiError> {
        Ok(vec![held()])
    }

    async fn repair(&self, repair: Repair) -> Result<RepairAnswer, ApiError> {
        self.change(match repair {
            Repair::Retry { entry } => format!("retry {entry}"),
            Repair::Accept { entry } => format!("accept {entry}"),
            Repair::Drop { entry } => format!("drop {entry}"),
            Repair::RetryProject { project } => format!("retry project {project}"),
        });
        Ok(RepairAnswer { done: true, message: EVIL.to_owned() })
    }

    async fn begin_resync(&self, _: &str, _: ResyncRequest) -> Result<Resync, ApiError> {
        unused()
    }

    fn resync(&self) -> Option<Resync> {
        None
    }

    async fn begin_replay(&self, _: &str, _: ReplayRequest) -> Result<Replay, ApiError> {
        unused()
    }

    fn replay(&self) -> Option<Replay> {
        None
    }

    async fn verify(&self, _: VerifyRequest) -> Result<Verification, ApiError> {
        unused()
    }

    async fn verification(&self) -> Option<Verification> {
        None
    }

    async fn explain(&self, request: ExplainRequest) -> Result<Explanation, ApiError> {
        let node = json!({"node": "b-0", "marked": false, "lacks": EVIL, "next": EVIL});
        let away = json!({"node": "c-0", "marked": false, "not_reached": EVIL});
        let txn = "a-0.1.0.0.00c0ffee00c0ffee";
        Ok(read(json!({"project": format!("{}#1", request.project), "ref": request.key, "by": "b-0", "at_ms": 1,
            "refdb": {"version": 1, "value": EVIL, "txn": txn},
            "slot": {"slot": "x", "node": "a-0", "incarnation": 1, "content": "transaction", "committed_at_ms": 1,
                "actor": EVIL, "published": true},
            "sites": [{"site": "b", "off": false, "nodes": [node, away]}, {"site": "d", "off": true, "nodes": []}],
            "verdict": {"kind": "lacking", "sentence": EVIL, "next": EVIL}})))
    }

    async fn ref_here(&self, _: RefAtNodeRequest) -> Result<RefAtNode, ApiError> {
        unused()
    }
}

#[async_trait]
impl Handshake for Fakes {
    async fn admit(&self, _: HandshakeRequest) -> Result<HandshakeResponse, ApiError> {
        unused()
    }

    async fn strays(&self, _: &ProjectName) -> Result<Vec<Stray>, ApiError> {
        Ok(vec![read(json!({"ref": "refs/heads/x", "value": "0707070707070707070707070707070707070707"}))])
    }

    async fn end_stray(&self, project: &ProjectName, request: StrayRequest) -> Result<ProjectResponse, ApiError> {
        let end = serde_json::to_value(request.end).unwrap();
        self.change(format!("{} {project} {}", end.as_str().unwrap(), request.stray.name));
        Ok(ProjectResponse::committed(None))
    }
}

/// The holders of some tokens, and whether the file cannot be used.
pub(super) struct Holders(pub(super) Mutex<Vec<(TokenHash, OperatorRole)>>, pub(super) Mutex<bool>);

#[async_trait]
impl TokenHolders for Holders {
    async fn holder(&self, hash: &TokenHash) -> Result<TokenHolder, TokenError> {
        if *self.1.lock() {
            return Err(TokenError::Unusable);
        }
        let found = self.0.lock().iter().find(|(one, _)| one == hash).map(|(_, role)| *role);
        let role = found.ok_or(TokenError::Unknown)?;
        let name = role.name().to_owned();
        Ok(TokenHolder { actor: format!("token {name}"), name, role })
    }
}
