//! Signatures that verify and those that do not, and the states of keys.

use lockstep_proto::keys::{KeyState, SiteKeys};
use lockstep_proto::rebuild::RefdbIdentity;
use lockstep_proto::{IncarnationId, Signature};

use super::*;
use crate::seams::refdb::{Role, SiteRecord};
use crate::state::context::{NodeContext, NodeState, creation};

/// A node of site `s` with a key, bound to a refdb, and its handle.
async fn node(seed: u8) -> (NodeContext, Arc<Signing>) {
    let signer = SiteSigner::from_seed(&[seed; 32]).map(Arc::new);
    let context = NodeContext { signer, ..NodeContext::in_memory() };
    let signing = bound(&context).await;
    (context, signing)
}

async fn bound(context: &NodeContext) -> Arc<Signing> {
    let state = NodeState::load(context, Duration::from_millis(1)).unwrap();
    state.bound.bind(context.store.as_ref(), RefdbIdentity::first("0a".to_owned())).await.unwrap();
    state.signing
}

fn transaction() -> Transaction {
    Transaction { pack: Pack::Inline(Bytes::from_static(b"a pack")), ..creation(4) }
}

fn incarnation(number: u64) -> IncarnationId {
    format!("n.{number}").parse().unwrap()
}

fn site(name: &str) -> SiteId {
    name.parse().unwrap()
}

#[tokio::test]
async fn a_signed_record_verifies_and_no_other_one_does() {
    let (context, signing) = node(1).await;
    let verify = |record: &[u8]| signing.verify(Some(&site("s")), record);
    let body = transaction().encode();
    let record = signing.sign(body.clone()).unwrap();
    let key = signing.key().unwrap();
    assert_eq!(verify(&record), Err(NotSigned::Unknown(key)), "it is not registered yet");
    signing.register(&incarnation(1), &[]).await.unwrap();
    assert_eq!(verify(&record), Ok(()));
    assert_eq!(Transaction::decode(&record), Ok(transaction()), "the signature is no part of the transaction");
    assert_eq!(verify(&body), Err(NotSigned::Absent));
    assert_eq!(signing.verify(Some(&site("other")), &record), Err(NotSigned::OtherSite(key)));
    let (_, signature) = split(&record).unwrap();
    let signature = signature.unwrap();
    let under_it = |other: &Transaction| signature.append_to(&other.encode());
    let mut moved = transaction();
    moved.id.attempt += 1;
    let mut versioned = transaction();
    versioned.commands[0].version = Version(7);
    let swapped = Transaction { pack: Pack::Inline(Bytes::from_static(b"another")), ..transaction() };
    for forged in [moved, versioned, swapped] {
        assert_eq!(verify(&under_it(&forged)), Err(NotSigned::Wrong(key)), "{forged:?}");
    }
    let longer = [record.as_ref(), &[0x50, 1]].concat();
    assert_eq!(verify(&longer), Err(NotSigned::Absent), "a field behind the signature");
    let elsewhere = SiteSigner::from_seed(&[1; 32]).unwrap().sign("0b", &body).unwrap();
    assert_eq!(verify(&elsewhere.append_to(&body)), Err(NotSigned::OtherRefdb("0b".to_owned())));
    let moved = Signature { refdb: "0a".to_owned(), ..elsewhere };
    assert_eq!(verify(&moved.append_to(&body)), Err(NotSigned::Wrong(key)), "the id of the refdb is covered");
    let stranger = SiteSigner::from_seed(&[9; 32]).unwrap().sign("0a", &body).unwrap();
    assert_eq!(verify(&stranger.append_to(&body)), Err(NotSigned::Unknown(stranger.key)));
    drop(context);
}

