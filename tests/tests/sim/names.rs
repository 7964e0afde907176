//! Stories of names that were folders: they are freed or stay folders, and no two refs exclude each other.

use std::time::Duration;

use lockstep::seams::refdb::{IncarnationRecord, NodeRecord, Role};
use lockstep_proto::bridge::{Outcome, Refusal, RefusalCode};
use lockstep_proto::{Oid, ProjectKey, RefKey};
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::story::{Story, node, p0, tell, tell_of_locks};

const ABOVE: &str = "refs/heads/a";
const BELOW: &str = "refs/heads/a/b";
const BESIDE: &str = "refs/heads/a/c";

/// Creates a ref at a node.
async fn create(story: &Story, at: &str, id: &str, name: &str) -> Result<Oid, Refusal> {
    let object = story.object(at, &p0());
    let response = story.push(at, id, &p0(), (name, None, Some(object))).await.expect("a verdict");
    match response.results.into_iter().next().expect("one result").refusal {
        None => {
            assert_eq!(response.outcome, Outcome::Committed, "{id}");
            Ok(object)
        }
        Some(refused) => Err(refused),
    }
}

async fn delete(story: &Story, at: &str, id: &str, name: &str, old: Oid) {
    let response = story.push(at, id, &p0(), (name, Some(old), None)).await.expect("a verdict");
    assert_eq!(response.outcome, Outcome::Committed, "{id}");
}

/// Creates a ref below the name at a node, and deletes it. The node then remembers the mark of the name.
async fn was_a_folder(story: &Story, at: &str) {
    let object = create(story, at, &format!("fill-{at}"), BELOW).await.unwrap();
    delete(story, at, &format!("empty-{at}"), BELOW, object).await;
    story.converge().await;
}

/// The number of transactions that loosened the name.
fn loosenings(story: &Story) -> usize {
    let known = story.world.watch.known();
    known.facts.transactions.values().filter(|one| one.loosened().is_some_and(|name| name.as_str() == ABOVE)).count()
}

async fn is_marked(story: &Story) -> bool {
    let (key, project) = (RefKey::Ref(ABOVE.parse().unwrap()), ProjectKey::new(&p0(), 1));
    let items = story.world.refdb().refs.read(&project, &[key]).await.unwrap();
    items.into_iter().flatten().any(|item| item.directory)
}

async fn incarnation(story: &Story, at: &str) -> IncarnationRecord {
    let all = story.world.refdb().incarnations().await.unwrap();
    all.into_iter().rfind(|one| one.id.node == node(at)).unwrap()
}

#[test]
fn an_empty_folder_becomes_a_branch_at_another_site_and_a_folder_again() {
    tell(async |story| {
        was_a_folder(story, "muc-1-0").await;
        assert!(is_marked(story).await);
        let branch = create(story, "blr-1-0", "above", ABOVE).await.unwrap();
        assert!(!is_marked(story).await && loosenings(story) == 1);
        story.converge().await;
        // The node that made the folder no longer goes by the mark that it remembered.
        let refused = create(story, "muc-1-0", "below", BESIDE).await.unwrap_err();
        assert_eq!(refused.code, RefusalCode::NameConflict, "{refused:?}");
        delete(story, "muc-1-0", "gone", ABOVE, branch).await;
        story.converge().await;
        create(story, "muc-1-0", "below again", BESIDE).await.unwrap();
        story.converge().await;
    });
}

#[test]
fn the_node_that_made_the_folder_frees_its_name_too() {
    tell(async |story| {
        was_a_folder(story, "muc-1-0").await;
        create(story, "muc-1-0", "above", ABOVE).await.unwrap();
        story.converge().await;
    });
}

