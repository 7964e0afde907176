//! `lockstep await`: a job at one site waits for a push to another.

use lockstep_proto::{Seq, TxnId};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, ok, refs, text};
use lockstep_tests::e2e::until;

use crate::lockstep;

/// The transaction that git's output tells the user who pushes.
fn told(output: &str) -> TxnId {
    let (_, behind) = output.split_once("Lockstep: transaction ").expect("the push tells its transaction");
    behind.split_whitespace().next().and_then(|id| id.parse().ok()).expect("an id")
}

/// A lock of another program keeps the push from site `b` for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_until_its_site_shows_a_push_to_another() {
    let cluster = Cluster::start_plain(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let (a, b) = (&cluster.nodes[0], &cluster.nodes[1]);
    let clone = Clone::new(&cluster.scratch("clone"));
    let commit = clone.commit(None, "one");
    let lock = b.repository("p").join("refs/heads/main.lock");
    until(async || std::fs::File::create(&lock).ok()).await.expect("the folder comes");
    let pushed = clone.push(&a.repository("p"), &[], &[&format!("{commit}:refs/heads/main")]).await;
    let txn = told(&text(&pushed));
    let (_, id) = (ok(pushed), txn.to_string());

    let said = ok(a.cli(&["await", &id]).await);
    assert_eq!(said, format!("site a shows {id}"));
    for late in [
        b.cli(&["await", &id, "--timeout", "500ms"]).await,
        a.cli(&["await", &id, "--site", "b", "--timeout", "0s"]).await,
    ] {
        let said = text(&late);
        assert_eq!(late.status.code(), Some(1), "{said}");
        assert!(said.contains("site b does not show") && said.contains("a retry may help"), "{said}");
    }
    let release = async { std::fs::remove_file(&lock).expect("nobody else removes it") };
    let at_b = async {
        let waited = ok(b.cli(&["await", &id, "--timeout", "2m"]).await);
        (waited, refs(&b.repository("p")).await.expect("a repository").remove("refs/heads/main"))
    };
    let from_a = ["await", &id, "--site", "b", "--timeout", "2m"];
    let ((waited, shown), elsewhere, ()) = tokio::join!(at_b, a.cli(&from_a), release);
    assert_eq!((waited, shown), (format!("site b shows {id}"), Some(commit)), "it ends when the ref is there");
    assert_eq!(ok(elsewhere), format!("site b shows {id}"));

    // The node has not used this slot yet.
    let ahead = txn.slot.lane.slot(Seq(txn.slot.seq.0 + 5));
    let _ = cluster.refdb.journal.poison(&ahead).await.expect("the refdb answers");
    let refused = b.cli(&["await", &ahead.txn(7).to_string()]).await;
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused));
    let unknown = b.cli(&["await", "nobody.1.0.0.00c0ffee00c0ffee"]).await;
    assert_eq!(unknown.status.code(), Some(1), "{}", text(&unknown));
    assert!(text(&unknown).contains("a retry does not help"), "{}", text(&unknown));
    let forged = b.cli(&["await", &txn.slot.txn(txn.attempt ^ 1).to_string(), "--timeout", "0s"]).await;
    assert!(!forged.status.success(), "another attempt at the same slot: {}", text(&forged));
}
