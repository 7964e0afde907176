//! Stories of projects that are created, deleted and created again.

use lockstep::seams::refdb::Role;
use lockstep_proto::bridge::{Expected, Outcome, RefCommand, RefTransactionRequest, RefusalCode};
use lockstep_proto::{ProjectName, RefKey};
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::story::{Story, node, p0, tell};

const MAIN: &str = "refs/heads/main";

/// Whether a node's record says that it has applied the last step of a project's state.
async fn acknowledged(story: &Story, name: &str) -> bool {
    let slot = {
        let known = story.world.watch.known();
        let key = known.facts.projects[&p0()].clone();
        known.facts.chain(&key, &RefKey::State).last().unwrap().txn.slot.clone()
    };
    let nodes = story.world.backend.refdb().nodes.nodes().await.unwrap();
    let marks = nodes.into_iter().find(|record| record.node == node(name)).unwrap().low_water;
    marks.get(&slot.lane).is_some_and(|mark| *mark > slot.seq)
}

#[test]
fn a_node_that_is_behind_does_not_delete_the_successor() {
    tell(async |story| {
        let (behind, other) = ("muc-1-0", "blr-1-0");
        let deletion = async { story.delete(other, "delete", &p0()).await };
        let cut = async {
            story
                .until("the node knows that the project is closing", async || {
                    story.state(&p0()) == "closing#1" && acknowledged(story, behind).await
                })
                .await;
            story.cut(behind, Seam::EventLog, Some(Cut::Requests));
        };
        let (deleted, ()) = tokio::join!(deletion, cut);
        assert_eq!(deleted.outcome, Outcome::Committed);
        assert_eq!(story.create(other, "again", &p0(), MAIN).await.outcome, Outcome::Committed);
        let late = story.delete(behind, "late", &p0()).await;
        assert_eq!((late.outcome, story.state(&p0()).as_str()), (Outcome::Refused, "active#2"), "{late:?}");
    });
}

