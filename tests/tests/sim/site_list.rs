//! The list of sites under all faults: a site joins, another one leaves, and the nodes of the removed one wake.

use lockstep::base::faults::injected_bug::InjectedBugs;
use lockstep::seams::refdb::{DigestRecord, IncarnationState, NodeRecord, Role, SiteRecord};
use lockstep_proto::bridge::Outcome;
use lockstep_proto::site_list::{AddSiteRequest, RemoveNodeRequest, RemoveSiteRequest, StreamPlace};
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::story::{Story, node, p0, tell};
use lockstep_tests::sim::{Scenario, simulate};

use super::{GOOD_SEEDS, set};

/// The number of seeds in which every failover is held.
const HELD_SEEDS: u64 = 2;

/// Commits go on, every property holds, and all nodes of the list converge.
#[test]
fn a_site_joins_and_another_one_leaves_under_all_faults() {
    let (from, count) = (set("LOCKSTEP_SIM_SEED").unwrap_or(1), set("LOCKSTEP_SIM_SEEDS").unwrap_or(GOOD_SEEDS));
    for seed in from..from + count {
        let end = simulate(seed, Scenario::site_list(), InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        println!("{report}");
        let (_, after) = report.trace.split_once(" LEAVES").expect("a site has left");
        assert!(report.trace.contains(" JOINS") && after.contains("WAKES"), "{report}");
        assert!(after.contains("was removed from the list of sites"), "the removed nodes hear why: {report}");
    }
}

/// A failover that is held when the faults end holds up the list only until an operator resumes it.
#[test]
fn the_list_changes_although_every_failover_pauses_before_its_promotion() {
    let (from, count) = (set("LOCKSTEP_SIM_SEED").unwrap_or(1), set("LOCKSTEP_SIM_SEEDS").unwrap_or(HELD_SEEDS));
    for seed in from..from + count {
        let scenario = Scenario { name: "site-list-held".into(), pauses: 1_000, ..Scenario::site_list() };
        let end = simulate(seed, scenario, InjectedBugs::default());
        let report = end.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.trace.contains(" LEAVES"), "{report}");
    }
}

async fn record(story: &Story, site: &str) -> SiteRecord {
    let sites = story.world.refdb().sites.sites().await.unwrap();
    sites.into_iter().find(|one| one.site.as_str() == site).unwrap()
}

async fn nodes_of(story: &Story, site: &str) -> Vec<NodeRecord> {
    let nodes = story.world.refdb().nodes.nodes().await.unwrap();
    nodes.into_iter().filter(|one| one.site.as_str() == site).collect()
}

