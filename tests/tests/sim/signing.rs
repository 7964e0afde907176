//! Stories of signed records: keys that come and go, records from before the requirement, and forged ones.

use bytes::Bytes;
use lockstep::seams::refdb::DigestRecord;
use lockstep_proto::bridge::Outcome;
use lockstep_proto::keys::{ChangeKeyRequest, KeyState, RequireSigningRequest};
use lockstep_proto::transaction::signature::split;
use lockstep_proto::{Command, KeyId, NodeId, Oid, Record, RefKey, RefValue, SiteId, Transaction};
use lockstep_tests::sim::faults::{Cut, Seam};
use lockstep_tests::sim::keys::{key_of, stripped};
use lockstep_tests::sim::story::{Story, node, p0, tell, tell_of_locks};

const BRANCH: &str = "refs/heads/b0";

/// Gives every node a key of its site, by number, and starts the nodes again.
async fn give_all(story: &Story, number: u8) {
    for one in story.world.nodes() {
        story.world.keys.give(&one, Some(number));
        story.restart(&[one.as_str()]).await;
    }
}

/// Has every node tell with which key it signs, as its sidecar does.
async fn tell_all(story: &Story, number: u8) {
    for one in story.world.nodes() {
        let site = site_of(&one);
        let key = key_of(&site, number).unwrap().id();
        let body = format!(r#"{{"format":1,"site":"{site}","node":"{one}","at_ms":1,"signs_with":"{key}"}}"#);
        story.world.refdb().nodes.put_digest(&DigestRecord { node: one, body }).await.unwrap();
    }
}

fn site_of(one: &NodeId) -> SiteId {
    one.as_str().rsplit_once('-').unwrap().0.parse().unwrap()
}

fn require() -> RequireSigningRequest {
    RequireSigningRequest { required: true, reason: "test".to_owned() }
}

/// Every node signs, and records must be signed.
async fn signed(story: &Story) {
    give_all(story, 0).await;
    story.world.require_signatures(true).await;
    story.pass(3_000).await;
    story.converge().await;
}

async fn push(story: &Story, at: &str, id: &str, old: Option<Oid>) -> Oid {
    let object = story.object(at, &p0());
    // A site that has just ended its incarnation refuses for a moment.
    story
        .until("the push is committed", async || {
            let answer = story.push(at, id, &p0(), (BRANCH, old, Some(object))).await;
            answer.is_ok_and(|answer| answer.outcome == Outcome::Committed)
        })
        .await;
    object
}

fn committed(story: &Story, request: &str) -> Transaction {
    let known = story.world.watch.known();
    Transaction::clone(known.facts.transactions.values().find(|one| one.request_id == request).unwrap())
}

fn record(story: &Story, request: &str) -> Bytes {
    let id = committed(story, request).id;
    story.world.watch.known().facts.encoded[&id].clone()
}

/// Writes a record into the stream of a site, as somebody else who may write there.
async fn forge(story: &Story, site: &SiteId, data: Bytes) {
    story.world.watch.known().mirror.forged.insert(data.clone());
    story.world.append_raw(site, "p0", data).await;
}

/// The next step of the branch, which fits in every detail. Nobody has committed it.
fn next_step(story: &Story, request: &str, to: Oid) -> Transaction {
    let last = committed(story, request);
    let command = Command {
        key: RefKey::Ref(BRANCH.parse().unwrap()),
        old: last.commands[0].new.clone(),
        new: RefValue::Oid(to),
        version: last.commands[0].version.next(),
        predecessor: Some(last.id.clone()),
    };
    let mut id = last.id.clone();
    (id.slot.seq, id.attempt) = (id.slot.seq.next(), 7);
    Transaction { commands: vec![command], ..Transaction::empty(id, last.site.clone(), last.project.clone()) }
}

fn quarantined(story: &Story, at: &str) -> Vec<String> {
    story.volume(at).store().quarantined().unwrap().into_keys().collect()
}

fn reads(story: &Story, at: &str, object: Oid) -> bool {
    story.volume(at).refs(&p0()).values().any(|oid| *oid == object)
}

/// Without signatures this step is applied everywhere: `docs/security.md` says so.
#[test]
fn a_step_that_fits_in_every_detail_and_was_not_committed_is_applied_nowhere() {
    tell(async |story| {
        signed(story).await;
        let one = push(story, "muc-1-0", "one", None).await;
        story.converge().await;
        let forged = next_step(story, "one", one);
        forge(story, &forged.site, forged.encode()).await;
        let kept = async || {
            let all = story.world.nodes();
            all.iter().all(|at| quarantined(story, at.as_str()).contains(&forged.id.to_string()))
        };
        story.until("every node has the forged record in quarantine", kept).await;
        // The slot of the forged record gets a true transaction.
        let two = push(story, "muc-1-0", "two", Some(one)).await;
        story.converge().await;
        assert!(reads(story, "blr-1-0", two));
    });
}

#[test]
fn a_stripped_copy_is_set_aside_and_the_truth_is_taken_from_the_journal() {
    tell(async |story| {
        signed(story).await;
        story.cut("muc-1-0", Seam::EventLog, Some(Cut::Requests));
        let one = push(story, "muc-1-0", "one", None).await;
        let truth = record(story, "one");
        assert!(split(&truth).unwrap().1.is_some(), "the slot has the signature");
        forge(story, &"muc-1".parse().unwrap(), stripped(&truth)).await;
        let shown = async || reads(story, "blr-1-0", one);
        story.until("the true commit is applied before it is published", shown).await;
        let names = quarantined(story, "blr-1-0");
        assert!(names.len() == 1 && names[0].contains("/copy-"), "{names:?}");
        story.cut("muc-1-0", Seam::EventLog, None);
        story.converge().await;
    });
}

/// A push that everybody has read: a reader without a position asks the journal before it reads.
async fn first(story: &Story) -> Oid {
    let zero = push(story, "muc-1-0", "zero", None).await;
    story.converge().await;
    zero
}

/// The records are in the stream when the requirement begins. Nobody signed them, and they are true.
#[test]
fn records_from_before_the_requirement_arrive_without_an_alarm() {
    tell(async |story| {
        let zero = first(story).await;
        story.cut("blr-1-0", Seam::EventLog, Some(Cut::Requests));
        // The sweeper reads slots from the journal too.
        story.bar("blr-1-0", Some("incarnations"));
        let one = push(story, "muc-1-0", "one", Some(zero)).await;
        assert!(split(&record(story, "one")).unwrap().1.is_none());
        for at in ["eu-aws-0", "eu-aws-1", "muc-1-0"] {
            story.world.keys.give(&node(at), Some(0));
            story.restart(&[at]).await;
        }
        story.world.require_signatures(true).await;
        let two = push(story, "muc-1-0", "two", Some(one)).await;
        assert!(split(&record(story, "two")).unwrap().1.is_some());
        story.pass(3_000).await;
        story.cut("blr-1-0", Seam::EventLog, None);
        story.until("both arrive", async || reads(story, "blr-1-0", two)).await;
        story.bar("blr-1-0", None);
        story.world.keys.give(&node("blr-1-0"), Some(0));
        story.restart(&["blr-1-0"]).await;
        story.converge().await;
        assert_eq!(quarantined(story, "blr-1-0"), Vec::<String>::new());
        let unsigned = story.world.trace.text();
        assert!(unsigned.contains("a record without a good signature: true"), "it was held against the journal");
    });
}

#[test]
fn a_node_without_a_key_commits_nothing_where_records_must_be_signed() {
    tell(async |story| {
        let desk = story.life("eu-aws-0").node.operators().unwrap();
        let refused = desk.require_signing("test", require()).await.unwrap_err().message;
        assert!(refused.contains("do not sign") && refused.contains("blr-1-0"), "{refused}");
        give_all(story, 0).await;
        tell_all(story, 0).await;
        let desk = story.life("eu-aws-0").node.operators().unwrap();
        let status = desk.require_signing("test", require()).await.unwrap();
        assert!(status.sites.iter().all(|site| site.required) && status.unsigned_nodes.is_empty(), "{status:?}");
        assert_eq!(status.keys.len(), 3, "each site has registered its key");
        let one = push(story, "blr-1-0", "one", None).await;
        assert!(split(&record(story, "one")).unwrap().1.is_some());
        story.world.keys.give(&node("blr-1-0"), None);
        // It serves reads all the same.
        story.restart(&["blr-1-0"]).await;
        let object = story.object("blr-1-0", &p0());
        story
            .until("the refusal says what is missing", async || {
                let answer = story.push("blr-1-0", "two", &p0(), (BRANCH, Some(one), Some(object))).await;
                answer.is_err_and(|error| error.message.contains("signing.key_file"))
            })
            .await;
        // It goes on applying what others commit.
        let three = push(story, "muc-1-0", "three", Some(one)).await;
        story.until("it applies", async || reads(story, "blr-1-0", three)).await;
        let released = RequireSigningRequest { required: false, ..require() };
        let desk = story.life("eu-aws-0").node.operators().unwrap();
        desk.require_signing("test", released).await.unwrap();
        let four = push(story, "blr-1-0", "four", Some(three)).await;
        story.converge().await;
        assert!(reads(story, "muc-1-0", four));
    });
}

/// Clients push while every node gets a new key, one after the other. No record is quarantined. The old key is
/// dropped only when nothing that it signed is needed any more.
#[test]
fn keys_are_replaced_while_commits_go_on() {
    tell(async |story| {
        signed(story).await;
        let desk = async || story.life("eu-aws-0").node.operators().unwrap();
        let key = |site: &str, number| key_of(&site.parse().unwrap(), number).unwrap().id();
        let old = key("muc-1", 0);
        let to = |state| ChangeKeyRequest { key: old, state, reason: "test".to_owned() };
        let refused = desk().await.change_key("test", to(KeyState::Retired)).await.unwrap_err().message;
        assert!(refused.contains("signs at muc-1-0"), "{refused}");
        let mut last = None;
        for (number, one) in story.world.nodes().into_iter().enumerate() {
            let before = push(story, "eu-aws-1", &format!("before-{number}"), last).await;
            story.world.keys.give(&one, Some(1));
            story.restart(&[one.as_str()]).await;
            last = Some(push(story, one.as_str(), &format!("after-{number}"), Some(before)).await);
        }
        let refused = desk().await.change_key("test", to(KeyState::Dropped)).await.unwrap_err().message;
        assert!(refused.contains("retire it first"), "{refused}");
        let status = desk().await.change_key("test", to(KeyState::Retired)).await.unwrap();
        let state = |key: KeyId| status.keys.iter().find(|one| one.id == key).map(|one| one.state);
        assert_eq!([state(old), state(key("muc-1", 1))], [Some(KeyState::Retired), Some(KeyState::Valid)]);
        story.converge().await;
        let dropped = async || desk().await.change_key("test", to(KeyState::Dropped)).await.is_ok();
        story.until("the journal of its incarnations is collected", dropped).await;
        for at in story.world.nodes() {
            assert_eq!(quarantined(story, at.as_str()), Vec::<String>::new(), "{at}");
        }
    });
}

/// Gives `muc-1-0` a new key, and drops the old one when the journal of its incarnations is collected.
async fn replace_key(story: &Story) {
    let old = key_of(&"muc-1".parse().unwrap(), 0).unwrap().id();
    story.world.keys.give(&node("muc-1-0"), Some(1));
    story.restart(&["muc-1-0"]).await;
    let change = |state| ChangeKeyRequest { key: old, state, reason: "test".to_owned() };
    let desk = story.life("eu-aws-0").node.operators().unwrap();
    desk.change_key("test", change(KeyState::Retired)).await.unwrap();
    let dropped = async || desk.change_key("test", change(KeyState::Dropped)).await.is_ok();
    story.until("the key is dropped", dropped).await;
}

/// A stream may keep what a dropped key has signed. A node that begins at the oldest record reads it again, when
/// slots, long forms and a project are gone. Nothing of it moves a ref, and none of it is an alarm.
#[test]
fn a_new_volume_reads_the_records_of_a_dropped_key_without_an_alarm() {
    tell_of_locks(async |story| {
        signed(story).await;
        let one = push(story, "muc-1-0", "one", None).await;
        let [left, right] = [story.object("muc-1-0", &p0()), story.object("muc-1-0", &p0())];
        let steps = [("refs/heads/left", None, Some(left)), ("refs/heads/right", None, Some(right))];
        let pair = story.push_all("muc-1-0", "pair", &p0(), &steps).await.unwrap();
        assert_eq!(pair.outcome, Outcome::Committed);
        let gone = "p1".parse().unwrap();
        assert_eq!(story.create("muc-1-0", "create", &gone, BRANCH).await.outcome, Outcome::Committed);
        let object = story.object("muc-1-0", &gone);
        let inside = story.push("muc-1-0", "inside", &gone, (BRANCH, None, Some(object))).await.unwrap();
        assert_eq!(inside.outcome, Outcome::Committed);
        assert_eq!(story.delete("muc-1-0", "delete", &gone).await.outcome, Outcome::Committed);
        story.converge().await;
        replace_key(story).await;
        let is_located = matches!(Record::decode(&record(story, "pair")), Ok(Record::Located(_)));
        assert!(is_located, "the record of several refs says where its long form is");
        let repeated = || story.world.trace.text().matches("a record without a good signature: repeated").count();
        let before = repeated();
        assert!(story.world.lose_disk(&node("blr-1-0")), "the node must be up");
        story.start("blr-1-0").await;
        // One push, another one of two refs, and a project: created, pushed to, closed and deleted.
        story.until("the old records are read again", async || repeated() >= before + 6).await;
        story.converge().await;
        assert!(!story.world.trace.text().contains("a record without a good signature: forged"));
        assert_eq!(quarantined(story, "blr-1-0"), Vec::<String>::new());
        assert!([one, left, right].into_iter().all(|object| reads(story, "blr-1-0", object)));
    });
}

#[test]
fn a_record_under_a_dropped_key_is_forged() {
    tell(async |story| {
        signed(story).await;
        let one = push(story, "muc-1-0", "one", None).await;
        story.converge().await;
        let refdb = lockstep::state::bound_refdb::read(&story.world.refdb()).await.unwrap().unwrap().1.id;
        let stolen = key_of(&"muc-1".parse().unwrap(), 0).unwrap();
        replace_key(story).await;
        // A node reads the keys every half minute.
        story.pass(35_000).await;
        let forged = next_step(story, "one", one);
        let body = forged.encode();
        let signature = stolen.sign(&refdb, &body).unwrap();
        forge(story, &forged.site, signature.append_to(&body)).await;
        // Its slot is below the published mark, so a true transaction may have been there: it is kept as a copy.
        let copy = format!("{}/copy-", forged.id);
        let kept = async || quarantined(story, "blr-1-0").iter().any(|entry| entry.starts_with(&copy));
        story.until("it is in quarantine", kept).await;
        story.converge().await;
    });
}

fn waits(story: &Story) -> bool {
    story.world.trace.text().contains("has no good signature, and waits for the journal")
}

/// The reader cannot tell whether the record is true while the journal does not answer. It waits, over a restart too,
/// and nobody else waits for it.
#[test]
fn a_forged_record_waits_for_the_journal_and_blocks_nothing() {
    tell(async |story| {
        signed(story).await;
        let one = push(story, "muc-1-0", "one", None).await;
        story.converge().await;
        story.bar("blr-1-0", Some("slot"));
        let mut forged = next_step(story, "one", one);
        forged.id = "nobody.1.0.0.00000000000000aa".parse().unwrap();
        forge(story, &forged.site, forged.encode()).await;
        story.until("it waits", async || waits(story)).await;
        let two = push(story, "muc-1-0", "two", Some(one)).await;
        story.until("its lane goes on", async || reads(story, "blr-1-0", two)).await;
        let id = forged.id.to_string();
        assert!(
            !quarantined(story, "blr-1-0").contains(&id)
                && story.volume("blr-1-0").store().parked(None, 9).unwrap().is_empty()
        );
        story.crash("blr-1-0");
        story.bar("blr-1-0", None);
        story.start("blr-1-0").await;
        let kept = async || quarantined(story, "blr-1-0").contains(&id);
        story.until("the journal has answered", kept).await;
        story.converge().await;
    });
}

#[test]
fn a_true_record_without_a_signature_waits_for_the_journal() {
    tell(async |story| {
        let zero = first(story).await;
        story.cut("blr-1-0", Seam::EventLog, Some(Cut::Requests));
        story.bar("blr-1-0", Some("slot"));
        let one = push(story, "muc-1-0", "one", Some(zero)).await;
        for at in ["eu-aws-0", "eu-aws-1", "muc-1-0"] {
            story.world.keys.give(&node(at), Some(0));
            story.restart(&[at]).await;
        }
        story.world.require_signatures(true).await;
        story.pass(3_000).await;
        story.cut("blr-1-0", Seam::EventLog, None);
        story.until("it waits", async || waits(story)).await;
        assert!(!reads(story, "blr-1-0", one));
        story.bar("blr-1-0", None);
        story.until("the journal has answered", async || reads(story, "blr-1-0", one)).await;
        assert_eq!(quarantined(story, "blr-1-0"), Vec::<String>::new());
    });
}
