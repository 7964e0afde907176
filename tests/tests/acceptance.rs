//! The program of `make aws-acceptance` over emulators: its cases run there by their endpoints, a case that fails is
//! named, names that are taken are refused, and nothing is left at the end.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt;
use lockstep::seams::embedded::dynamo::EmbeddedDynamo;
use lockstep::seams::embedded::kinesis::{EmbeddedKinesis, EmbeddedKinesisSettings};
use lockstep_tests::acceptance::cases::{Case, Grounds, run};
use lockstep_tests::acceptance::settings::Settings;
use tokio::task::LocalSet;

/// One case of each suite: that of the refdb twice, so that the second one finds the tables of the first one empty.
const CASES: [&str; 4] = [
    "refdb slots::a_slot_is_empty_then_committed",
    "refdb reads::projects_are_listed_in_order",
    "eventlog streams",
    "blob again",
];

fn fails() {
    panic!("as planned");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suites_run_at_other_endpoints_and_leave_nothing_even_after_a_failure() {
    let dynamo = EmbeddedDynamo::in_memory().await.unwrap();
    let kinesis = EmbeddedKinesis::start(&EmbeddedKinesisSettings::default()).await.unwrap();
    let settings = Settings {
        prefix: "acme-test-".to_owned(),
        bucket: None,
        dynamodb: Some(dynamo.endpoint()),
        kinesis: kinesis.client_settings().endpoint,
        only: String::new(),
        confirmed: false,
    };
    assert!(settings.is_emulated(), "{settings:?}");
    let grounds = Arc::new(Grounds::of(&settings).await.unwrap());
    let mut cases = grounds.cases("");
    let names: BTreeSet<String> = cases.iter().map(|case| case.name.clone()).collect();
    assert_eq!(names.len(), cases.len(), "each case has a name of its own");
    cases.retain(|case| CASES.contains(&case.name.as_str()));
    assert_eq!(cases.len(), CASES.len(), "{names:?}");
    cases.push(Case {
        name: "a case that fails".to_owned(),
        run: Box::new(|grounds| {
            async move {
                let db = grounds.tables.fresh().await;
                assert_eq!(db.sites.sites().await, Ok(Vec::new()), "the tables are empty");
                fails();
            }
            .boxed_local()
        }),
    });
    let failed = LocalSet::new().run_until(run(&grounds, cases)).await;
    assert_eq!(failed, ["a case that fails"]);
    let taken = Grounds::of(&settings).await.err().expect("the names are taken");
    assert!(taken.contains("acme-test-refdb-refs exists"), "{taken}");
    assert_eq!(grounds.delete().await, Vec::<String>::new());
    assert!(Grounds::of(&settings).await.is_ok(), "nothing is left");
}
