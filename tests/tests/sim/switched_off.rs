//! Stories of a site that is switched off: users write to its repositories without Lockstep, and nothing of it is lost
//! when the site comes back.

use std::collections::BTreeMap;

use lockstep::seams::git::RefMove;
use lockstep::seams::refdb::{DigestRecord, Role, SiteRecord};
use lockstep_proto::bridge::Outcome;
use lockstep_proto::failover::ModeRequest;
use lockstep_proto::seed::{Differences, SeedRequest, SeedResponse, SeedStage};
use lockstep_proto::site_list::{ComingBack, SiteMode};
use lockstep_proto::{Oid, SiteId};
use lockstep_tests::sim::story::{Story, node, p0, tell};

const AT: &str = "blr-1-0";
const OTHER: &str = "muc-1-0";

fn site() -> SiteId {
    "blr-1".parse().unwrap()
}

async fn record(story: &Story) -> SiteRecord {
    let sites = story.world.refdb().sites.sites().await.unwrap();
    sites.into_iter().find(|one| one.site == site()).unwrap()
}

/// Has every node tell that it obeys the mode of its site, as its sidecar does.
async fn tell_all(story: &Story) {
    for one in story.world.nodes() {
        let body = format!(r#"{{"format":1,"site":"x","node":"{one}","at_ms":1,"obeys_mode":true}}"#);
        story.world.refdb().nodes.put_digest(&DigestRecord { node: one, body }).await.unwrap();
    }
}

async fn switch(story: &Story, mode: SiteMode, role: Option<Role>) {
    let request = ModeRequest { mode, role, expect_epoch: record(story).await.epoch, reason: "test".to_owned() };
    story.life(OTHER).node.operators().unwrap().change_mode("test", &site(), request).await.unwrap();
}

/// Switches the site off, and restarts its node, which ends for it.
async fn switched_off(story: &Story) {
    switch(story, SiteMode::Off, None).await;
    let life = story.life(AT);
    story.until("the node ends", async || life.node.is_fenced()).await;
    // The world may have seen it first.
    story.world.crash(&node(AT));
    story.world.start(&node(AT)).await;
    story.until("the node is up", async || story.world.life(&node(AT)).is_some()).await;
}

async fn push(story: &Story, at: &str, id: &str, name: &str, step: (Option<Oid>, Oid)) -> Result<Outcome, String> {
    let answer = story.push(at, id, &p0(), (name, step.0, Some(step.1))).await;
    answer.map(|answer| answer.outcome).map_err(|error| error.message)
}

/// Writes as Gerrit does without the bridge.
async fn write_behind(story: &Story, moves: &[(&str, Option<Oid>, Option<Oid>)]) {
    let moves: Vec<RefMove> = moves
        .iter()
        .map(|(name, old, new)| RefMove { name: name.parse().unwrap(), old: *old, new: *new, message: String::new() })
        .collect();
    let repositories = story.volume(AT).repositories();
    repositories.move_refs(&p0(), &moves, &[]).await.unwrap();
    repositories.sync().await.unwrap();
    story.world.watch.written_behind(&node(AT), &p0());
}

fn shown(story: &Story, at: &str, name: &str) -> Option<Oid> {
    story.volume(at).refs(&p0()).get(&name.parse().unwrap()).copied()
}

async fn status(story: &Story) -> Option<ComingBack> {
    story.life(AT).node.inspection().unwrap().status().await.coming_back
}

/// Waits until the node has compared everything and found differences.
async fn finds(story: &Story) -> BTreeMap<String, Option<u64>> {
    let has_found = async || status(story).await.is_some_and(|it| it.has_compared_all() && !it.differ.is_empty());
    story.until("the node finds the differences", has_found).await;
    let found = status(story).await.unwrap();
    found.differ.into_iter().map(|one| (one.project, one.refs)).collect()
}

async fn seed(story: &Story, differences: Differences) -> SeedResponse {
    let request = SeedRequest { alone: true, wait_ms: 30_000, differences };
    story.life(AT).node.seeding().unwrap().seed(&p0(), request).await.unwrap()
}

/// The branches that the project has before the site is switched off, with their values.
async fn branches(story: &Story) -> BTreeMap<&'static str, Oid> {
    let mut values = BTreeMap::new();
    for name in ["refs/heads/mine", "refs/heads/theirs", "refs/heads/both", "refs/heads/gone", "refs/heads/still"] {
        let value = story.object(AT, &p0());
        let outcome = push(story, AT, &format!("first {name}"), name, (None, value)).await;
        assert_eq!(outcome, Ok(Outcome::Committed));
        values.insert(name, value);
    }
    story.converge().await;
    values
}

