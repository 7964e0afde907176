//! Stories of existing repositories that are seeded, and of repositories that are gone.

use lockstep_proto::bridge::{Outcome, RefusalCode};
use lockstep_proto::seed::{SeedRequest, SeedResponse, SeedStage};
use lockstep_proto::{Oid, ProjectName};
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::story::{Story, node, tell};

const AT: &str = "muc-1-0";
const OTHER: &str = "blr-1-0";
const MAIN: &str = "refs/heads/main";

fn old() -> ProjectName {
    "old".parse().unwrap()
}

/// Makes a repository from before Lockstep: a history, branches, and many other refs. Returns its tip.
async fn existing(story: &Story) -> Oid {
    let volume = story.volume(AT);
    let repositories = volume.repositories();
    repositories.create(&old(), &MAIN.parse().unwrap()).await.unwrap();
    let mut tip: Option<Oid> = None;
    let mut moves = Vec::new();
    let mut add = |name: String, new: Oid| {
        moves.push(lockstep::seams::git::RefMove {
            name: name.parse().unwrap(),
            old: None,
            new: Some(new),
            message: String::new(),
        });
    };
    for at in 0..10 {
        let commit = volume.add_object(&old(), &tip.into_iter().collect::<Vec<_>>(), 1_000 + at);
        for change in 0..25 {
            let number = 10 + at * 25 + change;
            let patch_set = volume.add_object(&old(), &[commit], 5_000 + number);
            add(format!("refs/changes/{:02}/{number}/1", number % 100), patch_set);
        }
        tip = Some(commit);
    }
    let tip = tip.unwrap();
    add(MAIN.to_owned(), tip);
    add("refs/heads/deep/er/branch".to_owned(), tip);
    repositories.move_refs(&old(), &moves, &[]).await.unwrap();
    repositories.sync().await.unwrap();
    story.world.watch.written_behind(&node(AT), &old());
    tip
}

async fn seed(story: &Story, at: &str, alone: bool, wait_ms: u64) -> SeedResponse {
    let seeding = story.life(at).node.seeding().expect("a real node");
    seeding.seed(&old(), SeedRequest { alone, wait_ms, ..SeedRequest::default() }).await.expect("an answer")
}

/// The reason why a node refuses a push to the project. None if it accepts the push.
async fn refused(story: &Story, at: &str, id: &str) -> Option<RefusalCode> {
    let branch = format!("refs/heads/{id}");
    let object = story.object(at, &old());
    let answer = story.push(at, id, &old(), (&branch, None, Some(object))).await.expect("a verdict");
    answer.results[0].refusal.clone().map(|refusal| refusal.code)
}

#[test]
fn a_seed_that_a_crash_cut_goes_on_and_nobody_else_commits_meanwhile() {
    tell(async |story| {
        existing(story).await;
        let begun = seed(story, AT, false, 8).await;
        assert_eq!(begun.stage, SeedStage::Seeding, "{begun:?}");
        story.crash(AT);
        assert_eq!(story.state(&old()), "read-only#1");
        story.pass(2_000).await;
        assert_eq!(refused(story, OTHER, "early").await, Some(RefusalCode::Project));
        story.start(AT).await;
        let done = seed(story, AT, false, 30_000).await;
        assert_eq!((done.stage, done.refs), (SeedStage::Open, 252), "{done:?}");
        assert!(done.digest.is_some());
        story.converge().await;
        assert_eq!(refused(story, OTHER, "late").await, None);
        let again = seed(story, OTHER, false, 30_000).await;
        assert_eq!((again.stage, again.refs), (SeedStage::Open, 253), "it is only verified: {again:?}");
        story.converge().await;
    });
}

