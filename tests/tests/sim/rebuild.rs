//! Stories of a lost refdb that is rebuilt from the sites.

use lockstep::seams::refdb::memory::MemoryRefDb;
use lockstep::state::bound_refdb;
use lockstep_proto::bridge::{Outcome, RefusalCode};
use lockstep_proto::rebuild::{LEAP, Rebuild, RebuildPhase, RebuildRequest, RefdbIdentity, RefdbState};
use lockstep_proto::{Oid, ProjectKey, ProjectName, RefKey};
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::story::{Story, node, p0, tell};

pub(super) const BRANCH: &str = "refs/heads/b0";
pub(super) const NODES: [&str; 4] = ["eu-aws-0", "eu-aws-1", "muc-1-0", "blr-1-0"];
/// The nodes of the sites that are read when `blr-1` is away.
const READ: [&str; 3] = ["eu-aws-0", "eu-aws-1", "muc-1-0"];
pub(super) const NEXT: &str = "next";

fn request() -> RebuildRequest {
    let from_sites = Vec::new();
    RebuildRequest { into: NEXT.to_owned(), from_sites, dry_run: false, take_over: false, lost: false, moves: None }
}

/// The request with the operator's word that nobody commits into the old refdb any more.
fn lost() -> RebuildRequest {
    RebuildRequest { lost: true, ..request() }
}

fn says(story: &Story, name: &str) -> bool {
    story.world.life(&node(name)).is_some_and(|life| life.node.went_back())
}

/// The tables are gone, and empty ones have their name. Waits until these nodes know it.
async fn lose(story: &Story, nodes: &[&str]) {
    story.world.watch.rewound();
    story.world.watch.rebuilt();
    story.world.backend.restore(&MemoryRefDb::new().backup());
    for name in nodes {
        story.until(&format!("{name} says so"), async || says(story, name)).await;
    }
}

/// `blr-1` dies with what it alone has, once that is durable there. Then the tables are gone.
async fn lose_beside_blr_1(story: &Story) {
    story.pass(300).await;
    story.crash("blr-1-0");
    story.cut("blr-1-0", Seam::EventLog, None);
    lose(story, &READ).await;
}

async fn rebuild(story: &Story, at: &str, request: RebuildRequest) -> Rebuild {
    let stage = story.life(at).node.rebuilds().unwrap();
    stage.begin("a test", request).unwrap();
    let ended = || stage.rebuild().filter(|rebuild| rebuild.phase != RebuildPhase::Running);
    story.until("the rebuild ends", async || ended().is_some()).await;
    ended().unwrap()
}

/// Points the configuration of all nodes to the new tables, and starts these nodes with it.
async fn use_next(story: &Story, nodes: &[&str]) {
    for name in story.world.nodes() {
        story.world.crash(&name);
    }
    story.world.backend.restore(&story.world.backend.tables().at(NEXT).backup());
    for name in nodes {
        story.world.start(&node(name)).await;
    }
}

fn shown(story: &Story, name: &str) -> Option<Oid> {
    story.volume(name).refs(&p0()).get(&BRANCH.parse().unwrap()).copied()
}

pub(super) async fn ready(story: &Story, nodes: &[&str]) {
    for name in nodes {
        story.until(&format!("{name} is ready"), async || story.life(name).node.is_ready()).await;
    }
}

pub(super) async fn converges(story: &Story, nodes: &[&str], value: Oid) {
    for name in nodes {
        story.until(&format!("{name} has the value"), async || shown(story, name) == Some(value)).await;
    }
}

pub(super) async fn push(story: &Story, at: &str, id: &str, old: Option<Oid>) -> Oid {
    let new = story.object(at, &p0());
    let answer = story.push(at, id, &p0(), (BRANCH, old, Some(new))).await.unwrap();
    assert_eq!(answer.outcome, Outcome::Committed, "{id}: {answer:?}");
    new
}

/// All nodes use the rebuilt refdb, and a push at `at` over `one` reaches each of them.
async fn goes_on(story: &Story, at: &str, one: Oid) {
    use_next(story, &NODES).await;
    ready(story, &NODES).await;
    let two = push(story, at, "two", Some(one)).await;
    converges(story, &NODES, two).await;
}

