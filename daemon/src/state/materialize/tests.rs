//! Tests of all parts together: how often they call the repository.

use std::collections::BTreeMap;
use std::sync::Arc;

use lockstep_proto::{Oid, ProjectKey, RefKey, RefName, RefValue, Version};

use super::Materializer;
use crate::base::faults::injected_bug::InjectedBugs;
use crate::seams::git::model::ModelRepositories;
use crate::seams::git::model::counted::CountedRepositories;
use crate::seams::git::{RefMove, Repositories};
use crate::seams::volume::RefRecord;
use crate::state::version_map::Mover;

const REFS: u64 = 1_000;

/// The moves of a jump end all kinds of values: those that the version map knows, those that another program wrote
/// over them, and those of refs that the map does not know.
#[tokio::test]
async fn a_jump_of_a_thousand_refs_asks_the_repository_a_few_times() {
    let model = ModelRepositories::new(InjectedBugs::default());
    let project: ProjectKey = "p#1".parse().unwrap();
    model.create(&project.name, &"refs/heads/main".parse().unwrap()).await.unwrap();
    let counted = Arc::new(CountedRepositories::new(model.clone()));
    let repositories: Arc<dyn Repositories> = counted.clone();
    let materializer = Materializer { repositories, ..Materializer::of_model(&model) };
    let object = |nonce: u64| model.add_object(&project.name, &[], nonce);
    let record = |version: u64, value: Oid| {
        let txn = "n.1.0.1.00000000000000aa".parse().unwrap();
        RefRecord { version: Version(version), value: RefValue::Oid(value), txn }
    };
    let (mut shown, mut known, mut latest) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for at in 0..REFS {
        let name: RefName = format!("refs/heads/b{at}").parse().unwrap();
        let (old, new) = (object(3 * at), object(3 * at + 1));
        match at % 3 {
            0 => _ = known.insert(RefKey::Ref(name.clone()), record(1, old)),
            1 => _ = known.insert(RefKey::Ref(name.clone()), record(1, object(3 * at + 2))),
            _ => {}
        }
        latest.insert(RefKey::Ref(name.clone()), record(7, new));
        shown.push(RefMove { name, old: None, new: Some(old), message: String::new() });
    }
    model.move_refs(&project.name, &shown, &[]).await.unwrap();
    materializer.versions.moved(&project, known, Mover::Other).unwrap();

    materializer.materialize_latest(&project, latest).await.unwrap();

    // Every value is kept as a lost one, and two thirds of them as strays too.
    assert_eq!(model.kept(&project.name).len(), 1_000 + 666);
    for single in ["relation", "counter", "share_history"] {
        assert_eq!(counted.calls(single), 0, "{single} is asked for each ref");
    }
    for (many, most) in [("relations", 3), ("counters", 1), ("share_histories", 1)] {
        assert!((1..=most).contains(&counted.calls(many)), "{many}: {} times", counted.calls(many));
    }
}