/// Has every node tell that it follows the list, as its sidecar does.
async fn tell_all(story: &Story) {
    for one in story.world.nodes() {
        let body = format!(r#"{{"format":1,"site":"x","node":"{one}","at_ms":1,"follows_list":true}}"#);
        story.world.refdb().nodes.put_digest(&DigestRecord { node: one, body }).await.unwrap();
    }
}

async fn push(story: &Story, at: &str, id: &str) -> Outcome {
    let (object, name) = (story.object(at, &p0()), format!("refs/heads/{id}"));
    story.push(at, id, &p0(), (&name, None, Some(object))).await.map_or(Outcome::Refused, |answer| answer.outcome)
}

/// A removed site commits nothing, although a promotion of it is in transit and its nodes wake. It holds up no
/// deletion and no collection, and takes part again only after it was added.
#[test]
fn a_removed_site_commits_nothing_until_it_is_added_again() {
    tell(async |story| {
        let (desk, gone) = (story.life("eu-aws-0").node.operators().unwrap(), "blr-1");
        let site = gone.parse().unwrap();
        assert_eq!(push(story, "blr-1-0", "before").await, Outcome::Committed);
        story.converge().await;
        tell_all(story).await;
        let request = |epoch| RemoveSiteRequest { expect_epoch: epoch, reason: "test".to_owned() };
        let active = record(story, gone).await;
        let refused = desk.remove_site("test", &site, request(active.epoch)).await.unwrap_err().message;
        assert!(refused.contains("is active"), "{refused}");
        story.world.set_role(&site, Role::Standby).await;
        let standby = record(story, gone).await;
        story
            .until("nothing can be committed there", async || {
                let all = story.world.refdb().incarnations.incarnations(&site).await.unwrap();
                all.iter().all(|one| one.state == IncarnationState::Drained)
            })
            .await;
        let refused = desk.remove_site("test", &site, request(standby.epoch - 1)).await.unwrap_err().message;
        assert!(refused.contains("expect_epoch"), "{refused}");
        // The node is away while its site is removed, and knows nothing of it.
        story.cut("blr-1-0", Seam::RefDb, Some(Cut::Requests));
        desk.remove_site("test", &site, request(standby.epoch)).await.unwrap();
        story.world.leaves(&site);
        // A promotion from before is in transit.
        let late = story.world.refdb().sites.change_role(&standby, Role::Active).await.unwrap();
        assert_eq!((late.role, late.removed), (Role::Fenced, true));
        story.until("its node is expelled", async || nodes_of(story, gone).await.iter().all(|one| one.expelled)).await;
        assert_eq!(push(story, "muc-1-0", "after").await, Outcome::Committed);
        assert_eq!(story.delete("eu-aws-0", "delete", &p0()).await.outcome, Outcome::Committed, "no barrier waits");
        story
            .until("its journal is collected by others", async || {
                story.world.refdb().incarnations.incarnations(&site).await.unwrap().is_empty()
            })
            .await;
        story.cut("blr-1-0", Seam::RefDb, None);
        story.until("it finds out", async || story.life("blr-1-0").node.is_fenced()).await;
        story.crash("blr-1-0");
        story.world.start(&node("blr-1-0")).await;
        story.pass(10_000).await;
        assert!(!story.life("blr-1-0").node.is_ready());
        assert!(nodes_of(story, gone).await.iter().all(|one| one.expelled));
        let create = story.life("blr-1-0").node.transactions();
        let request = lockstep_proto::bridge::CreateProjectRequest {
            request_id: "no".to_owned(),
            head: "refs/heads/main".parse().unwrap(),
        };
        let refused = create.create_project(&"p9".parse().unwrap(), request).await.unwrap_err().message;
        assert!(refused.contains("was removed from the list of sites"), "{refused}");
        // While nobody else lives, for longer than any lease, it looks after nobody.
        let others = ["eu-aws-0", "eu-aws-1", "muc-1-0"];
        let open = async || {
            let all = story.world.refdb().incarnations().await.unwrap();
            all.iter().filter(|one| one.state == IncarnationState::Open).count()
        };
        let before = open().await;
        others.iter().for_each(|one| story.crash(one));
        story.pass(30_000).await;
        assert!(before > 0 && open().await == before, "a node of a removed site fences nobody");
        for one in others {
            story.world.start(&node(one)).await;
        }
        story.until("the others are back", async || others.iter().all(|one| story.life(one).node.is_ready())).await;
        let desk = story.life("eu-aws-0").node.operators().unwrap();
        // Added again, it begins as a standby.
        let add = AddSiteRequest { stream: StreamPlace::default(), reason: "back".to_owned() };
        desk.add_site("test", &site, add.clone()).await.unwrap();
        story.world.joins(&site);
        story.until("it is back", async || story.life("blr-1-0").node.is_ready()).await;
        assert_eq!(record(story, gone).await.role, Role::Standby);
        let refused = desk.add_site("test", &site, add).await.unwrap_err().message;
        assert!(refused.contains("in the list of sites already"), "{refused}");
        story.converge().await;
    });
}

/// A node that runs an earlier release would not read the new site's stream.
#[test]
fn no_site_joins_while_a_node_would_not_follow_the_list() {
    tell(async |story| {
        let desk = story.life("muc-1-0").node.operators().unwrap();
        let add = || AddSiteRequest { stream: StreamPlace::default(), reason: "test".to_owned() };
        tell_all(story).await;
        let body = r#"{"format":1,"site":"eu-aws","node":"eu-aws-1","at_ms":9}"#.to_owned();
        let older = DigestRecord { node: node("eu-aws-1"), body };
        story.world.refdb().nodes.put_digest(&older).await.unwrap();
        let refused = desk.add_site("test", &"new".parse().unwrap(), add()).await.unwrap_err().message;
        assert!(refused.contains("1 nodes run a release") && refused.contains("eu-aws-1"), "{refused}");
        tell_all(story).await;
        desk.add_site("test", &"new".parse().unwrap(), add()).await.unwrap();
        assert_eq!(record(story, "new").await, SiteRecord::new("new".parse().unwrap(), Role::Standby, 1));
    });
}

/// A replica that was taken away for good holds up no collection once an operator has removed it, and reconciles if it
/// comes back all the same.
#[test]
fn a_node_that_was_removed_holds_up_nothing_and_may_come_back() {
    tell(async |story| {
        let (desk, gone) = (story.life("muc-1-0").node.operators().unwrap(), node("eu-aws-1"));
        let request = || RemoveNodeRequest { reason: "one replica is enough".to_owned() };
        assert_eq!(push(story, "eu-aws-1", "before").await, Outcome::Committed);
        story.converge().await;
        let refused = desk.remove_node("test", &gone, request()).await.unwrap_err().message;
        assert!(refused.contains("eu-aws-1 lives"), "{refused}");
        story.crash("eu-aws-1");
        assert_eq!(push(story, "muc-1-0", "after").await, Outcome::Committed);
        story.until("its commits have ended", async || desk.remove_node("test", &gone, request()).await.is_ok()).await;
        let record = async || {
            let nodes = story.world.refdb().nodes.nodes().await.unwrap();
            nodes.into_iter().find(|one| one.node == gone).unwrap()
        };
        assert!(record().await.expelled);
        desk.remove_node("test", &gone, request()).await.expect("a repeated request is done already");
        story
            .until("its journal is collected", async || {
                let site = "eu-aws".parse().unwrap();
                let all = story.world.refdb().incarnations.incarnations(&site).await.unwrap();
                all.iter().all(|one| one.id.node != gone)
            })
            .await;
        story.world.start(&gone).await;
        let is_back = async || !record().await.expelled && story.life("eu-aws-1").node.is_ready();
        story.until("it takes part again", is_back).await;
        assert_eq!(push(story, "eu-aws-1", "again").await, Outcome::Committed);
        story.converge().await;
    });
}