#[test]
fn a_lost_refdb_is_rebuilt_and_a_site_that_was_away_returns_without_losing_a_value() {
    tell(async |story| {
        let one = push(story, "muc-1-0", "one", None).await;
        converges(story, &NODES, one).await;
        // This commit reaches no other site: its stream is cut, its node dies, and then the refdb is lost.
        story.cut("blr-1-0", Seam::EventLog, Some(Cut::Requests));
        let only_blr = push(story, "blr-1-0", "only blr", Some(one)).await;
        lose_beside_blr_1(story).await;

        let refused = rebuild(story, "muc-1-0", request()).await;
        assert_eq!(refused.phase, RebuildPhase::Refused, "blr-1 may still commit: {refused:?}");
        let report = rebuild(story, "muc-1-0", lost()).await;
        assert_eq!(report.phase, RebuildPhase::Done, "{report:?}");
        assert_eq!(report.unread_sites, ["blr-1".parse().unwrap()]);
        assert_eq!((report.sources.len(), report.contradicted, report.projects), (3, 0, 1), "{report:?}");
        assert!(report.is_degraded(), "a site was not read");

        use_next(story, &READ).await;
        ready(story, &READ).await;
        converges(story, &READ, one).await;
        let project: ProjectKey = "p0#1".parse().unwrap();
        let item = async || {
            let refdb = story.world.backend.refdb();
            refdb.refs.read(&project, &[RefKey::Ref(BRANCH.parse().unwrap())]).await.unwrap().pop().unwrap().unwrap()
        };
        assert_eq!(item().await.version.0, LEAP + 1, "above all that a node knew");
        let two = push(story, "eu-aws-0", "two", Some(one)).await;
        converges(story, &READ, two).await;
        let number = item().await.txn.unwrap().slot.lane.incarnation.number.0;
        assert!(number > LEAP, "an incarnation of the new refdb: {number}");

        // The site that was away: its record of the old refdb is in its stream, and its value on its disk.
        story.world.start(&node("blr-1-0")).await;
        ready(story, &["blr-1-0"]).await;
        converges(story, &NODES, two).await;
        let kept = story.volume("blr-1-0").repositories().kept(&p0()).await.unwrap();
        assert!(kept.contains(&format!("stray/{only_blr}/{BRANCH}")), "{kept:?}");
        let three = push(story, "blr-1-0", "three", Some(two)).await;
        converges(story, &NODES, three).await;
        story.pass(5_000).await;
        assert!(NODES.iter().all(|name| shown(story, name) == Some(three)), "no record of the old refdb is applied");
    });
}

#[test]
fn nobody_uses_a_half_built_refdb_and_another_node_completes_it() {
    tell(async |story| {
        let one = push(story, "muc-1-0", "one", None).await;
        converges(story, &NODES, one).await;
        lose(story, &NODES).await;
        story.bar("muc-1-0", Some("rebuild"));
        let half = rebuild(story, "muc-1-0", request()).await;
        assert_eq!(half.phase, RebuildPhase::Failed, "{half:?}");
        story.bar("muc-1-0", None);

        use_next(story, &NODES).await;
        for name in NODES {
            story.until(&format!("{name} says so"), async || says(story, name)).await;
        }
        story.pass(10_000).await;
        let refdb = story.world.backend.refdb();
        assert!(refdb.sites.sites().await.unwrap().is_empty(), "no site is enrolled, so no incarnation can be open");
        assert!(NODES.iter().all(|name| !story.life(name).node.is_ready()));

        let refused = rebuild(story, "eu-aws-0", request()).await;
        assert_eq!(refused.phase, RebuildPhase::Refused, "{refused:?}");
        assert!(refused.why.unwrap().contains("--take-over"));
        let whole = rebuild(story, "eu-aws-0", RebuildRequest { take_over: true, ..request() }).await;
        assert_eq!(
            (whole.phase, whole.identity),
            (RebuildPhase::Done, half.identity),
            "it goes on with the same refdb"
        );
        let again = rebuild(story, "eu-aws-0", request()).await;
        assert_eq!(again.phase, RebuildPhase::Refused, "it is complete: {again:?}");
        goes_on(story, "muc-1-0", one).await;
    });
}

