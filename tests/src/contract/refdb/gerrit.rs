//! The installation's Gerrit: its identity, and the owner of each instance id.

use std::collections::BTreeMap;

use lockstep::seams::refdb::{GerritRecord, RefDbError};
use lockstep_proto::NodeId;

use super::Db;
use crate::build::node;

fn record(server_id: &str) -> GerritRecord {
    let name = |text: &str| text.parse().expect("a project name");
    GerritRecord { server_id: server_id.to_owned(), all_projects: name("All-Projects"), all_users: name("All-Users") }
}

async fn owners(db: &Db) -> BTreeMap<String, NodeId> {
    db.gerrit.instances().await.expect("a list")
}

#[expect(missing_docs, reason = "the names of the cases say what they check")]
mod cases {
    use super::*;

    pub async fn the_first_gerrit_says_who_it_is_for_ever(db: Db) {
        assert_eq!(db.gerrit.gerrit().await, Ok(None));
        assert_eq!(db.gerrit.enroll_gerrit(&record("one")).await, Ok(record("one")));
        let other = GerritRecord { all_users: "Users".parse().expect("a name"), ..record("two") };
        assert_eq!(db.gerrit.enroll_gerrit(&other).await, Ok(record("one")));
        assert_eq!(db.gerrit.gerrit().await, Ok(Some(record("one"))));
    }

    pub async fn of_concurrent_firsts_one_wins(db: Db) {
        let (one, two) = (record("one"), record("two"));
        let (first, second) = tokio::join!(db.gerrit.enroll_gerrit(&one), db.gerrit.enroll_gerrit(&two));
        let won = db.gerrit.gerrit().await.expect("an answer").expect("a record");
        assert_eq!((first, second), (Ok(won.clone()), Ok(won)));
    }

    pub async fn an_instance_id_has_one_node(db: Db) {
        assert_eq!(owners(&db).await, BTreeMap::new());
        assert_eq!(db.gerrit.claim_instance("eu", &node("node-a"), None).await, Ok(node("node-a")));
        assert_eq!(db.gerrit.claim_instance("eu", &node("node-a"), None).await, Ok(node("node-a")));
        assert_eq!(db.gerrit.claim_instance("eu", &node("node-b"), None).await, Ok(node("node-a")));
        assert_eq!(db.gerrit.claim_instance("muc", &node("node-b"), None).await, Ok(node("node-b")));
        let both = [("eu".to_owned(), node("node-a")), ("muc".to_owned(), node("node-b"))];
        assert_eq!(owners(&db).await, both.into());
    }

    pub async fn a_claim_may_take_over_from_one_node_alone(db: Db) {
        let claim = async |name: &str, from: &str| db.gerrit.claim_instance("eu", &node(name), Some(&node(from))).await;
        assert_eq!(claim("node-a", "node-z").await, Ok(node("node-a")), "the id was free");
        assert_eq!(claim("node-b", "node-z").await, Ok(node("node-a")), "node-z does not have it");
        assert_eq!(claim("node-b", "node-a").await, Ok(node("node-b")));
        assert_eq!(claim("node-c", "node-a").await, Ok(node("node-b")), "node-a no longer has it");
    }

    pub async fn only_its_node_releases_an_instance_id(db: Db) {
        assert_eq!(db.gerrit.release_instance("eu", &node("node-a")).await, Ok(()), "releasing a free id is harmless");
        db.gerrit.claim_instance("eu", &node("node-a"), None).await.expect("a claim");
        assert_eq!(db.gerrit.release_instance("eu", &node("node-b")).await, Ok(()));
        assert_eq!(owners(&db).await, [("eu".to_owned(), node("node-a"))].into());
        assert_eq!(db.gerrit.release_instance("eu", &node("node-a")).await, Ok(()));
        assert_eq!(owners(&db).await, BTreeMap::new());
    }

    pub async fn names_that_are_no_keys_are_broken(db: Db) {
        for name in [String::new(), "x".repeat(129)] {
            let claim = db.gerrit.claim_instance(&name, &node("node-a"), None).await;
            assert!(matches!(claim, Err(RefDbError::Broken(_))), "{claim:?}");
            let first = db.gerrit.enroll_gerrit(&record(&name)).await;
            assert!(matches!(first, Err(RefDbError::Broken(_))), "{first:?}");
        }
        assert_eq!((db.gerrit.gerrit().await, owners(&db).await), (Ok(None), BTreeMap::new()));
        let longest = "é".repeat(64);
        assert_eq!(db.gerrit.claim_instance(&longest, &node("node-a"), None).await, Ok(node("node-a")));
    }
}
pub use cases::*;
