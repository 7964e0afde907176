//! Generators of wire values. Every value that they make is valid.

#![allow(dead_code, reason = "each test file uses some of them")]

use bytes::Bytes;
use lockstep_proto::announcement::Origin;
use lockstep_proto::{
    Announcement, AnnouncementId, Command, EventBody, Incarnation, IncarnationId, Lane, Locator, NodeId, Oid, Pack,
    ProjectKey, ProjectName, ProjectPhase, ProjectState, RefKey, RefName, RefValue, Seq, SiteId, Slot, Transaction,
    TxnId, Version, limits,
};
use proptest::prelude::*;

pub fn site() -> impl Strategy<Value = SiteId> {
    "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?".prop_map(|text| text.parse().unwrap())
}

pub fn node() -> impl Strategy<Value = NodeId> {
    "[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?".prop_map(|text| text.parse().unwrap())
}

/// Texts of the right shape. Those that break a rule all the same are filtered out.
pub fn project_name() -> impl Strategy<Value = ProjectName> {
    "[a-zA-Z0-9_+é][a-zA-Z0-9_+.é@{}-]{0,12}(/[a-z0-9_][a-z0-9.-]{0,12}){0,3}"
        .prop_filter_map("a project name", |text| text.parse().ok())
}

pub fn ref_name() -> impl Strategy<Value = RefName> {
    "refs/[a-z]{1,8}(/[a-zA-Z0-9_+é%#-][a-zA-Z0-9_+.é@{}-]{0,12}){1,4}"
        .prop_filter_map("a ref name", |text| text.parse().ok())
}

pub fn project() -> impl Strategy<Value = ProjectKey> {
    (project_name(), any::<u32>()).prop_map(|(name, incarnation)| ProjectKey { name, incarnation })
}

pub fn oid() -> impl Strategy<Value = Oid> {
    let sha1 = any::<[u8; 20]>().prop_filter_map("an id", |bytes| Oid::from_bytes(&bytes).ok());
    let sha256 = any::<[u8; 32]>().prop_filter_map("an id", |bytes| Oid::from_bytes(&bytes).ok());
    prop_oneof![sha1, sha256]
}

pub fn incarnation() -> impl Strategy<Value = IncarnationId> {
    (node(), any::<u64>()).prop_map(|(node, number)| IncarnationId { node, number: Incarnation(number) })
}

pub fn slot() -> impl Strategy<Value = Slot> {
    (incarnation(), any::<u8>(), 0..u64::MAX).prop_map(|(id, lane, seq)| id.lane(Lane(lane)).slot(Seq(seq)))
}

pub fn txn_id() -> impl Strategy<Value = TxnId> {
    (slot(), any::<u64>()).prop_map(|(slot, attempt)| slot.txn(attempt))
}

pub fn state() -> impl Strategy<Value = ProjectState> {
    let phases = [ProjectPhase::Active, ProjectPhase::Closing, ProjectPhase::ReadOnly, ProjectPhase::Deleted];
    (prop::sample::select(phases.to_vec()), any::<u32>())
        .prop_map(|(phase, incarnation)| ProjectState { phase, incarnation })
}

pub fn key() -> impl Strategy<Value = RefKey> {
    prop_oneof![1 => Just(RefKey::State), 1 => Just(RefKey::Head), 6 => ref_name().prop_map(RefKey::Ref)]
}

pub fn value() -> impl Strategy<Value = RefValue> {
    prop_oneof![
        Just(RefValue::Absent),
        oid().prop_map(RefValue::Oid),
        ref_name().prop_map(RefValue::Symref),
        state().prop_map(RefValue::State),
    ]
}

/// A value that fits the key.
fn value_of(key: &RefKey) -> BoxedStrategy<RefValue> {
    let some = match key {
        RefKey::State => state().prop_map(RefValue::State).boxed(),
        RefKey::Head => ref_name().prop_map(RefValue::Symref).boxed(),
        RefKey::Ref(_) => oid().prop_map(RefValue::Oid).boxed(),
    };
    prop_oneof![1 => Just(RefValue::Absent), 3 => some].boxed()
}

fn command() -> impl Strategy<Value = Command> {
    let parts = key().prop_flat_map(|key| (value_of(&key), value_of(&key), Just(key)));
    (parts, prop::option::of((txn_id(), 2..u64::MAX))).prop_map(|((old, new, key), before)| match before {
        Some((txn, version)) => Command { key, old, new, version: Version(version), predecessor: Some(txn) },
        None => Command { key, old: RefValue::Absent, new, version: Version(1), predecessor: None },
    })
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    prop::collection::vec(command(), 1..8).prop_map(|mut commands| {
        commands.sort_by(|one, two| one.key.cmp(&two.key));
        commands.dedup_by(|one, two| one.key == two.key);
        commands
    })
}

fn pack() -> impl Strategy<Value = Pack> {
    let inline = prop::collection::vec(any::<u8>(), 1..300).prop_map(|bytes| Pack::Inline(Bytes::from(bytes)));
    let blob = ("[a-z0-9/]{1,60}", any::<u64>(), any::<[u8; 32]>()).prop_map(|(key, bytes, sha256)| Pack::Blob {
        key,
        bytes,
        sha256,
    });
    prop_oneof![Just(Pack::Empty), inline, blob]
}