#[test]
fn of_two_rebuilds_at_once_one_ends_and_the_refdb_is_whole() {
    tell(async |story| {
        let one = push(story, "muc-1-0", "one", None).await;
        converges(story, &NODES, one).await;
        lose(story, &NODES).await;
        let stage = |name: &str| story.life(name).node.rebuilds().unwrap();
        let (first, second) = (stage("muc-1-0"), stage("eu-aws-0"));
        first.begin("a test", request()).unwrap();
        second.begin("a test", RebuildRequest { take_over: true, ..request() }).unwrap();
        let phases = || [&first, &second].map(|stage| stage.rebuild().unwrap().phase);
        story.until("both end", async || !phases().contains(&RebuildPhase::Running)).await;
        assert_eq!(phases().iter().filter(|phase| **phase == RebuildPhase::Done).count(), 1, "{:?}", phases());
        let (_, identity) = bound_refdb::read(&story.world.backend.tables().at(NEXT).refdb()).await.unwrap().unwrap();
        assert_eq!((identity.state, identity.succeeds.len()), (RefdbState::Ready, 1));
        goes_on(story, "blr-1-0", one).await;
    });
}

#[test]
fn a_node_commits_nothing_into_a_refdb_that_is_not_its_own() {
    tell(async |story| {
        let one = push(story, "muc-1-0", "one", None).await;
        let stranger = story.world.backend.tables().at(NEXT).refdb();
        let identity = RefdbIdentity::first("a stranger".to_owned());
        bound_refdb::write(&stranger, 0, &identity).await.unwrap();
        story.world.watch.rewound();
        story.world.watch.rebuilt();
        use_next(story, &["muc-1-0"]).await;
        story.until("it says so", async || says(story, "muc-1-0")).await;
        story.pass(10_000).await;
        assert!(!story.life("muc-1-0").node.is_ready());
        assert!(stranger.sites.sites().await.unwrap().is_empty() && stranger.nodes.nodes().await.unwrap().is_empty());
        let object = story.object("muc-1-0", &p0());
        let error = story.push("muc-1-0", "two", &p0(), (BRANCH, Some(one), Some(object))).await.unwrap_err();
        assert_eq!((error.code, error.retry), (RefusalCode::NotServing, false));
        assert!(error.message.contains("was replaced"), "{}", error.message);
        // A wrong setting of one node does not prove that the refdb of all is lost.
        let third = RebuildRequest { into: "third".to_owned(), ..request() };
        let refused = rebuild(story, "muc-1-0", third.clone()).await;
        assert_eq!(refused.phase, RebuildPhase::Refused, "{refused:?}");
        assert!(refused.why.unwrap().contains("--lost"));
        let done = rebuild(story, "muc-1-0", RebuildRequest { lost: true, ..third }).await;
        assert_eq!(done.phase, RebuildPhase::Done, "its own refdb can still be rebuilt: {done:?}");
    });
}

#[test]
fn a_refdb_that_lives_is_not_rebuilt() {
    tell(async |story| {
        push(story, "muc-1-0", "one", None).await;
        let alive = rebuild(story, "muc-1-0", request()).await;
        assert_eq!(alive.phase, RebuildPhase::Refused);
        assert!(alive.why.unwrap().contains("nothing is lost"));
        // This node alone does not reach it. Even --lost does not help while another one commits.
        story.cut("muc-1-0", Seam::RefDb, Some(Cut::Requests));
        let silent = rebuild(story, "muc-1-0", request()).await;
        assert!(silent.why.unwrap().contains("it may live"));
        let lost = rebuild(story, "muc-1-0", RebuildRequest { lost: true, ..request() }).await;
        assert_eq!(lost.phase, RebuildPhase::Refused, "{lost:?}");
        assert!(lost.why.unwrap().contains("takes commits"));
    });
}