/// Users commit at the site while it is off, and at another site meanwhile. The node was away for so long that it was
/// expelled, so it takes everything from the refdb when it comes back. The users' values stay on the disk, until an
/// operator has it committed. A ref that both sides have moved keeps both values.
#[test]
fn writes_of_users_while_a_site_is_off_are_committed_when_it_comes_back() {
    tell(async |story| {
        let first = branches(story).await;
        let refused = {
            let request =
                ModeRequest { mode: SiteMode::Off, role: None, expect_epoch: 1, reason: "too early".to_owned() };
            story.life(OTHER).node.operators().unwrap().change_mode("test", &site(), request).await
        };
        assert!(refused.unwrap_err().message.contains("does not know sites that are switched off"));
        tell_all(story).await;
        switched_off(story).await;
        story.pass(10_000).await;
        assert!(!story.life(AT).node.is_ready());
        let value = story.object(AT, &p0());
        let refused = push(story, AT, "while off", "refs/heads/late", (None, value)).await.unwrap_err();
        assert!(refused.contains("Lockstep is off at site blr-1"), "{refused}");

        let volume = story.volume(AT);
        let mine = volume.add_object(&p0(), &[first["refs/heads/mine"]], 70_001);
        let ours = volume.add_object(&p0(), &[first["refs/heads/both"]], 70_002);
        let fresh = volume.add_object(&p0(), &[], 70_003);
        let moves = [
            ("refs/heads/mine", Some(first["refs/heads/mine"]), Some(mine)),
            ("refs/heads/both", Some(first["refs/heads/both"]), Some(ours)),
            ("refs/heads/fresh", None, Some(fresh)),
            ("refs/heads/gone", Some(first["refs/heads/gone"]), None),
        ];
        write_behind(story, &moves).await;
        let mut theirs = BTreeMap::new();
        for name in ["refs/heads/theirs", "refs/heads/both"] {
            let value = story.object(OTHER, &p0());
            let outcome = push(story, OTHER, &format!("elsewhere {name}"), name, (Some(first[name]), value)).await;
            assert_eq!(outcome, Ok(Outcome::Committed));
            theirs.insert(name, value);
        }
        let is_expelled = async || {
            let nodes = story.world.refdb().nodes.nodes().await.unwrap();
            nodes.iter().any(|one| one.node == node(AT) && one.expelled)
        };
        story.until("the node is expelled", is_expelled).await;
        assert_eq!(shown(story, AT, "refs/heads/theirs"), Some(first["refs/heads/theirs"]), "it moves no refs");

        switch(story, SiteMode::Active, Some(Role::Active)).await;
        assert_eq!(finds(story).await, BTreeMap::from([("p0".to_owned(), Some(3))]), "mine, fresh and gone");
        assert_eq!(shown(story, AT, "refs/heads/theirs"), Some(theirs["refs/heads/theirs"]));
        assert_eq!(shown(story, AT, "refs/heads/both"), Some(theirs["refs/heads/both"]));
        assert_eq!(shown(story, AT, "refs/heads/mine"), Some(mine), "nobody else has moved it");
        // Neither time nor a restart ends it.
        story.crash(AT);
        story.world.start(&node(AT)).await;
        assert_eq!(finds(story).await.len(), 1);
        assert!(!story.life(AT).node.is_ready());
        let refused = push(story, AT, "too early", "refs/heads/late", (None, value)).await.unwrap_err();
        assert!(refused.contains("lockstep seed --again p0"), "{refused}");

        let named = seed(story, Differences::Refuse).await;
        assert_eq!((named.stage, named.problems.len()), (SeedStage::Failed, 3), "{named:?}");
        let done = seed(story, Differences::Commit).await;
        assert_eq!((done.stage, done.strays), (SeedStage::Open, 1), "{done:?}");
        story.until("the node is ready", async || story.life(AT).node.is_ready()).await;
        assert_eq!(push(story, AT, "back", "refs/heads/late", (None, value)).await, Ok(Outcome::Committed));
        story.converge().await;
        for at in [AT, OTHER] {
            assert_eq!(shown(story, at, "refs/heads/mine"), Some(mine), "{at}");
            assert_eq!(shown(story, at, "refs/heads/fresh"), Some(fresh), "{at}");
            assert_eq!(shown(story, at, "refs/heads/gone"), None, "{at}");
            assert_eq!(shown(story, at, "refs/heads/both"), Some(theirs["refs/heads/both"]), "{at}");
        }
        let strays = story.volume(AT).repositories().kept(&p0()).await.unwrap();
        assert!(strays.iter().any(|label| label.contains(&ours.to_string())), "{strays:?}");
        // The time is over: another start takes writes at once.
        story.crash(AT);
        story.start(AT).await;
        assert_eq!(status(story).await, None);
    });
}

