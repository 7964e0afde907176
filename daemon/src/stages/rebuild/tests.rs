//! Tests of the stage on seams in memory: pages, the merge of several nodes, and runs that meet each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::rebuild::{
    Builder, LEAP, Rebuild, RebuildRequest, RefdbIdentity, SourceVolume, VersionsEntry, VersionsHead,
};
use lockstep_proto::{Oid, ProjectKey, RefKey, RefValue, Version};

use super::checks::Lineage;
use super::error::RebuildError;
use super::merge::Merge;
use super::pages::VersionPages;
use super::reader::{Reader, Way, cursor};
use super::target::{Target, wanted};
use crate::base::clock::{Entropy, SeededEntropy};
use crate::base::faults::injected_bug::InjectedBugs;
use crate::seams::refdb::Rebuilt;
use crate::seams::refdb::memory::MemoryTables;
use crate::seams::volume::RefRecord;
use crate::state::context::{NodeContext, NodeState};
use crate::state::version_map::Mover;

fn oid(byte: u8) -> RefValue {
    RefValue::Oid(Oid::from_bytes(&[byte; 20]).unwrap())
}

fn record(version: u64, value: RefValue, node: &str) -> RefRecord {
    let txn = format!("{node}.1.0.{version}.00000000000000aa").parse().unwrap();
    RefRecord { version: Version(version), value, txn }
}

fn key(text: &str) -> RefKey {
    text.parse().unwrap()
}

fn know(state: &NodeState, project: &str, records: impl IntoIterator<Item = (RefKey, RefRecord)>) {
    let records: BTreeMap<RefKey, RefRecord> = records.into_iter().collect();
    state.versions.moved(&project.parse().unwrap(), records, Mover::Other).unwrap();
}

fn pages(context: &NodeContext, state: &NodeState) -> Arc<VersionPages> {
    Arc::new(VersionPages::new(context, state, Arc::new(|| false)))
}

fn node() -> (NodeContext, NodeState) {
    let context = NodeContext::in_memory();
    let state = NodeState::load(&context, Duration::ZERO).unwrap();
    (context, state)
}

async fn read_all(reader: &mut Reader) -> Result<Vec<VersionsEntry>, RebuildError> {
    let mut all = Vec::new();
    while reader.peek().await?.is_some() {
        all.extend(reader.take());
    }
    Ok(all)
}

#[tokio::test]
async fn pages_have_every_ref_once_and_in_order_and_deleted_projects_have_their_state_alone() {
    let (context, state) = node();
    let names: Vec<String> = (0..9_000).map(|n| format!("refs/changes/{:02}/{n}/meta", n % 100)).collect();
    know(&state, "p#1", [(RefKey::State, record(1, "state:active#1".parse().unwrap(), "n"))]);
    know(&state, "p#1", names.iter().map(|name| (key(name), record(1, oid(1), "n"))));
    know(&state, "q#2", [(RefKey::State, record(4, "state:deleted#2".parse().unwrap(), "n"))]);
    know(&state, "q#2", [(key("refs/heads/a"), record(1, oid(1), "n"))]);
    let mut reader = Reader::open(Way::Own(pages(&context, &state))).await.unwrap();
    let all = read_all(&mut reader).await.unwrap();
    assert_eq!(all.len(), 9_002);
    assert!(all.is_sorted_by(|one, other| cursor(one) < cursor(other)));
    assert_eq!((all[0].key.clone(), all[9_001].project.to_string()), (RefKey::State, "q#2".to_owned()));
    reader.look_again().await.unwrap();
}

#[tokio::test]
async fn a_map_that_changes_between_two_pages_is_seen() {
    let (context, state) = node();
    know(&state, "p#1", [(RefKey::State, record(1, "state:active#1".parse().unwrap(), "n"))]);
    let mut reader = Reader::open(Way::Own(pages(&context, &state))).await.unwrap();
    assert_eq!(read_all(&mut reader).await.unwrap().len(), 1);
    know(&state, "p#1", [(key("refs/heads/a"), record(1, oid(1), "n"))]);
    assert!(matches!(reader.look_again().await, Err(RebuildError::Changed(_))));
}

/// The heads of one node per site.
fn heads<const N: usize>(sites: [&str; N]) -> Vec<VersionsHead> {
    let (context, state) = node();
    let head = pages(&context, &state).page(&Default::default()).unwrap().head;
    let of = |site: &str| VersionsHead { site: site.parse().unwrap(), node: site.parse().unwrap(), ..head.clone() };
    sites.map(of).into()
}

fn entry(project: &str, name: &str, record: RefRecord) -> VersionsEntry {
    let RefRecord { version, value, txn } = record;
    VersionsEntry { project: project.parse().unwrap(), key: key(name), version, value, txn }
}