pub fn transaction() -> impl Strategy<Value = Transaction> {
    let what = (commands(), pack(), prop::collection::vec(oid(), 0..5));
    let who = (txn_id(), site(), project(), any::<u64>(), "[ -~é]{0,80}");
    (who, what, any::<[String; 3]>()).prop_map(|((id, site, project, committed_at_ms, message), what, texts)| {
        let (commands, pack, bases) = what;
        let [request_id, actor, traceparent] = texts;
        let loosens = false;
        Transaction {
            id,
            site,
            project,
            committed_at_ms,
            commands,
            pack,
            bases,
            request_id,
            actor,
            traceparent,
            message,
            loosens,
        }
    })
}

/// A small transaction, the same one at each call.
pub fn small() -> Transaction {
    Transaction {
        id: "eu-aws-0.7.3.1234.00c0ffee00c0ffee".parse().unwrap(),
        site: "eu-aws".parse().unwrap(),
        project: "tools/build#2".parse().unwrap(),
        committed_at_ms: 1_700_000_000_123,
        commands: vec![Command {
            key: "refs/heads/main".parse().unwrap(),
            old: RefValue::Oid(Oid::Sha1([1; 20])),
            new: RefValue::Oid(Oid::Sha1([2; 20])),
            version: Version(5),
            predecessor: Some("muc-1-0.2.0.9.0000000000000001".parse().unwrap()),
        }],
        pack: Pack::Inline(Bytes::from_static(b"PACK")),
        bases: vec![Oid::Sha1([1; 20])],
        request_id: "4f6c".into(),
        actor: "ada".into(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        message: String::new(),
        loosens: false,
    }
}

/// A transaction that loosens `refs/heads/a`, which never was a ref.
pub fn loosening() -> Transaction {
    let command = Command {
        key: "refs/heads/a".parse().unwrap(),
        old: RefValue::Absent,
        new: RefValue::Absent,
        version: Version(1),
        predecessor: None,
    };
    let (pack, bases) = (Pack::Empty, Vec::new());
    Transaction { commands: vec![command], pack, bases, loosens: true, ..small() }
}

/// The locator of the small transaction.
pub fn located() -> Locator {
    Locator::of(&small(), small().encode().len() as u64, [7; 32])
}

/// The largest transaction of ordinary commands that the caps allow.
pub fn large() -> Transaction {
    let command = |index: usize| Command {
        key: format!("refs/heads/{}/{index:03}", "n".repeat(limits::NAME_COMPONENT_BYTES)).parse().unwrap(),
        ..small().commands.remove(0)
    };
    Transaction {
        commands: (0..limits::WRITE_COMMANDS).map(command).collect(),
        pack: Pack::Inline(vec![7; limits::INLINE_PACK_BYTES].into()),
        bases: (0..limits::INLINE_BASES).map(|index| Oid::Sha1([1 + (index % 255) as u8; 20])).collect(),
        actor: "a".repeat(limits::TEXT_BYTES),
        ..small()
    }
}

pub fn announcement_id() -> impl Strategy<Value = AnnouncementId> {
    (node(), any::<u64>(), any::<u64>(), 0..u64::MAX)
        .prop_map(|(node, start, life, seq)| AnnouncementId { origin: Origin { node, start, life }, seq })
}

fn needs() -> impl Strategy<Value = Vec<(RefKey, Version)>> {
    let needs = prop::collection::btree_map(key(), (1..u64::MAX).prop_map(Version), 0..6);
    needs.prop_map(|needs| needs.into_iter().collect())
}

pub fn body() -> impl Strategy<Value = EventBody> {
    ("[a-zé\"\\\\ ]{0,40}", any::<f64>()).prop_map(|(text, number)| {
        let body = serde_json::json!({ "type": text, "eventCreatedOn": number }).to_string();
        EventBody::new(&body).unwrap()
    })
}

pub fn announcement() -> impl Strategy<Value = Announcement> {
    let about = prop::option::of((project(), prop::option::of(any::<u64>()), needs()));
    let what = ("[!-~]{1,128}", "[a-z-]{1,128}", body());
    (announcement_id(), site(), any::<u64>(), project_name(), about, what).prop_map(
        |(id, site, announced_at_ms, any_project, about, (event_id, kind, body))| {
            let (project, change, needs) = match about {
                Some((project, change, needs)) => (Some(project), change, needs),
                None => (None, None, Vec::new()),
            };
            let carrier = project.as_ref().map_or(any_project, |project| project.name.clone());
            Announcement { id, site, announced_at_ms, carrier, event_id, kind, project, change, needs, body }
        },
    )
}

/// A small announcement, the same one at each call.
pub fn patch_set() -> Announcement {
    Announcement {
        id: AnnouncementId {
            origin: Origin { node: "eu-aws-0".parse().unwrap(), start: 7, life: 0x00c0_ffee_00c0_ffee },
            seq: 41,
        },
        site: "eu-aws".parse().unwrap(),
        announced_at_ms: 1_700_000_000_123,
        carrier: "tools/build".parse().unwrap(),
        event_id: "3f6c1c9e".into(),
        kind: "patchset-created".into(),
        project: Some("tools/build#2".parse().unwrap()),
        change: Some(12),
        needs: vec![
            ("refs/changes/12/12/1".parse().unwrap(), Version(1)),
            ("refs/changes/12/12/meta".parse().unwrap(), Version(3)),
        ],
        body: EventBody::new(r#"{"type":"patchset-created","patchSet":{"number":1},"eventCreatedOn":1700000000}"#)
            .unwrap(),
    }
}