#[tokio::test]
async fn a_retired_key_verifies_and_signs_no_incarnation_and_a_dropped_one_does_neither() {
    let (context, signing) = node(1).await;
    signing.register(&incarnation(1), &[]).await.unwrap();
    let record = signing.sign(transaction().encode()).unwrap();
    let key = signing.key().unwrap();
    for (state, verdict) in [(KeyState::Retired, Ok(())), (KeyState::Dropped, Err(NotSigned::Unknown(key)))] {
        let change = |keys: &mut SiteKeys| -> Result<(), KeyError> {
            keys.keys[0].state = state;
            Ok(())
        };
        change_keys(&context.refdb, change).await.unwrap();
        signing.read().await.unwrap();
        assert_eq!(signing.verify(None, &record), verdict);
        let refused = signing.register(&incarnation(2), &[]).await;
        assert_eq!(refused, Err(KeyError::NotValid(key, state.name())));
    }
}

#[tokio::test]
async fn a_key_is_noted_with_the_incarnations_whose_journal_is_there() {
    let (context, signing) = node(1).await;
    let used = async || read_keys(&context.refdb).await.unwrap().1.keys[0].used_by.clone();
    signing.register(&incarnation(1), &[]).await.unwrap();
    signing.register(&incarnation(2), &[incarnation(1)]).await.unwrap();
    assert_eq!(used().await, [incarnation(1), incarnation(2)]);
    // A later start, with another key: the first incarnation is collected.
    let other = NodeContext { signer: SiteSigner::from_seed(&[2; 32]).map(Arc::new), ..context.clone() };
    bound(&other).await.register(&incarnation(3), &[incarnation(2)]).await.unwrap();
    assert_eq!(used().await, [incarnation(2)]);
    let (_, keys) = read_keys(&context.refdb).await.unwrap();
    assert_eq!(keys.keys[1].used_by, [incarnation(3)]);
}

/// The tables and the streams have the public half of a key.
#[tokio::test]
async fn the_refdb_and_the_records_have_no_private_key() {
    let seed = [1_u8; 32];
    let (context, signing) = node(1).await;
    signing.register(&incarnation(1), &[]).await.unwrap();
    let (_, keys) = read_keys(&context.refdb).await.unwrap();
    let [key] = keys.keys.as_slice() else { panic!("{keys:?}") };
    let public = SiteSigner::from_seed(&seed).unwrap().public();
    assert_eq!(key.public, hex::encode(public), "that is all of the key");
    let document = serde_json::to_string(&keys).unwrap();
    assert!(document.contains(&key.public) && !document.contains(&hex::encode(seed)), "{document}");
    let record = signing.sign(transaction().encode()).unwrap();
    assert!(record.windows(seed.len()).all(|part| *part != seed));
}

#[tokio::test]
async fn a_node_without_a_key_opens_nothing_where_records_must_be_signed() {
    let context = NodeContext::in_memory();
    let state = NodeState::load(&context, Duration::from_millis(1)).unwrap();
    assert_eq!(state.signing.register(&incarnation(1), &[]).await, Ok(()));
    let signed = SiteRecord { signed: true, ..SiteRecord::new(site("other"), Role::Active, 1) };
    state.roles.note(vec![signed]);
    let refused = state.signing.register(&incarnation(1), &[]).await.unwrap_err();
    assert!(refused.to_string().contains("signing.key_file"), "{refused}");
    assert!(state.signing.is_required());
}

#[tokio::test]
async fn two_sites_have_two_keys() {
    let (context, signing) = node(1).await;
    signing.register(&incarnation(1), &[]).await.unwrap();
    let other = NodeContext { site: site("other"), ..context };
    let refused = bound(&other).await.register(&incarnation(2), &[]).await;
    assert_eq!(refused, Err(KeyError::OtherSite(signing.key().unwrap(), site("s"))));
}

#[tokio::test]
async fn a_node_that_belongs_to_no_refdb_signs_nothing_and_commits_nothing() {
    let signer = SiteSigner::from_seed(&[1; 32]).map(Arc::new);
    let context = NodeContext { signer, ..NodeContext::in_memory() };
    let state = NodeState::load(&context, Duration::from_millis(1)).unwrap();
    assert!(state.signing.sign(transaction().encode()).is_err());
}