fn request() -> RebuildRequest {
    let from_sites = Vec::new();
    RebuildRequest { into: "next".into(), from_sites, dry_run: false, take_over: false, lost: false, moves: None }
}

#[test]
fn the_highest_version_wins_and_forks_are_told() {
    let heads = heads(["a", "b", "c"]);
    let mut merge = Merge::new(&heads.iter().collect::<Vec<_>>());
    let mut report = Rebuild::begun(&request());
    let mut step = |entries: Vec<(usize, VersionsEntry)>| -> Vec<String> {
        let items = merge.step(entries, &mut report);
        let text = |item: Rebuilt| match item {
            Rebuilt::Ref(project, item) => format!("{project} {}@{} {}", item.key, item.version.0 - LEAP, item.value),
            Rebuilt::Directory(_, name) => format!("folder {name}"),
            Rebuilt::Site(_) | Rebuilt::Document(..) => "no ref".to_owned(),
        };
        items.into_iter().map(text).collect()
    };
    let state = |version, text: &str| record(version, text.parse().unwrap(), "n");
    let created = step(vec![
        (0, entry("p#1", "@state", state(1, "state:active#1"))),
        (1, entry("p#2", "@state", state(3, "state:active#2"))),
        (2, entry("p#2", "@state", state(3, "state:active#2"))),
    ]);
    assert_eq!(created, ["p#2 @state@3 state:active#2"]);
    // A ref of the creation before is no ref of this one.
    assert_eq!(step(vec![(0, entry("p#1", "refs/heads/a", record(9, oid(9), "n")))]), Vec::<String>::new());
    let newer = step(vec![
        (1, entry("p#2", "refs/heads/a/b", record(5, oid(5), "n"))),
        (2, entry("p#2", "refs/heads/a/b", record(6, oid(6), "n"))),
    ]);
    assert_eq!(newer, ["folder refs/heads/a".to_owned(), format!("p#2 refs/heads/a/b@6 {}", oid(6))]);
    let again = step(vec![(1, entry("p#2", "refs/heads/a/c", record(1, oid(1), "n")))]);
    assert_eq!(again, [format!("p#2 refs/heads/a/c@1 {}", oid(1))], "the folder is marked already");
    let gone = step(vec![
        (1, entry("p#2", "refs/heads/d", record(1, oid(1), "n"))),
        (2, entry("p#2", "refs/heads/d", record(2, RefValue::Absent, "n"))),
    ]);
    assert_eq!(gone, ["p#2 refs/heads/d@2 absent"], "a deletion is a version like any other");
    let fork = step(vec![
        (0, entry("p#2", "refs/heads/e", record(4, oid(3), "m"))),
        (1, entry("p#2", "refs/heads/e", record(4, oid(4), "k"))),
        (2, entry("p#2", "refs/heads/e", record(4, oid(4), "k"))),
    ]);
    assert_eq!(fork, [format!("p#2 refs/heads/e@4 {}", oid(4))], "two sites have it");
    let sources = merge.sources();
    assert_eq!(sources.iter().map(|source| source.behind).collect::<Vec<_>>(), [1, 2, 0]);
    assert_eq!(sources.iter().map(|source| source.alone).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!((report.projects, report.refs, report.tombstones, report.contradicted), (1, 3, 1, 1));
    assert!(report.contradictions[0].taken.contains("b, c") && report.contradictions[0].others.len() == 1);
}

async fn claim(tables: &MemoryTables, node: &str, run: u64, takes_over: bool) -> Result<Target, RebuildError> {
    let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(run));
    let by = Builder { node: node.parse().unwrap(), run };
    claim_with(tables, entropy, by, run, takes_over, &["a"]).await
}

async fn claim_with(
    tables: &MemoryTables,
    entropy: Arc<dyn Entropy>,
    by: Builder,
    run: u64,
    takes_over: bool,
    sources: &[&str],
) -> Result<Target, RebuildError> {
    let lineage = Lineage { ids: vec!["old".to_owned()], ..Lineage::default() };
    let source = |node: &&str| SourceVolume { node: node.parse().unwrap(), volume: format!("volume of {node}") };
    let sources = sources.iter().map(source).collect();
    let wanted = RefdbIdentity { sources, ..wanted("next", format!("{run:032x}"), lineage, LEAP, by) };
    Target::claim(tables.at("next").refdb(), entropy, wanted, takes_over, InjectedBugs::default()).await
}

fn item(project: &str, name: &str, value: RefValue) -> Rebuilt {
    let heads = heads(["a"]);
    let mut merge = Merge::new(&heads.iter().collect::<Vec<_>>());
    let state = record(1, "state:active#1".parse().unwrap(), "n");
    let mut report = Rebuild::begun(&request());
    merge.step(vec![(0, entry(project, "@state", state))], &mut report);
    merge.step(vec![(0, entry(project, name, record(1, value, "n")))], &mut report).pop().unwrap()
}

