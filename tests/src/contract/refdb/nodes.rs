//! Nodes: one record each. A write succeeds only over the record that the writer expects.

use lockstep::seams::refdb::{DigestRecord, MOST_DIGEST_BYTES, Needs, NodeAnswer, NodeRecord, RefDbError};
use lockstep_proto::{Incarnation, Lane, Seq};

use super::Db;
use crate::build::{incarnation, node, site};

fn record(name: &str) -> NodeRecord {
    let lane = |number| incarnation("node-a", number).lane(Lane(3));
    NodeRecord {
        node: node(name),
        site: site("site-a"),
        volume: "volume 1".to_owned(),
        starts: 4,
        beat: 0,
        expelled: false,
        low_water: [(lane(1), Seq(17)), (lane(2), Seq(u64::MAX))].into(),
        whole: [(node("node-b"), Incarnation(7))].into(),
        needs: Needs {
            held: [("node-b.1.0.4.00000000000000aa".parse().expect("an id"), "p/q".parse().expect("a project"))].into(),
            owed: ["r".parse().expect("a project")].into(),
        },
        frees_names: name == "node-a",
        obeys_locks: 3,
        follows_moves: name == "node-b",
        fences_locks: name == "node-a",
    }
}

#[expect(missing_docs, reason = "the names of the cases say what they check")]
mod cases {
    use super::*;

    pub async fn a_node_is_written_once_without_a_predecessor(db: Db) {
        let first = record("node-a");
        assert_eq!(db.nodes.put_node(&first, None).await, Ok(NodeAnswer::Written));
        let mut second = first.clone();
        second.volume = "volume 2".to_owned();
        assert_eq!(db.nodes.put_node(&second, None).await, Ok(NodeAnswer::Differs(first.clone())));
        assert_eq!(db.nodes.nodes().await, Ok(vec![first.clone()]));
        let unknown = db.nodes.put_node(&record("node-b"), Some(&record("node-b"))).await;
        assert_eq!(unknown, Ok(NodeAnswer::Gone), "nobody removes a record");
        assert_eq!(db.nodes.nodes().await, Ok(vec![first]));
    }

    pub async fn a_node_is_overwritten_by_who_knows_it(db: Db) {
        let first = record("node-a");
        db.nodes.put_node(&first, None).await.expect("a write");
        let mut beaten = first.clone();
        beaten.beat = 9;
        beaten.low_water.clear();
        assert_eq!(db.nodes.put_node(&beaten, Some(&first)).await, Ok(NodeAnswer::Written));
        let mut started = first.clone();
        started.starts = 5;
        // A late copy does not take the heartbeat back. The condition ignores the marks.
        assert_eq!(db.nodes.put_node(&started, Some(&first)).await, Ok(NodeAnswer::Differs(beaten.clone())));
        let unmarked = NodeRecord { beat: 9, ..first };
        assert_eq!(db.nodes.put_node(&started, Some(&unmarked)).await, Ok(NodeAnswer::Written));
        assert_eq!(db.nodes.nodes().await, Ok(vec![started]));
    }

    pub async fn another_volume_start_beat_or_expulsion_differs(db: Db) {
        let stored = record("node-a");
        db.nodes.put_node(&stored, None).await.expect("a write");
        let wrong = |change: fn(&mut NodeRecord)| {
            let mut wrong = stored.clone();
            change(&mut wrong);
            wrong
        };
        let wrongs = [
            wrong(|record| record.volume = "another".to_owned()),
            wrong(|record| record.starts += 1),
            wrong(|record| record.beat += 1),
            wrong(|record| record.expelled = true),
        ];
        for wrong in &wrongs {
            assert_eq!(db.nodes.put_node(wrong, Some(wrong)).await, Ok(NodeAnswer::Differs(stored.clone())));
        }
        let expelled = &wrongs[3];
        assert_eq!(db.nodes.put_node(expelled, Some(&stored)).await, Ok(NodeAnswer::Written));
        assert_eq!(db.nodes.put_node(&stored, Some(&stored)).await, Ok(NodeAnswer::Differs(expelled.clone())));
    }

    pub async fn nodes_are_listed_in_order(db: Db) {
        for name in ["node-b", "node-a-c", "node-a"] {
            db.nodes.put_node(&record(name), None).await.expect("a write");
        }
        let found = db.nodes.nodes().await.expect("a list");
        assert_eq!(found, ["node-a", "node-a-c", "node-b"].map(record));
    }

    pub async fn a_digest_replaces_the_last_one_and_is_bounded(db: Db) {
        let digest = |name: &str, body: &str| DigestRecord { node: node(name), body: body.to_owned() };
        assert_eq!(db.nodes.digests().await, Ok(Vec::new()));
        let largest = "x".repeat(MOST_DIGEST_BYTES);
        for record in [digest("node-b", "{}"), digest("node-a", "old"), digest("node-a", &largest)] {
            assert_eq!(db.nodes.put_digest(&record).await, Ok(()));
        }
        let larger = db.nodes.put_digest(&digest("node-b", &(largest.clone() + "x"))).await;
        assert!(matches!(larger, Err(RefDbError::Broken(_))), "{larger:?}");
        let stored = vec![digest("node-a", &largest), digest("node-b", "{}")];
        assert_eq!(db.nodes.digests().await, Ok(stored));
        assert_eq!(db.nodes.nodes().await, Ok(Vec::new()), "an earlier release sees no digest");
    }
}
pub use cases::*;
