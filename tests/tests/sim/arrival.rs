//! Stories of callers that wait for a transaction. At the moment of each answer the site is compared with it.

use std::time::Duration;

use lockstep::seams::refdb::SlotState;
use lockstep_proto::arrival::Arrival;
use lockstep_proto::refresh::Subject;
use lockstep_proto::{Oid, RefName, TxnId};
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::story::{Story, node, p0, tell};

const ORIGIN: &str = "muc-1-0";
/// The two nodes of one site.
const ONE: &str = "eu-aws-0";
const TWO: &str = "eu-aws-1";
const META: &str = "refs/changes/01/1/meta";

/// Waits at a node until a site shows a transaction: its own site, if none is named.
async fn arrives(story: &Story, at: &str, site: Option<&str>, txn: &TxnId, most_ms: u64) -> Arrival {
    let arrivals = story.life(at).node.arrivals().expect("a real node tells it");
    let site = site.map(|site| site.parse().unwrap());
    arrivals.arrival(txn.clone(), site, Duration::from_millis(most_ms)).await.unwrap().outcome
}

/// Whether readers of a node see a value of the ref.
fn shows(story: &Story, at: &str, value: Oid) -> bool {
    story.volume(at).refs(&p0()).get(&META.parse::<RefName>().unwrap()) == Some(&value)
}

/// Whether the Gerrit of a node has indexed a value of the ref.
fn has_indexed(story: &Story, at: &str, value: Oid) -> bool {
    let index = story.world.gerrit(&node(at)).expect("it has one").shows().0;
    let document = index.get(&Subject::Change { project: p0(), number: 1 });
    document.is_some_and(|document| document.contains(&value.to_string()))
}

#[test]
fn a_site_shows_a_transaction_once_each_of_its_living_nodes_does() {
    tell(async |story| {
        let (first, second) = (story.object(ORIGIN, &p0()), story.object(ORIGIN, &p0()));
        // This node hears of the push by its sweeper alone, seconds later.
        story.cut(TWO, Seam::EventLog, Some(Cut::Requests));
        let txn = story.push(ORIGIN, "first", &p0(), (META, None, Some(first))).await.unwrap().txn.unwrap();
        assert_eq!(arrives(story, ORIGIN, Some("eu-aws"), &txn, 100).await, Arrival::NotYet);
        let here = async {
            let outcome = arrives(story, ONE, None, &txn, 60_000).await;
            (outcome, shows(story, ONE, first), shows(story, TWO, first), has_indexed(story, ONE, first))
        };
        let from_afar = async {
            let outcome = arrives(story, ORIGIN, Some("eu-aws"), &txn, 60_000).await;
            (outcome, shows(story, ONE, first), shows(story, TWO, first))
        };
        let (here, from_afar) = tokio::join!(here, from_afar);
        assert_eq!(here, (Arrival::Shown, true, true, true));
        assert_eq!(from_afar, (Arrival::Shown, true, true));

        story.cut(TWO, Seam::EventLog, None);
        story.crash(TWO);
        let later = (META, Some(first), Some(second));
        let next = story.push(ORIGIN, "second", &p0(), later).await.unwrap().txn.unwrap();
        assert_eq!(arrives(story, ONE, None, &next, 60_000).await, Arrival::Shown, "a dead node serves nobody");
        assert!(shows(story, ONE, second) && has_indexed(story, ONE, second));
        assert_eq!(arrives(story, ONE, None, &txn, 0).await, Arrival::Shown, "a later value stands there");

        story.start(TWO).await;
        story.converge().await;
        let refdb = story.world.backend.refdb();
        story.until("collected", async || refdb.journal.slot(&txn.slot).await == Ok(SlotState::Empty)).await;
        assert_eq!(arrives(story, TWO, None, &txn, 30_000).await, Arrival::Shown, "the node remembers it");
        let other = txn.slot.txn(txn.attempt ^ 1);
        assert_eq!(arrives(story, TWO, None, &other, 30_000).await, Arrival::Unknown, "it was another attempt");
    });
}
