//! An operator of the simulator: begins, aborts and completes failovers through a random node, as people do.

use std::sync::Arc;
use std::time::Duration;

use lockstep::seams::refdb::{Document, IncarnationState, Role};
use lockstep::stages::ports::Operators;
use lockstep_proto::SiteId;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::drill::DrillRequest;
use lockstep_proto::failover::{
    ActRequest, ExecuteRequest, Failover, FailoverAct, FailoverKind, FailoverStep, PlanRequest, RoleRequest,
    SitesStatus,
};
use tokio::time::timeout;

use super::dice::Dice;
use super::world::World;

/// How long an operator waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

impl World {
    /// Gives a site a role, as an operator does, without faults. Fencing also freezes the open incarnations. The nodes
    /// drain them.
    pub async fn set_role(&self, site: &SiteId, role: Role) {
        let sites = self.refdb().sites.sites().await.unwrap_or_default();
        let Some(record) = sites.into_iter().find(|record| record.site == *site) else { return };
        self.trace.note(site.as_str(), &format!("ROLE {role:?}"));
        if let Err(error) = self.refdb().sites.change_role(&record, role).await {
            self.trace.note(site.as_str(), &format!("role not changed: {error}"));
        }
        if role == Role::Fenced {
            for open in self.refdb().incarnations.incarnations(site).await.unwrap_or_default() {
                if open.state == IncarnationState::Open
                    && let Err(error) = self.refdb().incarnations.freeze(site, &open.id).await
                {
                    self.trace.note(site.as_str(), &format!("{} not frozen: {error}", open.id));
                }
            }
        }
    }
}

/// Asks a random node for one thing that fits the state of the sites.
pub async fn ask(world: &World, dice: &Dice) {
    let Some(node) = dice.pick(&world.nodes()).cloned() else { return };
    let Some(desk) = world.life(&node).and_then(|life| life.node.operators()) else { return };
    let asked = timeout(PATIENCE, act(world, dice, desk)).await;
    match asked {
        Ok(Ok(what)) => world.trace.note(node.as_str(), &format!("OPERATOR {what}")),
        Ok(Err(error)) => world.trace.note(node.as_str(), &format!("OPERATOR was told: {}", error.message)),
        Err(_) => world.trace.note(node.as_str(), "OPERATOR hears nothing"),
    }
}

async fn act(world: &World, dice: &Dice, desk: Arc<dyn Operators>) -> Result<String, ApiError> {
    let status = desk.sites().await?;
    if let Some(running) = status.failover.as_ref().filter(|one| one.is_in_progress()) {
        return meddle(world, dice, desk, running).await;
    }
    let fenced = status.sites.iter().find(|site| site.role == Role::Fenced);
    if let Some(fenced) = fenced.filter(|_| dice.chance(700)) {
        let request = RoleRequest { role: Role::Standby, expect_epoch: fenced.epoch, reason: "back again".to_owned() };
        desk.change_role("operator", &fenced.site, request).await?;
        return Ok(format!("makes {} a standby", fenced.site));
    }
    let standby = status.sites.iter().find(|site| !world.scenario.one_active && site.role == Role::Standby);
    if let Some(standby) = standby.filter(|_| dice.chance(500)) {
        let request = RoleRequest { role: Role::Active, expect_epoch: standby.epoch, reason: "all again".to_owned() };
        desk.change_role("operator", &standby.site, request).await?;
        return Ok(format!("makes {} active again", standby.site));
    }
    let Some(plan) = choose(world, dice, &status) else { return Ok("finds nothing to do".to_owned()) };
    let seen = desk.plan(&plan).await?;
    let pause_before = if dice.chance(world.scenario.pauses) { vec![FailoverStep::Promote] } else { Vec::new() };
    let request =
        ExecuteRequest { plan: plan.clone(), plan_hash: seen.hash, reason: "the seed".to_owned(), pause_before };
    let begun = desk.execute("operator", request).await?;
    Ok(format!("begins failover {} {:?} from {} to {}", begun.number, plan.kind, plan.from, plan.to))
}

/// Begins a drill at a random node, beside a failover too. Nobody has looked before whether it can go well.
pub async fn drill(world: &World, dice: &Dice) {
    let (Some(node), sites) = (dice.pick(&world.nodes()).cloned(), world.sites()) else { return };
    let (Some(life), [from, to, ..]) = (world.life(&node), &sites[..]) else { return };
    let kind = if dice.chance(500) { FailoverKind::Forced } else { FailoverKind::Planned };
    let (from, to) = (from.clone(), to.clone());
    let request = DrillRequest { kind, from, to, fail_in: None, reason: "the seed".to_owned() };
    let said = match timeout(PATIENCE, life.node.drill(request)).await {
        Ok(Ok(number)) => format!("begins drill {number} {kind:?}"),
        Ok(Err(why)) => format!("cannot begin a drill: {why}"),
        Err(_) => "hears nothing of a drill".to_owned(),
    };
    world.trace.note(node.as_str(), &format!("OPERATOR {said}"));
}

/// Resumes a held failover. Sometimes aborts it.
async fn meddle(world: &World, dice: &Dice, desk: Arc<dyn Operators>, running: &Failover) -> Result<String, ApiError> {
    let act = if dice.chance(world.scenario.aborts) { FailoverAct::Abort } else { FailoverAct::Resume };
    let step = running.current().filter(|_| running.paused && act == FailoverAct::Resume).map(|one| one.step);
    let request = ActRequest { act, number: running.number, step, reason: "the seed".to_owned() };
    desk.act("operator", request).await?;
    Ok(format!("{act:?} of failover {}", running.number))
}

fn choose(world: &World, dice: &Dice, status: &SitesStatus) -> Option<PlanRequest> {
    let from = status.sites.iter().find(|site| site.role == Role::Active)?.site.clone();
    let others: Vec<_> = world.sites().into_iter().filter(|site| *site != from).collect();
    let to = dice.pick(&others)?.clone();
    let kind = if dice.chance(500) { FailoverKind::Forced } else { FailoverKind::Planned };
    let is_bounded = dice.chance(150) || world.scenario.strikes > 0;
    let max_loss = is_bounded.then_some(0);
    let without = if dice.chance(500) { FailoverStep::OPTIONAL.to_vec() } else { Vec::new() };
    Some(PlanRequest { max_loss, without, ..PlanRequest::new(kind, from, to) })
}

/// The failover that is in progress, as text. If an operator holds it, resumes it: nobody else is left who would.
pub async fn unfinished(world: &World) -> Option<String> {
    let record = match world.refdb().documents.document(Document::Failover).await {
        Ok(record) => record?,
        Err(error) => return Some(format!("the record of the failover cannot be read: {error}")),
    };
    let running: Failover = match serde_json::from_str(&record.body) {
        Ok(running) => running,
        Err(error) => return Some(format!("the record of the failover is malformed: {error}")),
    };
    if !running.is_in_progress() {
        return None;
    }
    let desk = world.nodes().into_iter().find_map(|node| world.life(&node)?.node.operators());
    if let Some(desk) = desk.filter(|_| running.paused) {
        let (act, step) = (FailoverAct::Resume, running.current().map(|one| one.step));
        let request = ActRequest { act, number: running.number, step, reason: "the end".to_owned() };
        let _ = timeout(PATIENCE, desk.act("operator", request)).await;
    }
    Some(format!("failover {} has not ended: {:?}", running.number, running.current()))
}