#[test]
fn a_project_opens_when_another_site_holds_it_and_not_before() {
    tell(async |story| {
        existing(story).await;
        let others = ["eu-aws-0", "eu-aws-1", OTHER];
        for other in others {
            story.cut(other, Seam::EventLog, Some(Cut::Requests));
            story.cut(other, Seam::RefDb, Some(Cut::Requests));
        }
        let waiting = seed(story, AT, false, 3_000).await;
        assert_eq!((waiting.stage, waiting.done), (SeedStage::Waiting, 252), "{waiting:?}");
        assert!(waiting.waits_for.as_deref().is_some_and(|who| who.contains(OTHER)), "{waiting:?}");
        assert_eq!(refused(story, AT, "early").await, Some(RefusalCode::Project));
        for other in others {
            story.cut(other, Seam::EventLog, None);
            story.cut(other, Seam::RefDb, None);
        }
        let done = seed(story, AT, false, 30_000).await;
        assert_eq!(done.stage, SeedStage::Open, "{done:?}");
        story.converge().await;
        assert_eq!(refused(story, AT, "late").await, None);
    });
}

#[test]
fn a_site_that_is_alone_says_so_and_a_half_seeded_project_can_be_deleted() {
    tell(async |story| {
        existing(story).await;
        let begun = seed(story, AT, false, 8).await;
        assert_eq!(begun.stage, SeedStage::Seeding, "{begun:?}");
        story.crash(AT);
        story.pass(2_000).await;
        story.start(AT).await;
        story.pass(2_000).await;
        let elsewhere = seed(story, OTHER, true, 30_000).await;
        assert_eq!(elsewhere.stage, SeedStage::Failed, "{elsewhere:?}");
        assert!(elsewhere.problems[0].contains("seed it there"), "another node cannot finish the seed: {elsewhere:?}");
        assert_eq!(story.delete(OTHER, "delete", &old()).await.outcome, Outcome::Committed);
        story.converge().await;
        assert!(!story.volume(AT).has(&old()));
        existing(story).await;
        let done = seed(story, AT, true, 30_000).await;
        assert_eq!((done.stage, story.state(&old()).as_str()), (SeedStage::Open, "active#2"), "{done:?}");
        story.converge().await;
    });
}

#[test]
fn a_write_during_seeding_is_seeded_too() {
    tell(async |story| {
        let tip = existing(story).await;
        let begun = seed(story, AT, false, 8).await;
        assert_eq!(begun.stage, SeedStage::Seeding, "{begun:?}");
        story.crash(AT);
        let volume = story.volume(AT);
        let newer = volume.add_object(&old(), &[tip], 9_999);
        let step = |name: &str, old, new| lockstep::seams::git::RefMove {
            name: name.parse().unwrap(),
            old,
            new,
            message: String::new(),
        };
        let shown = volume.refs(&old());
        let gone = "refs/changes/10/10/1";
        let moves = [step(MAIN, Some(tip), Some(newer)), step(gone, shown.get(&gone.parse().unwrap()).copied(), None)];
        volume.repositories().move_refs(&old(), &moves, &[]).await.unwrap();
        volume.repositories().sync().await.unwrap();
        story.world.watch.written_behind(&node(AT), &old());
        story.start(AT).await;
        let done = seed(story, AT, false, 30_000).await;
        assert_eq!((done.stage, done.refs), (SeedStage::Open, 251), "{done:?}");
        story.converge().await;
        let there = story.volume(OTHER).refs(&old());
        assert_eq!(there.get(&MAIN.parse().unwrap()), Some(&newer));
    });
}

#[test]
fn a_repository_that_is_gone_comes_back_from_a_peer_and_a_deletion_is_not_undone() {
    tell(async |story| {
        existing(story).await;
        assert_eq!(seed(story, AT, false, 30_000).await.stage, SeedStage::Open);
        story.converge().await;
        let volume = story.volume(OTHER);
        volume.repositories().delete(&old()).await.unwrap();
        story.world.watch.written_behind(&node(OTHER), &old());
        story.until("the repository is back", async || volume.has(&old())).await;
        story.converge().await;

        // As the delete-project plugin does, the folder is removed first.
        volume.repositories().delete(&old()).await.unwrap();
        assert_eq!(story.delete(OTHER, "delete", &old()).await.outcome, Outcome::Committed);
        story.converge().await;
        story.pass(8_000).await;
        for one in story.world.nodes() {
            assert!(!story.world.volume(&one).unwrap().has(&old()), "{one} has the repository again");
        }
    });
}
