//! A silent drill where records must be signed.

use lockstep_tests::e2e::git::ok;

use super::{DRILL, copies, drill, fit, report, with};
use crate::signing::{requires, signing};

/// The standby on the copy signs with a key of its own: it has no access to the key of its site, and the real refdb
/// never hears of the other one.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_must_sign_comes_up_on_a_copy_with_a_key_that_ends_with_it() {
    let mut cluster = with("copy = \"full\"").await;
    let keys = requires(&mut cluster).await;
    let b = &cluster.nodes[1];
    std::fs::remove_file(cluster.scratch("key-1")).expect("the key of site b");
    fit(b).await;
    let output = drill(b, &DRILL).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}\n{}", b.log_tail());
    assert!(report(&output).is_green(), "{output:?}");
    assert!(!copies(b).exists(), "nothing is left");
    let known = signing(b).await.keys.iter().map(|one| one.id.to_string()).collect::<Vec<_>>();
    // A standby opens no incarnation, so the active site alone has registered its key.
    assert_eq!(known, [keys[0].as_str()]);
    assert_eq!(ok(b.cli(&["quarantine", "--json"]).await), "[]");
}
