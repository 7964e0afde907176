//! Stories of sites that compare their refs with each other by digests.

use lockstep::seams::volume::{Changes, RefRecord};
use lockstep_proto::verify::{BackgroundVerification, Right, Verification, VerifyRequest};
use lockstep_proto::{Oid, ProjectKey, ProjectName, RefKey, RefValue, Version};
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::story::{Story, p0, tell, tell_of_verifiers};

const BRANCH: &str = "refs/heads/b0";
const NODES: [&str; 4] = ["eu-aws-0", "eu-aws-1", "muc-1-0", "blr-1-0"];

async fn push(story: &Story, at: &str, id: &str, old: Option<Oid>) -> Oid {
    let new = story.object(at, &p0());
    let answer = story.push(at, id, &p0(), (BRANCH, old, Some(new))).await.unwrap();
    assert_eq!(answer.outcome, lockstep_proto::bridge::Outcome::Committed, "{id}: {answer:?}");
    new
}

async fn compare(story: &Story, at: &str, against: &str) -> Verification {
    let inspection = story.life(at).node.inspection().unwrap();
    let request = VerifyRequest { against: Some(against.to_owned()), ..VerifyRequest::of_refdb(None, 100) };
    let number = inspection.verify(request).await.unwrap().number;
    let ended = async || inspection.verification().await.filter(|it| it.number == number && it.ended_ms.is_some());
    story.until("the comparison ends", async || ended().await.is_some()).await;
    ended().await.unwrap()
}

fn key(name: &str) -> RefKey {
    RefKey::Ref(name.parse().unwrap())
}

/// A record that no transaction wrote is found in whichever direction the sites are compared, and the site that is
/// right is named.
#[test]
fn a_record_that_was_changed_and_one_that_was_added_are_found() {
    tell(async |story| {
        let value = push(story, "eu-aws-0", "one", None).await;
        story.converge().await;
        for node in NODES {
            let equal = compare(story, node, "all").await;
            assert!(equal.is_equal() && equal.peers.len() == 3, "{equal:?}");
            assert!(equal.peers.iter().all(|peer| peer.by_digest == peer.projects), "{equal:?}");
        }
        // The node that has these records takes the refdb for an older one, which the watch must not judge.
        story.world.watch.rewound();
        let project: ProjectKey = "p0#1".parse().unwrap();
        let store = story.volume("muc-1-0").store();
        let known = store.reference(&project, &key(BRANCH)).unwrap().unwrap();
        let other = RefRecord { txn: "x-0.9.0.1.00000000000000aa".parse().unwrap(), ..known };
        let extra = RefRecord { version: Version(1), value: RefValue::Oid(value), txn: other.txn.clone() };
        let refs = vec![(project.clone(), key(BRANCH), other), (project, key("refs/heads/extra"), extra)];
        store.commit(Changes { refs, ..Changes::default() }).await.unwrap();
        for (at, against, changed, added) in
            [("eu-aws-0", "muc-1", Right::ThisNode, Right::Peer), ("muc-1-0", "eu-aws-1", Right::Peer, Right::ThisNode)]
        {
            let ended = compare(story, at, against).await;
            let found: Vec<_> = ended.found.iter().map(|one| (one.name.as_str(), one.right)).collect();
            assert_eq!(found, [(BRANCH, changed), ("refs/heads/extra", added)], "{ended:?}");
        }
        assert!(compare(story, "eu-aws-0", "blr-1").await.is_equal());
    });
}

/// A ref that is on its way is no mismatch, on either side: both nodes catch up before anything counts.
#[test]
fn a_site_that_is_behind_catches_up_and_one_that_cannot_is_named_with_the_reason() {
    tell(async |story| {
        let one = push(story, "eu-aws-0", "one", None).await;
        story.converge().await;
        story.cut("muc-1-0", Seam::EventLog, Some(Cut::Requests));
        let two = push(story, "eu-aws-0", "two", Some(one)).await;
        let created: ProjectName = "late".parse().unwrap();
        let _ = story.create("eu-aws-0", "create late", &created, BRANCH).await;
        for (at, against) in [("eu-aws-0", "muc-1"), ("muc-1-0", "eu-aws-0")] {
            let ended = compare(story, at, against).await;
            assert!(ended.is_equal(), "{at}: {ended:?}");
        }
        // Now it reaches neither the streams nor the refdb.
        story.cut("muc-1-0", Seam::RefDb, Some(Cut::Requests));
        let _ = push(story, "eu-aws-0", "three", Some(two)).await;
        let ended = compare(story, "eu-aws-0", "muc-1").await;
        let [found] = &ended.found[..] else { panic!("{ended:?}") };
        assert_eq!((found.name.as_str(), found.right), (BRANCH, Right::ThisNode));
        assert!(found.why.contains("muc-1-0 has version 2; it could not catch up: "), "{found:?}");
        for seam in [Seam::RefDb, Seam::EventLog] {
            story.cut("muc-1-0", seam, None);
        }
        story.converge().await;
        assert!(compare(story, "muc-1-0", "all").await.is_equal());
        // A peer that is down is named, and the others are compared.
        story.crash("blr-1-0");
        let ended = compare(story, "eu-aws-0", "all").await;
        assert_eq!((ended.peers.len(), ended.failures, ended.failed[0].project.as_str()), (2, 1, "peer blr-1-0"));
    });
}

/// A project that is deleted at both sites is equal, and one that only one site has is a mismatch of its state.
#[test]
fn a_deleted_project_is_equal_and_results_outlive_a_restart() {
    tell(async |story| {
        let gone: ProjectName = "gone".parse().unwrap();
        let _ = story.create("eu-aws-0", "create gone", &gone, BRANCH).await;
        story.converge().await;
        let _ = story.delete("muc-1-0", "delete gone", &gone).await;
        story.converge().await;
        assert!(compare(story, "eu-aws-0", "muc-1").await.is_equal());
        story.pass(1_000).await;
        story.restart(&["eu-aws-0"]).await;
        let status = story.life("eu-aws-0").node.inspection().unwrap().status().await;
        let [last] = &status.verified[..] else { panic!("{:?}", status.verified) };
        assert_eq!((last.against.as_str(), last.whole, last.mismatches), ("muc-1-0", true, 0));
    });
}

async fn in_background(story: &Story, at: &str) -> Option<BackgroundVerification> {
    story.life(at).node.inspection()?.status().await.background
}

/// No node is wrong here. One is behind, because it reads no stream, and one dies in the middle of its passes.
#[test]
fn in_the_background_a_node_that_is_behind_is_no_finding_and_a_crash_ends_no_pass() {
    tell_of_verifiers(async |story| {
        let mut value = push(story, "eu-aws-0", "zero", None).await;
        story.converge().await;
        story.cut("muc-1-0", Seam::EventLog, Some(Cut::Requests));
        for id in ["one", "two", "three", "four"] {
            value = push(story, "eu-aws-0", id, Some(value)).await;
            story.pass(1_500).await;
            story.restart(&["blr-1-0"]).await;
        }
        for node in NODES {
            let is_complete = async || {
                let now = in_background(story, node).await;
                now.is_some_and(|now| now.refs.ended_ms.is_some() && now.objects.ended_ms.is_some())
            };
            story.until("complete passes", is_complete).await;
            let now = in_background(story, node).await.unwrap();
            for part in [&now.refs, &now.objects] {
                assert_eq!((part.found, part.unrepaired_projects), (0, 0), "{node}: {now:?}");
                assert!(part.counted > 0, "{node}: {now:?}");
            }
        }
        story.cut("muc-1-0", Seam::EventLog, None);
        story.converge().await;
    });
}