/// A site at which nobody wrote comes back by itself, with the role that the operator gave it. The committed values can
/// be taken instead of those on the disk, and lose nothing either.
#[test]
fn a_site_comes_back_as_a_standby_and_what_was_written_is_set_aside() {
    tell(async |story| {
        let first = branches(story).await;
        tell_all(story).await;
        switched_off(story).await;
        switch(story, SiteMode::Active, Some(Role::Standby)).await;
        story.until("nobody wrote: it is back", async || story.life(AT).node.is_ready()).await;
        assert_eq!(record(story).await.role, Role::Standby);

        tell_all(story).await;
        switched_off(story).await;
        let volume = story.volume(AT);
        let mine = volume.add_object(&p0(), &[first["refs/heads/mine"]], 70_001);
        let fresh = volume.add_object(&p0(), &[], 70_003);
        let moves = [
            ("refs/heads/mine", Some(first["refs/heads/mine"]), Some(mine)),
            ("refs/heads/fresh", None, Some(fresh)),
            ("refs/heads/gone", Some(first["refs/heads/gone"]), None),
        ];
        write_behind(story, &moves).await;
        switch(story, SiteMode::Active, Some(Role::Standby)).await;
        assert_eq!(finds(story).await, BTreeMap::from([("p0".to_owned(), Some(3))]));
        let refused = seed(story, Differences::Commit).await;
        assert_eq!(refused.stage, SeedStage::Failed, "{refused:?}");
        assert!(refused.problems[0].contains("the role of this site is standby"), "{refused:?}");
        let done = seed(story, Differences::SetAside).await;
        assert_eq!((done.stage, done.strays), (SeedStage::Open, 2), "{done:?}");
        story.until("the node is ready", async || story.life(AT).node.is_ready()).await;
        story.converge().await;
        assert_eq!(shown(story, AT, "refs/heads/mine"), Some(first["refs/heads/mine"]));
        assert_eq!(shown(story, AT, "refs/heads/gone"), Some(first["refs/heads/gone"]));
        let strays = story.volume(AT).repositories().kept(&p0()).await.unwrap();
        for value in [mine, fresh] {
            assert!(strays.iter().any(|label| label.contains(&value.to_string())), "{strays:?}");
        }
    });
}

/// An operator removes the sidecar and the hooks, and forgets to switch the site off. The next transaction on a ref
/// that was written meanwhile puts the value aside. The operator may also make up for it: after a time that was off,
/// however short, everything that differs is found.
#[test]
fn a_site_that_was_never_switched_off_loses_nothing_either() {
    tell(async |story| {
        let first = branches(story).await;
        story.crash(AT);
        let volume = story.volume(AT);
        let mine = volume.add_object(&p0(), &[first["refs/heads/mine"]], 70_001);
        let ours = volume.add_object(&p0(), &[first["refs/heads/both"]], 70_002);
        let moves = [
            ("refs/heads/mine", Some(first["refs/heads/mine"]), Some(mine)),
            ("refs/heads/both", Some(first["refs/heads/both"]), Some(ours)),
        ];
        write_behind(story, &moves).await;
        let theirs = story.object(OTHER, &p0());
        let elsewhere = (Some(first["refs/heads/both"]), theirs);
        assert_eq!(push(story, OTHER, "elsewhere", "refs/heads/both", elsewhere).await, Ok(Outcome::Committed));
        story.start(AT).await;
        let gives_way = async || shown(story, AT, "refs/heads/both") == Some(theirs);
        story.until("the committed value is there", gives_way).await;
        let kept = async || story.volume(AT).repositories().kept(&p0()).await.unwrap();
        assert!(kept().await.iter().any(|label| label.contains(&ours.to_string())), "{:?}", kept().await);
        assert_eq!(shown(story, AT, "refs/heads/mine"), Some(mine), "no transaction names it");

        tell_all(story).await;
        switched_off(story).await;
        switch(story, SiteMode::Active, Some(Role::Active)).await;
        assert_eq!(finds(story).await, BTreeMap::from([("p0".to_owned(), Some(1))]));
        assert_eq!(seed(story, Differences::Commit).await.stage, SeedStage::Open);
        story.until("the node is ready", async || story.life(AT).node.is_ready()).await;
        story.converge().await;
        assert_eq!(shown(story, OTHER, "refs/heads/mine"), Some(mine));
    });
}
