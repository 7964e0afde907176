//! An operator of the simulator: begins, aborts and completes failovers through a random node, as people do.

use std::sync::Arc;
use std::time::Duration;

use lockstep::seams::refdb::Role;
use lockstep::stages::ports::Operators;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::failover::{
    ActRequest, ExecuteRequest, Failover, FailoverAct, FailoverKind, FailoverStep, PlanRequest, RoleRequest,
    SitesStatus,
};
use tokio::time::timeout;

use super::dice::Dice;
use super::world::World;

/// How long an operator waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

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
        return meddle(dice, desk, running).await;
    }
    let fenced = status.sites.iter().find(|site| site.role == Role::Fenced);
    if let Some(fenced) = fenced.filter(|_| dice.chance(700)) {
        let request = RoleRequest { role: Role::Standby, expect_epoch: fenced.epoch, reason: "back again".to_owned() };
        desk.change_role("operator", &fenced.site, request).await?;
        return Ok(format!("makes {} a standby", fenced.site));
    }
    let Some(plan) = choose(world, dice, &status) else { return Ok("finds nothing to do".to_owned()) };
    let seen = desk.plan(&plan).await?;
    let pause_before = if dice.chance(200) { vec![FailoverStep::Promote] } else { Vec::new() };
    let request =
        ExecuteRequest { plan: plan.clone(), plan_hash: seen.hash, reason: "the seed".to_owned(), pause_before };
    let begun = desk.execute("operator", request).await?;
    Ok(format!("begins failover {} {:?} from {} to {}", begun.number, plan.kind, plan.from, plan.to))
}

/// Resumes a held failover. Sometimes aborts it.
async fn meddle(dice: &Dice, desk: Arc<dyn Operators>, running: &Failover) -> Result<String, ApiError> {
    let act = if dice.chance(250) { FailoverAct::Abort } else { FailoverAct::Resume };
    let request = ActRequest { act, number: running.number, reason: "the seed".to_owned() };
    desk.act("operator", request).await?;
    Ok(format!("{act:?} of failover {}", running.number))
}

fn choose(world: &World, dice: &Dice, status: &SitesStatus) -> Option<PlanRequest> {
    let from = status.sites.iter().find(|site| site.role == Role::Active)?.site.clone();
    let others: Vec<_> = world.sites().into_iter().filter(|site| *site != from).collect();
    let to = dice.pick(&others)?.clone();
    let kind = if dice.chance(500) { FailoverKind::Forced } else { FailoverKind::Planned };
    Some(PlanRequest { kind, from, to })
}

/// The failover that is in progress, as text. If an operator holds it, resumes it: nobody else is left who would.
pub async fn unfinished(world: &World) -> Option<String> {
    let record = match world.refdb().registry.failover().await {
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
        let request = ActRequest { act: FailoverAct::Resume, number: running.number, reason: "the end".to_owned() };
        let _ = timeout(PATIENCE, desk.act("operator", request)).await;
    }
    Some(format!("failover {} has not ended: {:?}", running.number, running.current()))
}