#[test]
fn a_project_that_only_an_unread_site_knows_keeps_its_values_and_gives_its_name_free() {
    tell(async |story| {
        let one = push(story, "muc-1-0", "one", None).await;
        converges(story, &NODES, one).await;
        let project: ProjectName = "p1".parse().unwrap();
        story.cut("blr-1-0", Seam::EventLog, Some(Cut::Requests));
        let created = story.create("blr-1-0", "create", &project, "refs/heads/main").await;
        assert_eq!(created.outcome, Outcome::Committed, "{created:?}");
        story.until("it is here", async || story.volume("blr-1-0").has(&project)).await;
        let object = story.object("blr-1-0", &project);
        let answer = story.push("blr-1-0", "only blr", &project, (BRANCH, None, Some(object))).await.unwrap();
        assert_eq!(answer.outcome, Outcome::Committed, "{answer:?}");
        lose_beside_blr_1(story).await;
        let report = rebuild(story, "muc-1-0", lost()).await;
        assert_eq!((report.phase, report.projects), (RebuildPhase::Done, 1), "{report:?}");
        use_next(story, &READ).await;
        ready(story, &READ).await;

        // The name is used again before the site returns, and the new project has a ref of the same name.
        let again = story.create("muc-1-0", "again", &project, "refs/heads/main").await;
        assert_eq!(again.outcome, Outcome::Committed, "{again:?}");
        story.until("it is here", async || story.volume("muc-1-0").has(&project)).await;
        let other = story.object("muc-1-0", &project);
        story.push("muc-1-0", "other", &project, ("refs/heads/other", None, Some(other))).await.unwrap();
        story.world.start(&node("blr-1-0")).await;
        ready(story, &["blr-1-0"]).await;
        let refs = || story.volume("blr-1-0").refs(&project);
        let expected = [("refs/heads/other".parse().unwrap(), other)].into();
        story.until("it has the new project alone", async || refs() == expected).await;
        let kept = story.volume("blr-1-0").repositories().kept(&project).await.unwrap();
        assert!(kept.contains(&format!("stray/{object}/{BRANCH}")), "{kept:?}");
    });
}

#[test]
fn a_rebuilt_refdb_is_rebuilt_again_and_a_volume_of_the_first_one_moves_over_both() {
    tell(async |story| {
        let one = push(story, "muc-1-0", "one", None).await;
        converges(story, &NODES, one).await;
        story.crash("blr-1-0");
        lose(story, &READ).await;
        assert_eq!(rebuild(story, "muc-1-0", lost()).await.phase, RebuildPhase::Done);
        use_next(story, &READ).await;
        ready(story, &READ).await;
        let two = push(story, "muc-1-0", "two", Some(one)).await;
        converges(story, &READ, two).await;
        lose(story, &READ).await;
        let used = rebuild(story, "eu-aws-0", request()).await;
        assert!(used.why.unwrap().contains("or was, the prefix"), "no name is used twice");
        let third = RebuildRequest { into: "third".to_owned(), ..lost() };
        let report = rebuild(story, "eu-aws-0", third).await;
        assert_eq!(report.phase, RebuildPhase::Done, "{report:?}");
        for name in story.world.nodes() {
            story.world.crash(&name);
        }
        story.world.backend.restore(&story.world.backend.tables().at("third").backup());
        for name in NODES {
            story.world.start(&node(name)).await;
        }
        ready(story, &NODES).await;
        converges(story, &NODES, two).await;
        let three = push(story, "blr-1-0", "three", Some(two)).await;
        converges(story, &NODES, three).await;
        let (_, identity) = bound_refdb::read(&story.world.backend.refdb()).await.unwrap().unwrap();
        assert_eq!((identity.succeeds.len(), identity.floor), (2, 2 * LEAP));
    });
}

