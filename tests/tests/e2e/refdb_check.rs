//! `lockstep refdb check` and `backup` read the tables of a running cluster: a sound refdb, and one with a damaged
//! item.

use lockstep::seams::refdb::{RebuildAnswer, Rebuilt, RefDb, RefItem};
use lockstep::state::bound_refdb;
use lockstep_proto::{ProjectKey, RefKey};
use lockstep_tests::e2e::cluster::Cluster;
use lockstep_tests::e2e::git::{Clone, ok};

use crate::lockstep;

#[tokio::test(flavor = "multi_thread")]
async fn a_check_reads_everything_and_tells_a_damaged_item_without_changing_it() {
    let cluster = Cluster::start(lockstep(), &["a-0", "b-0"]).await;
    cluster.create("p").await;
    let clone = Clone::new(&cluster.scratch("clone"));
    let one = clone.commit(None, "one");
    let names = ["refs/heads/main", "refs/heads/a/b", "refs/tags/t"];
    let specs = names.map(|name| format!("{one}:{name}"));
    let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
    let _ = ok(clone.push(&cluster.nodes[0].repository("p"), &[], &specs).await);
    let config = cluster.nodes[1].home.join("lockstep.toml");
    let args = ["refdb", "check", "--config", config.to_str().expect("a path")];
    let sound = cluster.nodes[1].cli(&args).await;
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    let said = String::from_utf8_lossy(&sound.stdout).into_owned();
    assert!(said.contains("1 projects") && said.contains("no findings"), "{said}");
    let json: serde_json::Value =
        serde_json::from_str(&ok(cluster.nodes[1].cli(&[&args[..], &["--json"]].concat()).await)).expect("JSON");
    assert!(json.is_object(), "{json}");

    backups(&cluster).await;

    // A ref whose folder is not marked, as no commit writes it.
    let refdb = RefDb::of(&cluster.raw);
    let (revision, _) = bound_refdb::read(&refdb).await.expect("an answer").expect("an identity");
    let project: ProjectKey = "p#1".parse().expect("a project");
    let key = RefKey::Ref("refs/heads/q/r".parse().expect("a name"));
    let before = refdb.refs.scan(&project, None, 100).await.expect("a scan");
    let like = before.iter().find(|item| item.value.oid().is_some()).expect("a ref").clone();
    let damage = Rebuilt::Ref(project.clone(), RefItem { key: key.clone(), ..like });
    assert_eq!(refdb.setup.rebuild(&[damage], revision).await, Ok(RebuildAnswer::Written));
    let written = refdb.refs.scan(&project, None, 100).await.expect("a scan");
    let damaged = cluster.nodes[1].cli(&args).await;
    assert_eq!(damaged.status.code(), Some(2), "{damaged:?}");
    let said = String::from_utf8_lossy(&damaged.stdout).into_owned();
    assert!(said.contains("p#1 refs/heads/q/r: it is live, and refs/heads/q above it is not marked"), "{said}");
    assert_eq!(refdb.refs.scan(&project, None, 100).await, Ok(written), "a check changes nothing");
}

/// A file in a folder, which is verified without the refdb, and refused once it is cut off. The emulator makes no
/// backups of its tables.
async fn backups(cluster: &Cluster) {
    let (node, folder) = (&cluster.nodes[1], cluster.scratch("backups"));
    std::fs::create_dir_all(&folder).expect("a folder");
    let config = node.home.join("lockstep.toml");
    let backup = ["refdb", "backup", "--config", config.to_str().expect("a path")];
    let to = ["--json", "--to", folder.to_str().expect("a path")];
    let written = ok(node.cli(&[&backup[..], &to].concat()).await);
    let written: serde_json::Value = serde_json::from_str(&written).expect("JSON");
    let counts = &written["end"]["counts"];
    assert_eq!((&counts["projects"], &counts["nodes"]), (&serde_json::json!(1), &serde_json::json!(2)), "{written}");
    assert!(counts["refs"].as_u64() >= Some(3), "{written}");
    let file = written["file"].as_str().expect("a path");
    let told = ok(node.cli(&["refdb", "backup", "--check", file]).await);
    assert!(told.contains("whole") && told.contains(written["end"]["sha256"].as_str().expect("a checksum")), "{told}");
    let whole = std::fs::read(file).expect("the file");
    std::fs::write(file, &whole[..whole.len() / 2]).expect("it can be cut off");
    let refused = node.cli(&["refdb", "backup", "--check", file]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cut off"), "{refused:?}");
    let none = node.cli(&backup).await;
    assert_eq!(none.status.code(), Some(3), "{none:?}");
    assert!(String::from_utf8_lossy(&none.stderr).contains("refdb backup --to FILE"), "{none:?}");
}