/// Found by the simulator: the barrier asked about the step before `closing`, which every node knew.
#[test]
fn a_deletion_whose_first_step_is_not_shown_here_waits_for_it() {
    tell(async |story| {
        let (own, other) = ("muc-1-0", "blr-1-0");
        story
            .until("every node has acknowledged the project", async || {
                let mut know = true;
                for one in story.world.nodes() {
                    know &= acknowledged(story, one.as_str()).await;
                }
                know
            })
            .await;
        story.world.faults.pause(&node(other), true);
        // The deleting node cannot move the refs of its own first step at once.
        story.bar(own, Some("record intents"));
        let deletion = async { story.delete(own, "delete", &p0()).await };
        let mended = async {
            while !story.world.trace.tail(20).iter().any(|line| line.contains("not yet visible")) {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            story.bar(own, None);
        };
        let (first, ()) = tokio::join!(deletion, mended);
        assert_eq!((first.outcome, story.state(&p0()).as_str()), (Outcome::Refused, "closing#1"), "{first:?}");
        story.world.faults.pause(&node(other), false);
        story.pass(3_000).await;
        assert_eq!(story.delete(own, "delete", &p0()).await.outcome, Outcome::Committed);
    });
}

/// The node at which a push is inside while its project closes, and the beginning of its calls that commit.
const INSIDE: (&str, &str) = ("muc-1-0", "commit muc-1-0.");

/// Pushes a branch through [`INSIDE`], and repeats that for as long as its calls are barred.
async fn push_patiently(story: &Story) {
    let new = Some(story.object(INSIDE.0, &p0()));
    let command = RefCommand { name: "refs/heads/b0".parse().unwrap(), old: Expected::Absent, new, force: true };
    let request = RefTransactionRequest {
        request_id: "late".into(),
        deadline_ms: Some(40_000),
        atomic: true,
        commands: vec![command],
        actor: None,
        traceparent: None,
        message: None,
        lock: None,
    };
    story.world.watch.asked(&p0(), &request);
    let answer = story.life(INSIDE.0).node.transactions().submit(&p0(), request).await.unwrap();
    story.world.watch.answered(&node(INSIDE.0), "late", &answer);
}

/// Deletes the project at another site while a push is inside at [`INSIDE`]. There, `learns` brings `closing`. The
/// node's mark must wait for the push, and the deletion for the mark.
async fn closes_around_a_push(story: &Story, learns: impl AsyncFn()) {
    let (inside, calls) = INSIDE;
    let before = story.world.trace.text().matches(calls).count();
    story.bar(inside, Some(calls));
    let closes = async {
        let tried = async || story.world.trace.text().matches(calls).count() > before;
        story.until("the push is inside", tried).await;
        let meanwhile = async {
            story.until("the project is closing", async || story.state(&p0()) == "closing#1").await;
            learns().await;
            for other in ["eu-aws-0", "eu-aws-1"] {
                story.until("the others acknowledge it", async || acknowledged(story, other).await).await;
            }
            story.pass(10_000).await;
            assert!(!acknowledged(story, inside).await, "the mark has passed `closing` with a push inside");
            assert_eq!(story.state(&p0()), "closing#1");
            story.bar(inside, None);
        };
        // It may give up before the push has ended.
        let project = p0();
        tokio::join!(story.delete("blr-1-0", "delete", &project), meanwhile);
    };
    tokio::join!(push_patiently(story), closes);
    story.until("the node acknowledges it", async || acknowledged(story, inside).await).await;
    assert_eq!(story.delete("blr-1-0", "delete", &p0()).await.outcome, Outcome::Committed);
}

#[test]
fn the_mark_waits_for_a_push_that_is_inside_when_its_project_closes() {
    tell(async |story| closes_around_a_push(story, async || ()).await);
}

#[test]
fn the_mark_waits_for_a_push_although_a_catch_up_has_brought_the_closing_step() {
    tell(async |story| {
        story.cut(INSIDE.0, Seam::EventLog, Some(Cut::Requests));
        let catches_up = async || {
            // A creation looks the project up first.
            assert_eq!(story.create(INSIDE.0, "again", &p0(), MAIN).await.outcome, Outcome::Refused);
            let object = story.object(INSIDE.0, &p0());
            let refused = story.push(INSIDE.0, "after", &p0(), ("refs/heads/b1", None, Some(object))).await.unwrap();
            let code = refused.results[0].refusal.clone().map(|refusal| refusal.code);
            assert_eq!(code, Some(RefusalCode::Project), "the node knows that the project is closing");
            story.cut(INSIDE.0, Seam::EventLog, None);
        };
        closes_around_a_push(story, catches_up).await;
    });
}

#[test]
fn a_new_incarnation_learns_what_closed_while_it_was_away() {
    tell(async |story| {
        let (away, other) = ("eu-aws-1", "blr-1-0");
        story.crash(away);
        assert_eq!(story.delete(other, "delete", &p0()).await.outcome, Outcome::Committed);
        story.cut(away, Seam::EventLog, Some(Cut::Requests));
        story.world.start(&node(away)).await;
        let object = story.object(away, &p0());
        let refused = loop {
            match story.push(away, "late", &p0(), ("refs/heads/b0", None, Some(object))).await {
                Ok(response) => break response.results[0].refusal.clone().map(|refusal| refusal.code),
                Err(error) => assert_eq!(error.code, RefusalCode::NotServing),
            }
            story.pass(20).await;
        };
        assert_eq!(refused, Some(RefusalCode::Project));
    });
}

#[test]
fn a_retry_of_a_creation_or_a_deletion_is_answered_again() {
    tell(async |story| {
        let project: ProjectName = "new".parse().unwrap();
        let (first, other) = ("muc-1-0", "blr-1-0");
        assert_eq!(story.create(first, "create", &project, MAIN).await.outcome, Outcome::Committed);
        story.converge().await;
        assert_eq!(story.create(other, "create", &project, MAIN).await.outcome, Outcome::Committed);
        assert_eq!(story.create(other, "another", &project, MAIN).await.outcome, Outcome::Refused);
        assert_eq!(story.delete(first, "delete", &project).await.outcome, Outcome::Committed);
        story.converge().await;
        assert_eq!(story.delete(other, "delete", &project).await.outcome, Outcome::Committed);
        assert_eq!(story.delete(other, "another", &project).await.outcome, Outcome::Refused);
    });
}

#[test]
fn a_retry_is_answered_from_the_node_s_memory_while_the_journal_cannot_be_read() {
    tell(async |story| {
        let (first, other) = ("muc-1-0", "blr-1-0");
        assert_eq!(story.delete(first, "delete", &p0()).await.outcome, Outcome::Committed);
        story.converge().await;
        story.bar(other, Some("slot"));
        assert_eq!(story.delete(other, "delete", &p0()).await.outcome, Outcome::Committed);
        // Nothing tells whether another id was committed.
        assert_eq!(story.delete(other, "another", &p0()).await.outcome, Outcome::Unknown);
        story.bar(other, None);
        assert_eq!(story.delete(other, "delete", &p0()).await.outcome, Outcome::Committed);
    });
}

#[test]
fn a_late_transaction_of_a_deleted_project_is_skipped() {
    tell(async |story| {
        let at = "muc-1-0";
        let (one, two) = (story.object(at, &p0()), story.object(at, &p0()));
        story.push(at, "one", &p0(), ("refs/heads/b0", None, Some(one))).await.unwrap();
        story.push(at, "two", &p0(), ("refs/heads/b0", Some(one), Some(two))).await.unwrap();
        assert_eq!(story.delete(at, "delete", &p0()).await.outcome, Outcome::Committed);
        assert_eq!(story.create(at, "again", &p0(), MAIN).await.outcome, Outcome::Committed);
        story.converge().await;
        let late: Vec<_> = {
            let known = story.world.watch.known();
            // The late transaction comes without the one before it, which is forgotten here.
            let second = known.facts.transactions.values().filter(|one| one.request_id == "two");
            second.map(|one| (one.site.clone(), one.encode())).collect()
        };
        let lines = story.world.trace.len();
        for (site, record) in late {
            story.world.append_raw(&site, "p0", record).await;
        }
        story.pass(3_000).await;
        story.converge().await;
        let said = story.world.trace.tail(story.world.trace.len() - lines).join("\n");
        assert!(said.contains(" skipped "), "{said}");
        assert!(!said.contains(" parked "), "{said}");
    });
}

#[test]
fn head_is_not_said_to_be_set_where_the_node_is_behind() {
    tell(async |story| {
        let (behind, other) = ("muc-1-0", "blr-1-0");
        let set = async |at: &str, id: &str, head: &str| {
            story.world.watch.operates(id, &p0(), RefKey::Head, Some(head.parse().unwrap()));
            let request = lockstep_proto::bridge::SetHeadRequest {
                request_id: id.into(),
                head: head.parse().unwrap(),
                lock: None,
            };
            let response = story.life(at).node.transactions().set_head(&p0(), request).await.unwrap();
            story.world.watch.operated(id, &response);
            response.outcome
        };
        story.cut(behind, Seam::EventLog, Some(Cut::Requests));
        assert_eq!(set(other, "there", "refs/heads/b1").await, Outcome::Committed);
        // This node still shows the wanted target, and no other node does.
        assert_eq!(set(behind, "back", "refs/heads/b0").await, Outcome::Committed);
        story.cut(behind, Seam::EventLog, None);
        story.converge().await;
        let known = story.world.watch.known();
        let key = known.facts.projects[&p0()].clone();
        let last = known.facts.chain(&key, &RefKey::Head).last().unwrap().value.to_string();
        assert_eq!(last, "ref:refs/heads/b0");
    });
}

#[test]
fn an_idle_node_that_was_fenced_ends_its_incarnation() {
    tell(async |story| {
        // First the settled marks of idle lanes are written. After that the node has nothing left to write.
        story.pass(20_000).await;
        story.world.set_role(&"muc-1".parse().unwrap(), Role::Fenced).await;
        // It ends its incarnation itself, and goes on: nobody adopts a node whose heartbeat moves.
        let ended = async || {
            let all = story.world.refdb().incarnations.incarnations(&"muc-1".parse().unwrap()).await.unwrap();
            all.iter().all(|one| !one.may_commit())
        };
        story.until("the fenced node ends its incarnation", ended).await;
        let object = story.object("muc-1-0", &p0());
        let push = story.push("muc-1-0", "push", &p0(), ("refs/heads/b0", None, Some(object))).await;
        assert!(push.is_err_and(|error| error.message.contains("the role of site muc-1 is fenced")));
    });
}

#[test]
fn a_project_is_not_deleted_while_a_copy_of_a_push_may_still_land() {
    tell(async |story| {
        let (at, other) = ("muc-1-0", "blr-1-0");
        let object = story.object(at, &p0());
        // The push is sent and no answer comes, not even to the poison of its slot.
        story.world.faults.cut(&node(at), Seam::RefDb, Some(Cut::Requests));
        let push = story.push(at, "push", &p0(), ("refs/heads/b0", None, Some(object))).await.unwrap();
        assert_eq!(push.outcome, Outcome::Unknown, "{push:?}");
        story.world.faults.bar(&node(at), Some("poison"));
        story.world.faults.cut(&node(at), Seam::RefDb, None);
        let early = story.delete(other, "delete", &p0()).await;
        assert_eq!((early.outcome, story.state(&p0()).as_str()), (Outcome::Refused, "closing#1"), "{early:?}");
        story.world.faults.bar(&node(at), None);
        story.until("the node knows what became of the push", async || acknowledged(story, at).await).await;
        assert_eq!(story.delete(other, "delete", &p0()).await.outcome, Outcome::Committed);
    });
}