#[test]
fn a_record_that_an_earlier_refdb_published_is_applied_nowhere() {
    tell(async |story| {
        let one = push(story, "muc-1-0", "one", None).await;
        converges(story, &NODES, one).await;
        // blr-1 creates a ref and publishes it. No other node reads its stream before the refdb is lost.
        READ.iter().for_each(|name| story.cut(name, Seam::EventLog, Some(Cut::Requests)));
        const NEW: &str = "refs/heads/new";
        let only_blr = story.object("blr-1-0", &p0());
        let answer = story.push("blr-1-0", "only blr", &p0(), (NEW, None, Some(only_blr))).await.unwrap();
        assert_eq!(answer.outcome, Outcome::Committed, "{answer:?}");
        story.pass(1_000).await;
        story.crash("blr-1-0");
        lose(story, &READ).await;
        assert_eq!(rebuild(story, "muc-1-0", lost()).await.phase, RebuildPhase::Done);
        use_next(story, &READ).await;
        READ.iter().for_each(|name| story.cut(name, Seam::EventLog, None));
        ready(story, &READ).await;
        story.pass(5_000).await;
        let new = |name: &str| story.volume(name).refs(&p0()).get(&NEW.parse().unwrap()).copied();
        assert!(READ.iter().all(|name| new(name).is_none()), "the record is in the stream, and not in the refdb");

        story.world.start(&node("blr-1-0")).await;
        ready(story, &["blr-1-0"]).await;
        assert_eq!(new("blr-1-0"), None);
        let kept = story.volume("blr-1-0").repositories().kept(&p0()).await.unwrap();
        assert!(kept.contains(&format!("stray/{only_blr}/{NEW}")), "{kept:?}");
        let object = story.object("muc-1-0", &p0());
        let again = story.push("muc-1-0", "again", &p0(), (NEW, None, Some(object))).await.unwrap();
        assert_eq!(again.outcome, Outcome::Committed, "{again:?}");
        for name in NODES {
            story.until(&format!("{name} has the new ref"), async || new(name) == Some(object)).await;
        }
    });
}

#[test]
fn a_silent_node_of_a_site_that_is_read_needs_the_word_of_the_operator() {
    tell(async |story| {
        let one = push(story, "muc-1-0", "one", None).await;
        converges(story, &NODES, one).await;
        story.crash("eu-aws-1");
        lose(story, &["eu-aws-0", "muc-1-0", "blr-1-0"]).await;
        let refused = rebuild(story, "muc-1-0", request()).await;
        assert_eq!((refused.phase, refused.unread_sites.len()), (RebuildPhase::Refused, 0), "{refused:?}");
        assert!(refused.why.unwrap().contains("eu-aws-1"));
        let done = rebuild(story, "muc-1-0", lost()).await;
        assert_eq!((done.phase, done.is_degraded()), (RebuildPhase::Done, true), "{done:?}");
    });
}

#[test]
fn a_repeated_run_reads_all_nodes_of_the_run_before() {
    tell(async |story| {
        let one = push(story, "muc-1-0", "one", None).await;
        converges(story, &NODES, one).await;
        lose(story, &NODES).await;
        story.bar("muc-1-0", Some("rebuild"));
        assert_eq!(rebuild(story, "muc-1-0", request()).await.phase, RebuildPhase::Failed);
        story.bar("muc-1-0", None);
        story.crash("blr-1-0");
        let fewer = RebuildRequest { take_over: true, ..lost() };
        for at in ["muc-1-0", "eu-aws-0"] {
            let refused = rebuild(story, at, fewer.clone()).await;
            assert_eq!(refused.phase, RebuildPhase::Refused, "{refused:?}");
            assert!(refused.why.unwrap().contains("has read blr-1-0"));
        }
        let other = rebuild(story, "eu-aws-0", RebuildRequest { into: "third".to_owned(), ..lost() }).await;
        assert_eq!(other.phase, RebuildPhase::Done, "a new prefix has nothing of the run before: {other:?}");
    });
}