#[test]
fn a_batch_under_locks_frees_a_name() {
    tell_of_locks(async |story| {
        was_a_folder(story, "muc-1-0").await;
        let (one, other) = (story.object("blr-1-0", &p0()), story.object("blr-1-0", &p0()));
        let steps = [(ABOVE, None, Some(one)), ("refs/heads/other", None, Some(other))];
        let response = story.push_all("blr-1-0", "above", &p0(), &steps).await.expect("a verdict");
        assert_eq!(response.outcome, Outcome::Committed, "{response:?}");
        assert!(!is_marked(story).await);
        story.converge().await;
    });
}

#[test]
fn a_folder_with_a_live_branch_stays_one_and_nothing_is_loosened() {
    tell(async |story| {
        create(story, "muc-1-0", "below", BELOW).await.unwrap();
        let refused = create(story, "blr-1-0", "above", ABOVE).await.unwrap_err();
        assert_eq!((refused.code, refused.retry), (RefusalCode::NameConflict, false));
        assert!(refused.message.contains(BELOW), "{refused:?}");
        assert_eq!(loosenings(story), 0);
    });
}

/// A node that cannot read the streams may still go by the mark. The user is told which one, and a later try goes on
/// where this one stopped.
#[test]
fn a_node_that_is_behind_is_waited_for_and_named() {
    tell(async |story| {
        was_a_folder(story, "muc-1-0").await;
        story.cut("muc-1-0", Seam::EventLog, Some(Cut::Requests));
        let refused = create(story, "blr-1-0", "early", ABOVE).await.unwrap_err();
        assert_eq!((refused.code, refused.retry), (RefusalCode::NameConflict, true));
        assert!(refused.message.contains("muc-1-0 of site muc-1"), "{refused:?}");
        // It still goes by the mark: its creation does not touch the name's item.
        let below = create(story, "muc-1-0", "below", BESIDE).await.unwrap();
        let refused = create(story, "blr-1-0", "still early", ABOVE).await.unwrap_err();
        assert!(refused.message.contains(BESIDE), "{refused:?}");
        story.cut("muc-1-0", Seam::EventLog, None);
        story.converge().await;
        delete(story, "muc-1-0", "empty again", BESIDE, below).await;
        create(story, "blr-1-0", "above", ABOVE).await.unwrap();
        assert_eq!(loosenings(story), 1, "the second try used the first loosening");
        story.converge().await;
    });
}

/// A creation that was built on the remembered mark is on its way when the mark is loosened. The node's low-water mark
/// waits for it.
#[test]
fn a_creation_that_is_on_its_way_is_waited_for() {
    tell(async |story| {
        was_a_folder(story, "muc-1-0").await;
        story.bar("muc-1-0", Some("commit"));
        let below = create(story, "muc-1-0", "below", BESIDE);
        let above = async {
            story.pass(300).await;
            let refused = create(story, "blr-1-0", "above", ABOVE).await.unwrap_err();
            story.bar("muc-1-0", None);
            refused
        };
        let (below, refused) = tokio::join!(below, above);
        assert!(below.is_ok(), "{below:?}");
        assert!(refused.retry && refused.message.contains("muc-1-0 of site muc-1"), "{refused:?}");
        assert_eq!(loosenings(story), 1);
        story.converge().await;
    });
}

/// A creation below the name, by a node that has forgotten the mark, marks the name again.
#[test]
fn a_creation_after_the_loosening_marks_the_name_again() {
    tell(async |story| {
        was_a_folder(story, "muc-1-0").await;
        story.cut("eu-aws-0", Seam::EventLog, Some(Cut::Requests));
        assert!(create(story, "blr-1-0", "early", ABOVE).await.unwrap_err().retry);
        story.pass(1_000).await;
        let object = create(story, "muc-1-0", "below", BESIDE).await.unwrap();
        delete(story, "muc-1-0", "empty again", BESIDE, object).await;
        story.cut("eu-aws-0", Seam::EventLog, None);
        story.converge().await;
        create(story, "blr-1-0", "above", ABOVE).await.unwrap();
        assert_eq!(loosenings(story), 2, "the first one ended with the new mark");
        story.converge().await;
    });
}

