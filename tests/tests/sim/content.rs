//! Stories of records with bad content, and of retries.

use bytes::Bytes;
use lockstep::seams::refdb::{CommitRequest, Freed, IncarnationRecord};
use lockstep_proto::bridge::Outcome;
use lockstep_proto::{Command, NodeId, Pack, ProjectKey, RefKey, RefValue, Seq, Transaction};
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::story::{p0, tell};

/// A transaction of an unknown node, whose pack is garbage.
fn bad() -> Transaction {
    let (id, site) = ("byzantine.1.0.0.00000000000000aa".parse().unwrap(), "muc-1".parse().unwrap());
    let value: RefValue = "1".repeat(40).parse().unwrap();
    Transaction {
        commands: vec![Command::creation("refs/heads/bad".parse().unwrap(), value)],
        pack: Pack::Inline(Bytes::from_static(b"no pack")),
        request_id: "bad".into(),
        ..Transaction::empty(id, site, ProjectKey::new(&p0(), 1))
    }
}

#[test]
fn bad_content_that_was_committed_holds_back_its_ref_and_no_journal() {
    tell(async |story| {
        let (refdb, bad) = (story.world.refdb(), bad());
        let lane = bad.id.slot.lane.clone();
        story.world.watch.known().facts.bad.insert(bad.id.clone());
        let opened = IncarnationRecord::open(lane.incarnation.clone(), bad.site.clone(), 1, 1, 1);
        refdb.incarnations.open_incarnation(&opened).await.unwrap();
        let (directories, freed) = (Vec::new(), Freed::new());
        let request =
            CommitRequest { transaction: bad.clone(), encoded: bad.encode(), directories, freed, lock_token: None };
        refdb.refs.commit(&request).await.unwrap();
        story.world.append_raw(&bad.site, "p0", bad.encode()).await;
        refdb.incarnations.freeze(&bad.site, &lane.incarnation).await.unwrap();
        refdb.incarnations.drained(&bad.site, &lane.incarnation, &[Seq(1)]).await.unwrap();
        let past = async || {
            let nodes = story.world.backend.refdb().nodes.nodes().await.unwrap();
            nodes.iter().all(|record| record.low_water.get(&lane) == Some(&Seq(1)))
        };
        story.until("every node's mark passes the quarantined transaction", past).await;
        for one in story.world.nodes() {
            let quarantined = story.world.volume(&one).unwrap().store().quarantined().unwrap();
            assert_eq!(quarantined.keys().collect::<Vec<_>>(), [&bad.id.to_string()], "{one}");
        }
        let object = story.object("blr-1-0", &p0());
        let good = story.push("blr-1-0", "good", &p0(), ("refs/heads/b0", None, Some(object))).await.unwrap();
        assert_eq!(good.outcome, Outcome::Committed);
        let shown = async || {
            let shows = |one: &NodeId| story.world.volume(one).unwrap().refs(&p0()).len() == 1;
            story.world.nodes().iter().all(shows)
        };
        story.until("other refs are still applied", shown).await;
    });
}

#[test]
fn a_damaged_copy_is_set_aside_and_the_truth_is_taken_from_the_journal() {
    tell(async |story| {
        let (origin, other) = ("muc-1-0", "blr-1-0");
        story.cut(origin, Seam::EventLog, Some(Cut::Requests));
        let object = story.object(origin, &p0());
        story.push(origin, "a", &p0(), ("refs/heads/b0", None, Some(object))).await.unwrap();
        let truth = {
            let known = story.world.watch.known();
            let last = known.facts.transactions.values().find(|one| one.request_id == "a").unwrap();
            Transaction::clone(last)
        };
        let damaged = Transaction { pack: Pack::Inline(Bytes::from_static(b"damaged")), ..truth.clone() };
        story.world.watch.known().mirror.forged.insert(damaged.encode());
        story.world.append_raw(&truth.site, "p0", damaged.encode()).await;
        let volume = story.volume(other);
        let shown = async || volume.refs(&p0()).values().any(|oid| *oid == object);
        story.until("the true commit is applied before it is published", shown).await;
        let names: Vec<String> = volume.store().quarantined().unwrap().into_keys().collect();
        assert!(names.len() == 1 && names[0].starts_with(&format!("{}/copy-", truth.id)), "{names:?}");
        story.cut(origin, Seam::EventLog, None);
        story.converge().await;
    });
}

#[test]
fn a_retry_is_answered_from_the_durable_memory_while_the_journal_cannot_be_read() {
    tell(async |story| {
        let at = "muc-1-0";
        let (one, two) = (story.object(at, &p0()), story.object(at, &p0()));
        story.push(at, "one", &p0(), ("refs/heads/b0", None, Some(one))).await.unwrap();
        story.push(at, "two", &p0(), ("refs/heads/b0", Some(one), Some(two))).await.unwrap();
        story.converge().await;
        // After the restart, the volume remembers the first try, and the journal has its slot.
        story.restart(&[at]).await;
        story.bar(at, Some("slot"));
        let retry = story.push(at, "one", &p0(), ("refs/heads/b0", None, Some(one))).await.unwrap();
        assert_eq!(retry.outcome, Outcome::Committed, "{retry:?}");
        story.bar(at, None);
        let again = story.push(at, "one", &p0(), ("refs/heads/b0", None, Some(one))).await.unwrap();
        assert_eq!(again.outcome, Outcome::Committed, "{again:?}");
        let key = RefKey::Ref("refs/heads/b0".parse().unwrap());
        let steps = story.world.watch.known().facts.chain(&ProjectKey::new(&p0(), 1), &key).len();
        assert_eq!(steps, 2);
    });
}