#[tokio::test]
async fn a_run_goes_on_with_its_own_refdb_and_takes_over_another_ones_when_told() {
    let tables = MemoryTables::default();
    let mut first = claim(&tables, "a", 1, false).await.unwrap();
    let id = first.id().to_owned();
    assert!(matches!(claim(&tables, "b", 2, false).await, Err(RebuildError::OtherRun(_))));
    let again = claim(&tables, "a", 3, false).await.unwrap();
    assert_eq!(again.id(), id, "after a restart of its node");
    first.put(vec![item("p#1", "refs/heads/a", oid(1))]).await.unwrap();
    assert_eq!(first.complete().await, Err(RebuildError::Superseded));
    let second = claim(&tables, "b", 4, true).await.unwrap();
    assert_eq!(again.complete().await, Err(RebuildError::Superseded));
    assert_eq!(second.id(), id);
    assert_eq!(second.complete().await, Ok(()));
    let refdb = tables.at("next").refdb();
    assert!(refdb.refs.scan(&"p#1".parse::<ProjectKey>().unwrap(), None, 9).await.unwrap().is_empty());
    assert!(matches!(claim(&tables, "a", 5, true).await, Err(RebuildError::Complete { .. })));
}

#[tokio::test]
async fn a_run_that_does_not_read_all_that_the_run_before_has_read_does_not_go_on() {
    let tables = MemoryTables::default();
    let run = async |run: u64, sources: &[&str]| {
        let by = Builder { node: "a".parse().unwrap(), run };
        claim_with(&tables, Arc::new(SeededEntropy::new(run)), by, run, true, sources).await
    };
    run(1, &["a", "x"]).await.unwrap();
    for fewer in [&["a"][..], &["a", "y"]] {
        let refused = run(2, fewer).await.err();
        assert_eq!(refused, Some(RebuildError::KnowsLess(vec!["x".parse().unwrap()])), "{fewer:?}");
    }
    run(3, &["a", "x", "y"]).await.unwrap();
    let refused = run(4, &["a", "x"]).await.err();
    assert_eq!(refused, Some(RebuildError::KnowsLess(vec!["y".parse().unwrap()])));
}

#[tokio::test]
async fn a_volume_that_never_asked_a_refdb_is_not_whole_and_a_page_of_long_names_is_bounded() {
    let (context, state) = node();
    let pages = pages(&context, &state);
    assert!(pages.page(&Default::default()).unwrap().head.reconciles);
    know(&state, "p#1", [(RefKey::State, record(1, "state:active#1".parse().unwrap(), "n"))]);
    let folder = ["a", "b", "c"].map(|letter| letter.repeat(230)).join("/");
    let names = (0..2_000).map(|n| format!("refs/heads/{folder}/{n:04}"));
    know(&state, "p#1", names.map(|name| (key(&name), record(1, oid(1), "n"))));
    let page = pages.page(&Default::default()).unwrap();
    assert!(!page.head.reconciles);
    let bytes = serde_json::to_vec(&page).unwrap().len();
    assert!(page.next.is_some() && bytes < 600 * 1024, "{bytes}");
    let mut reader = Reader::open(Way::Own(pages)).await.unwrap();
    assert_eq!(read_all(&mut reader).await.unwrap().len(), 2_001);
}

#[tokio::test]
async fn a_refdb_with_content_and_without_a_mark_is_left_alone() {
    let tables = MemoryTables::default();
    let refdb = tables.at("next").refdb();
    refdb.sites.enroll_site(&"s".parse().unwrap(), crate::seams::refdb::Role::Active).await.unwrap();
    assert!(matches!(claim(&tables, "a", 1, true).await, Err(RebuildError::NotEmpty(_))));
    let ready = RefdbIdentity::first("whose".to_owned());
    crate::state::bound_refdb::write(&refdb, 0, &ready).await.unwrap();
    assert!(matches!(claim(&tables, "a", 1, true).await, Err(RebuildError::Complete { .. })));
}

#[tokio::test]
async fn maps_that_exclude_each_other_are_refused() {
    let tables = MemoryTables::default();
    let mut target = claim(&tables, "a", 1, false).await.unwrap();
    let folder = Rebuilt::Directory("p#1".parse().unwrap(), "refs/heads/a".parse().unwrap());
    let items = vec![item("p#1", "refs/heads/a", oid(1)), folder, item("p#1", "refs/heads/a/b", oid(2))];
    target.put(items).await.unwrap();
    assert!(matches!(target.complete().await, Err(RebuildError::NamesExclude(..))));
}