/// A node that died after it had loosened the name leaves nothing that anybody must put back.
#[test]
fn a_node_dies_after_the_loosening_and_another_one_goes_on() {
    tell(async |story| {
        was_a_folder(story, "muc-1-0").await;
        story.cut("muc-1-0", Seam::EventLog, Some(Cut::Requests));
        let (object, project) = (story.object("blr-1-0", &p0()), p0());
        let push = story.push("blr-1-0", "dies", &project, (ABOVE, None, Some(object)));
        assert!(tokio::time::timeout(Duration::from_millis(700), push).await.is_err());
        assert_eq!(loosenings(story), 1);
        story.crash("blr-1-0");
        story.cut("muc-1-0", Seam::EventLog, None);
        let mut tries = 0;
        while let Err(refused) = create(story, "muc-1-0", &format!("above-{tries}"), ABOVE).await {
            assert!(refused.retry && tries < 20, "{refused:?}");
            tries += 1;
            story.pass(1_000).await;
        }
        assert_eq!(loosenings(story), 1);
        story.start("blr-1-0").await;
        story.converge().await;
    });
}

/// A node whose site took no commits while a name was freed begins its next incarnation without remembered marks.
#[test]
fn a_new_incarnation_does_not_go_by_the_marks_of_the_last_one() {
    tell(async |story| {
        was_a_folder(story, "muc-1-0").await;
        let before = incarnation(story, "muc-1-0").await;
        story.world.set_role(&"muc-1".parse().unwrap(), Role::Fenced).await;
        story.until("the incarnation has ended", async || !incarnation(story, "muc-1-0").await.may_commit()).await;
        story.cut("muc-1-0", Seam::EventLog, Some(Cut::Requests));
        create(story, "blr-1-0", "above", ABOVE).await.unwrap();
        story.world.set_role(&"muc-1".parse().unwrap(), Role::Active).await;
        story.until("it is active again", async || incarnation(story, "muc-1-0").await.id != before.id).await;
        story.until("it serves", async || story.life("muc-1-0").node.is_ready()).await;
        let refused = loop {
            let object = story.object("muc-1-0", &p0());
            match story.push("muc-1-0", "late", &p0(), (BESIDE, None, Some(object))).await {
                Ok(response) => break response.results[0].refusal.clone(),
                Err(error) => assert_eq!(error.code, RefusalCode::NotServing),
            }
            story.pass(20).await;
        };
        assert_eq!(refused.map(|refused| refused.code), Some(RefusalCode::NameConflict));
        story.cut("muc-1-0", Seam::EventLog, None);
        story.converge().await;
    });
}

/// While any node runs an earlier release, nothing is loosened: that node would go by its marks for ever.
#[test]
fn a_node_of_an_earlier_release_keeps_every_folder() {
    tell(async |story| {
        was_a_folder(story, "muc-1-0").await;
        let earlier = NodeRecord {
            node: node("muc-1-9"),
            site: "muc-1".parse().unwrap(),
            volume: "v".into(),
            starts: 1,
            beat: 1,
            expelled: false,
            low_water: Default::default(),
            whole: Default::default(),
            needs: Default::default(),
            frees_names: false,
            follows_moves: false,
            fences_locks: false,
            obeys_locks: 0,
        };
        let refdb = story.world.backend.refdb();
        refdb.nodes.put_node(&earlier, None).await.unwrap();
        let refused = create(story, "blr-1-0", "early", ABOVE).await.unwrap_err();
        assert_eq!((refused.code, refused.retry), (RefusalCode::NameConflict, false));
        assert!(refused.message.contains("muc-1-9") && loosenings(story) == 0, "{refused:?}");
        let upgraded = NodeRecord { beat: 2, frees_names: true, ..earlier.clone() };
        refdb.nodes.put_node(&upgraded, Some(&earlier)).await.unwrap();
        create(story, "blr-1-0", "above", ABOVE).await.unwrap();
    });
}
