//! A lost refdb that is rebuilt, by nodes whose writes fail and that die, at the end of a run. It has a property of its
//! own, `rebuild`: nobody serves from a refdb that is not whole, and every value that all nodes had is there
//! afterwards. All other properties are about the refdb that is lost, and end with it.

use std::collections::BTreeMap;

use lockstep::seams::refdb::memory::MemoryRefDb;
use lockstep_proto::rebuild::{RebuildPhase, RebuildRequest};
use lockstep_proto::{NodeId, Oid, ProjectName, RefName};

use super::check::Violation;
use super::dice::Dice;
use super::phases::Phases;
use super::world::{World, name};

/// The prefix of the new tables.
const NEXT: &str = "next";
/// How often a rebuild may end early.
const EARLY: u64 = 3;
/// How long nodes have to use a refdb that is not whole, in virtual milliseconds.
const LURED_MS: u64 = 8_000;

/// The refs of every project at every node.
type Values = BTreeMap<(NodeId, ProjectName), BTreeMap<RefName, Oid>>;

fn values(world: &World) -> Values {
    let projects = || (0..world.scenario.projects).map(|number| name::<ProjectName>(&format!("p{number}")));
    let places = world.nodes().into_iter().flat_map(|node| projects().map(move |project| (node.clone(), project)));
    let refs = |(node, project): (NodeId, ProjectName)| {
        let refs = world.volume(&node).map(|volume| volume.refs(&project)).unwrap_or_default();
        ((node, project), refs)
    };
    places.map(refs).collect()
}

fn violates(what: String) -> Violation {
    Violation { property: "rebuild", what }
}

/// Loses the refdb, has it rebuilt, and starts all nodes with the new one.
pub(super) async fn rebuild(phases: &Phases) -> Result<(), Violation> {
    let (world, dice) = (&phases.world, Dice::new(phases.world.seed, "rebuild"));
    let before = values(world);
    world.trace.note("run", "THE REFDB IS LOST");
    world.watch.rewound();
    world.watch.rebuilt();
    world.backend.restore(&MemoryRefDb::new().backup());
    for attempt in 0..=EARLY {
        all_know(phases).await?;
        // The first attempt always ends early, so that every seed has a refdb that is not whole.
        let may_end_early = attempt == 0 || (attempt < EARLY && dice.chance(500));
        let done = attempt_at(phases, &dice, may_end_early).await?;
        for node in world.nodes() {
            world.crash(&node);
        }
        world.backend.restore(&world.backend.tables().at(NEXT).backup());
        for node in world.nodes() {
            let world = world.clone();
            tokio::spawn(async move { world.start(&node).await });
        }
        if done {
            return holds(phases, &before).await;
        }
        phases.pass(LURED_MS).await?;
        let lured = world.nodes().into_iter().find(|node| world.life(node).is_some_and(|life| life.node.is_ready()));
        if let Some(node) = lured {
            return Err(violates(format!("{node} serves from a refdb that is not whole")));
        }
    }
    Err(violates("no attempt was whole".to_owned()))
}

/// Waits until every node knows that it cannot use its refdb.
async fn all_know(phases: &Phases) -> Result<(), Violation> {
    let world = &phases.world;
    let until = world.trace.now_ms() + world.scenario.converge_ms;
    let knows = |node: &NodeId| world.life(node).is_some_and(|life| life.node.went_back());
    while let Some(node) = world.nodes().into_iter().find(|node| !knows(node)) {
        phases.pass(100).await?;
        if world.trace.now_ms() > until {
            return Err(violates(format!("{node} does not say that its refdb is lost")));
        }
    }
    Ok(())
}

/// One run of a rebuild at a random node. Returns whether it came to its end.
async fn attempt_at(phases: &Phases, dice: &Dice, may_end_early: bool) -> Result<bool, Violation> {
    let world = &phases.world;
    let nodes = world.nodes();
    let driver = dice.pick(&nodes).cloned().ok_or_else(|| violates("there is no node".to_owned()))?;
    let Some(rebuilds) = world.life(&driver).and_then(|life| life.node.rebuilds()) else { return Ok(false) };
    if may_end_early {
        world.faults.bar(&driver, Some("rebuild"));
    }
    world.trace.note(driver.as_str(), if may_end_early { "REBUILDS, AND ITS WRITES FAIL" } else { "REBUILDS" });
    let (into, from_sites) = (NEXT.to_owned(), Vec::new());
    let request = RebuildRequest { into, from_sites, dry_run: false, take_over: true, lost: true, moves: None };
    rebuilds.begin("an operator", request).map_err(|error| violates(error.message))?;
    let dies = may_end_early && dice.chance(500);
    let until = world.trace.now_ms() + if dies { dice.between(100, 5_000) } else { world.scenario.converge_ms };
    let ended = loop {
        phases.pass(100).await?;
        match rebuilds.rebuild().filter(|rebuild| rebuild.phase != RebuildPhase::Running) {
            Some(rebuild) => break Some(rebuild),
            None if world.trace.now_ms() > until => break None,
            None => {}
        }
    };
    world.faults.bar(&driver, None);
    match ended {
        Some(rebuild) if rebuild.phase == RebuildPhase::Done => Ok(true),
        Some(_) | None if may_end_early => Ok(false),
        ended => Err(violates(format!("the rebuild at {driver} did not end well: {ended:?}"))),
    }
}

/// Waits until every node is ready and has every value again.
async fn holds(phases: &Phases, before: &Values) -> Result<(), Violation> {
    phases.all_ready().await.map_err(|violation| violates(violation.what))?;
    let world = &phases.world;
    let until = world.trace.now_ms() + world.scenario.converge_ms;
    loop {
        let now = values(world);
        let differs = before.iter().find(|(place, refs)| now.get(place) != Some(refs));
        let Some(((node, project), refs)) = differs else { return Ok(()) };
        if world.trace.now_ms() > until {
            let now = now.get(&(node.clone(), project.clone()));
            return Err(violates(format!("{node}: {project} had {refs:?} and has {now:?}")));
        }
        phases.pass(200).await?;
    }
}
