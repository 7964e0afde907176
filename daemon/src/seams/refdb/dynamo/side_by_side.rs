//! Tests: records of nodes and incarnations beside those of the release before, in both directions.
//!
//! The items here are written out, and the readers of the earlier release are copied, so that no later change of the
//! code changes what an earlier release wrote or reads. `held`, `owed` and `whole` came after it, and so did
//! `poisoned`, `frees`, `locks`, and roles that end in `/2`.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use lockstep_proto::{Incarnation, LaneId, Seq};

use super::incarnations::Stored;
use super::items::{Item, number, text};
use super::{incarnations, nodes, sites};
use crate::seams::refdb::{Document, IncarnationRecord, IncarnationState, Needs, NodeRecord, Role, SiteRecord};

fn item(attributes: impl IntoIterator<Item = (&'static str, AttributeValue)>) -> Item {
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A node's record as the release before wrote it.
fn old_node() -> Item {
    let low = [("m.1.0".to_owned(), number(7)), ("n.2.3".to_owned(), number(0))];
    item([
        ("pk", text("@nodes")),
        ("sk", text("n")),
        ("site", text("s")),
        ("volume", text("v")),
        ("starts", number(3)),
        ("beat", number(41)),
        ("expelled", AttributeValue::Bool(false)),
        ("low", AttributeValue::M(low.into())),
    ])
}

/// The fields of a node's record that the release before reads. It takes a lane that is not listed as not applied.
#[derive(Debug, PartialEq, Eq)]
struct OldNode {
    condition: (String, String, String, bool),
    site: String,
    low: BTreeMap<LaneId, u64>,
}

fn read_as_before(item: &Item) -> OldNode {
    let text = |name: &str| item[name].as_s().unwrap().clone();
    let number = |name: &str| item[name].as_n().unwrap().clone();
    let low = item["low"].as_m().unwrap().iter();
    OldNode {
        condition: (text("volume"), number("starts"), number("beat"), *item["expelled"].as_bool().unwrap()),
        site: text("site"),
        low: low.map(|(lane, seq)| (lane.parse().unwrap(), seq.as_n().unwrap().parse().unwrap())).collect(),
    }
}

#[test]
fn the_record_of_a_node_of_the_release_before_is_read_and_needs_nothing() {
    let record = nodes::decode(&old_node()).unwrap();
    let low_water = [("m.1.0".parse().unwrap(), Seq(7)), ("n.2.3".parse().unwrap(), Seq(0))].into();
    let first = NodeRecord { frees_names: false, follows_moves: false, ..NodeRecord::first("n", "s") };
    let expected = NodeRecord { starts: 3, beat: 41, low_water, fences_locks: false, ..first };
    assert_eq!(record, expected, "names wait until it runs this release");
    assert_eq!(record.mark(&"m.1.1".parse().unwrap()), Seq(0));
}

#[test]
fn the_release_before_reads_every_record_and_sees_no_mark_higher_than_it_is() {
    let needs = Needs {
        held: [("m.1.0.4.00000000000000aa".parse().unwrap(), "p".parse().unwrap())].into(),
        owed: ["q".parse().unwrap()].into(),
    };
    let record = NodeRecord {
        low_water: [("m.1.0".parse().unwrap(), Seq(7)), ("m.9.0".parse().unwrap(), Seq(2))].into(),
        whole: [("m".parse().unwrap(), Incarnation(8))].into(),
        needs,
        obeys_locks: 17,
        ..NodeRecord::first("n", "s")
    };
    let written = nodes::encode(&record);
    assert_eq!(nodes::decode(&written).as_ref(), Ok(&record));
    let old = read_as_before(&written);
    assert_eq!((old.condition, old.site.as_str()), (("v".into(), "1".into(), "1".into(), false), "s"));
    for lane in ["m.1.0", "m.1.1", "m.8.0", "m.9.0", "m.9.1", "n.1.0"] {
        let lane: LaneId = lane.parse().unwrap();
        let seen = old.low.get(&lane).copied().unwrap_or(0);
        assert!(seen <= record.mark(&lane).0, "{lane}: the release before would collect below {seen}");
    }
    assert_eq!(old.low.len(), 2, "marks that are listed are seen");
}

/// An incarnation's record as the release before wrote it.
fn old_incarnation(state: &str) -> Item {
    let marks = |mark| AttributeValue::L(vec![number(mark), number(0)]);
    item([
        ("pk", text("@incarnations#s")),
        ("sk", text("n.00000000000000000002")),
        ("id", text("n.2")),
        ("site", text("s")),
        ("epoch", number(5)),
        ("state", text(state)),
        ("window", number(8)),
        ("settled", marks(6)),
        ("published", marks(4)),
        ("rev", number(12)),
    ])
}

fn incarnation(state: IncarnationState) -> IncarnationRecord {
    IncarnationRecord {
        id: "n.2".parse().unwrap(),
        site: "s".parse().unwrap(),
        epoch: 5,
        state,
        window: 8,
        settled: vec![Seq(6), Seq(0)],
        published: vec![Seq(4), Seq(0)],
    }
}

fn read(item: &Item) -> (IncarnationRecord, u64) {
    let Stored { record, rev } = incarnations::decode(item).unwrap();
    (record, rev)
}

fn written(state: IncarnationState) -> Item {
    incarnations::encode(&Stored { record: incarnation(state), rev: 12 })
}

#[test]
fn the_record_of_an_incarnation_of_the_release_before_is_read() {
    for (text, state) in
        [("open", IncarnationState::Open), ("frozen", IncarnationState::Frozen), ("drained", IncarnationState::Drained)]
    {
        assert_eq!(read(&old_incarnation(text)), (incarnation(state), 12));
        assert_eq!(written(state), old_incarnation(text), "nothing was added");
    }
}

/// The release before drains a frozen incarnation: it poisons its window again, and publishes. A record that it writes
/// is frozen and no longer poisoned, and this release poisons it again, too.
#[test]
fn the_release_before_takes_a_poisoned_incarnation_for_a_frozen_one() {
    let mut poisoned = written(IncarnationState::Poisoned);
    assert_eq!(read(&poisoned), (incarnation(IncarnationState::Poisoned), 12));
    assert_eq!(poisoned.remove("poisoned"), Some(AttributeValue::Bool(true)));
    assert_eq!(poisoned, old_incarnation("frozen"));
}

/// A site's record, with this text of its role.
fn site(role: &str) -> Item {
    item([("pk", text("@sites")), ("sk", text("s")), ("role", text(role)), ("epoch", number(5))])
}

/// The role that the release before reads. A role that it does not know is an error, and it opens no incarnation.
fn role_as_before(item: &Item) -> Option<Role> {
    let role = item["role"].as_s().unwrap();
    Role::ALL.into_iter().find(|one| one.name() == role)
}

#[test]
fn the_release_before_knows_no_role_of_a_site_that_shuts_it_out() {
    for role in Role::ALL {
        let [before, after, signing] = sites::texts(role);
        assert_eq!(role_as_before(&site(&before)), Some(role));
        assert_eq!([&after, &signing].map(|text| role_as_before(&site(text))), [None, None]);
        for one in [before, after, signing] {
            assert_eq!(sites::decode(&site(&one)).unwrap().role, role, "this release reads all");
        }
    }
}

/// A change of the list of sites is for ever: programs of an earlier release open nothing in that site any more.
#[test]
fn an_added_a_removed_and_a_switched_off_site_shut_out_the_release_before() {
    let listed = |role| SiteRecord::new("s".parse().unwrap(), role, 5);
    let removed = SiteRecord { removed: true, ..listed(Role::Fenced) };
    let (added, standby) = (listed(Role::Standby), listed(Role::Standby));
    let off = SiteRecord { off: true, left: 5, ..listed(Role::Fenced) };
    let changes = [(None, &added), (Some(&standby), &removed), (Some(&removed), &added), (Some(&standby), &off)];
    for (from, to) in changes {
        for role in sites::texts_after(from, to) {
            assert_eq!(role_as_before(&site(&role)), None, "it opens no incarnation: it demands the role `active`");
        }
    }
    // A change of a role lets nobody in again, and shuts out nobody who was in.
    let [in_before, out_before, _] = sites::texts_after(Some(&standby), &listed(Role::Active));
    assert_eq!(role_as_before(&site(&in_before)), Some(Role::Active));
    assert_eq!(role_as_before(&site(&out_before)), None);
}

/// The release before this one read the texts without an end and with `/2`. Once records must be signed, it reads none
/// of the texts that a site can have, and no later change gives it one back.
#[test]
fn a_site_whose_records_are_signed_shuts_out_the_release_that_cannot_sign() {
    let reads = |text: &str| {
        let role = text.strip_suffix("/2").unwrap_or(text).to_owned();
        Role::ALL.into_iter().any(|one| one.name() == role)
    };
    let plain = SiteRecord::new("s".parse().unwrap(), Role::Active, 5);
    let signed = SiteRecord { signed: true, ..plain.clone() };
    let [before, freed, signing] = sites::texts(Role::Active);
    assert!(reads(&before) && reads(&freed) && !reads(&signing));
    for (from, to) in [(None, &signed), (Some(&plain), &signed)] {
        assert!(sites::texts_after(from, to).iter().all(|text| !reads(text)));
    }
    let [.., stays] = sites::texts_after(Some(&signed), &plain);
    assert!(!reads(&stays), "no longer required, and still shut out");
    let shown = SiteRecord { removed: true, ..plain };
    assert!(!sites::shut_out(&shown).contains_key("signed"), "earlier releases wrote no such attribute");
}

/// The release before marks a name as a directory with this value, whatever it was before.
#[test]
fn a_mark_of_the_release_before_is_no_loosened_one() {
    let key = "refs/heads/a".parse().unwrap();
    let loosened = item([("dir", text("n.1.0.4.00000000000000aa"))]);
    let read = super::items::ref_item(&key, &loosened).unwrap();
    assert_eq!((read.directory, read.loosened), (true, Some("n.1.0.4.00000000000000aa".parse().unwrap())));
    let again = item([("dir", AttributeValue::Bool(true))]);
    let read = super::items::ref_item(&key, &again).unwrap();
    assert_eq!((read.directory, read.loosened), (true, None));
}

/// The document of the identity as this release writes it. Releases before read neither its partition nor its key.
#[test]
fn the_identity_is_an_item_of_its_own_that_earlier_releases_do_not_read() {
    let key = super::keys::Key::of_document(Document::Identity);
    assert_eq!((key.pk.as_str(), key.sk.as_str()), ("@identity", "@refdb"));
    let read_before = ["@projects", "@sites", "@nodes", "@gerrit", "@instances", "@went-back", "@failover", "@digests"];
    let by_site = ["@incarnations#", "@highest#", "p#"];
    assert!(!read_before.contains(&key.pk.as_str()) && !by_site.iter().any(|prefix| key.pk.starts_with(prefix)));
    let body = r#"{"id":"0a","state":"ready","table":"","succeeds":[],"tables_before":[],"floor":0}"#;
    let first = lockstep_proto::rebuild::RefdbIdentity::first("0a".to_owned());
    assert_eq!(serde_json::to_string(&first).unwrap(), body, "as every later release must read it");
}