#[test]
fn moves_of_the_time_before_are_forgotten_by_a_volume_that_has_moved() {
    tell(async |story| {
        let one = push(story, "muc-1-0", "one", None).await;
        converges(story, &NODES, one).await;
        // blr-1 alone creates a project, and creates and deletes a ref. Then it and the refdb are lost.
        const NEW: &str = "refs/heads/new";
        let project: ProjectName = "p1".parse().unwrap();
        story.cut("blr-1-0", Seam::EventLog, Some(Cut::Requests));
        let created = story.create("blr-1-0", "create", &project, "refs/heads/main").await;
        assert_eq!(created.outcome, Outcome::Committed, "{created:?}");
        story.until("it is here", async || story.volume("blr-1-0").has(&project)).await;
        let value = story.object("blr-1-0", &p0());
        for (id, old, new) in [("new", None, Some(value)), ("gone", Some(value), None)] {
            let answer = story.push("blr-1-0", id, &p0(), (NEW, old, new)).await.unwrap();
            assert_eq!(answer.outcome, Outcome::Committed, "{answer:?}");
        }
        lose_beside_blr_1(story).await;
        assert_eq!(rebuild(story, "muc-1-0", lost()).await.phase, RebuildPhase::Done);
        use_next(story, &NODES).await;
        ready(story, &NODES).await;

        // Only a start that does not reconcile looks at the move intents.
        story.restart(&["blr-1-0"]).await;
        let again = story.create("muc-1-0", "again", &project, "refs/heads/main").await;
        assert_eq!(again.outcome, Outcome::Committed, "{again:?}");
        let other = story.object("blr-1-0", &p0());
        let answer = story.push("blr-1-0", "anew", &p0(), (NEW, None, Some(other))).await.unwrap();
        assert_eq!(answer.outcome, Outcome::Committed, "{answer:?}");
        let new = |name: &str| story.volume(name).refs(&p0()).get(&NEW.parse().unwrap()).copied();
        for name in NODES {
            story.until(&format!("{name} has the new ref"), async || new(name) == Some(other)).await;
            story.until(&format!("{name} has the project"), async || story.volume(name).has(&project)).await;
        }
        assert!(NODES.iter().all(|name| !says(story, name)), "nobody takes the refdb for an older one");
    });
}

#[test]
fn a_node_of_an_earlier_refdb_is_no_source_of_a_second_rebuild() {
    tell(async |story| {
        let one = push(story, "muc-1-0", "one", None).await;
        converges(story, &NODES, one).await;
        // blr-1 alone has a ref with version 3. The rebuild does not read it.
        const NEW: &str = "refs/heads/new";
        story.cut("blr-1-0", Seam::EventLog, Some(Cut::Requests));
        let values = [1, 2, 3].map(|_| story.object("blr-1-0", &p0()));
        let steps = [(None, values[0]), (Some(values[0]), values[1]), (Some(values[1]), values[2])];
        for (at, (old, new)) in steps.into_iter().enumerate() {
            let answer = story.push("blr-1-0", &format!("new {at}"), &p0(), (NEW, old, Some(new))).await.unwrap();
            assert_eq!(answer.outcome, Outcome::Committed, "{answer:?}");
        }
        lose_beside_blr_1(story).await;
        assert_eq!(rebuild(story, "muc-1-0", lost()).await.phase, RebuildPhase::Done);
        use_next(story, &READ).await;
        ready(story, &READ).await;

        // The same name is created anew, with version 1. Then this refdb is lost, too, and blr-1 answers.
        let anew = story.object("muc-1-0", &p0());
        let answer = story.push("muc-1-0", "anew", &p0(), (NEW, None, Some(anew))).await.unwrap();
        assert_eq!(answer.outcome, Outcome::Committed, "{answer:?}");
        let new = |name: &str| story.volume(name).refs(&p0()).get(&NEW.parse().unwrap()).copied();
        for name in READ {
            story.until(&format!("{name} has the new ref"), async || new(name) == Some(anew)).await;
        }
        lose(story, &READ).await;
        story.world.start(&node("blr-1-0")).await;
        story.until("blr-1-0 says so", async || says(story, "blr-1-0")).await;
        let third = |lost| RebuildRequest { into: "third".to_owned(), lost, ..request() };
        let refused = rebuild(story, "muc-1-0", third(false)).await;
        assert_eq!((refused.phase, refused.earlier.len()), (RebuildPhase::Refused, 1), "{refused:?}");
        let report = rebuild(story, "muc-1-0", third(true)).await;
        assert_eq!((report.phase, report.is_degraded()), (RebuildPhase::Done, true), "{report:?}");
        for name in story.world.nodes() {
            story.world.crash(&name);
        }
        story.world.backend.restore(&story.world.backend.tables().at("third").backup());
        for name in NODES {
            story.world.start(&node(name)).await;
        }
        ready(story, &NODES).await;
        for name in NODES {
            story.until(&format!("{name} has the acknowledged value"), async || new(name) == Some(anew)).await;
        }
        let kept = story.volume("blr-1-0").repositories().kept(&p0()).await.unwrap();
        assert!(kept.contains(&format!("stray/{}/{NEW}", values[2])), "{kept:?}");
    });
}
