//! The digest of the version map's entries of one project: two nodes with equal digests have equal entries.
//!
//! It is the sum, modulo 2^256, of a SHA-256 hash of each entry, with the number of entries beside it. A sum does not
//! depend on the order, and one entry can be replaced without the others: the hash of the old one is subtracted, and
//! that of the new one is added. An entry that is changed, lost or added by an error changes the sum, unless 256 bits
//! agree by chance. It is no defence against somebody who chooses entries: sums of that length can be made to agree
//! with some 2^32 chosen entries. Such a person would have to make two nodes store different entries first.
//!
//! ```text
//! hash     SHA-256("lockstep ref 1\n" length(4) key record)     key: the name, @HEAD or @state
//! stored   sum(32) count(8)
//! ```
//!
//! Numbers are big-endian. `record` is the form of [`super::encoding`]. Neighbouring releases compare their digests, so
//! a change of any of this raises [`lockstep_proto::digests::SET_DIGEST_FORMAT`].

use lockstep_proto::RefKey;
use sha2::{Digest, Sha256};

use super::encoding::{self, FormError};
use super::{RefRecord, StoreError};
use crate::base::faults::injected_bug::{InjectedBug, InjectedBugs};

/// The prefix of everything that is hashed, so that no other hash of this program can be taken for one of these.
const DOMAIN: &[u8] = b"lockstep ref 1\n";

/// The pause between two steps in which the digests of an older store are built, for the commits that wait.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// The digest of a set of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetDigest {
    /// The sum, least significant word first.
    sum: [u64; 4],
    count: u64,
}

impl SetDigest {
    /// The digest of these entries.
    #[must_use]
    pub fn of<'a>(entries: impl IntoIterator<Item = (&'a RefKey, &'a RefRecord)>) -> Self {
        let mut digest = Self::default();
        entries.into_iter().for_each(|(key, record)| digest.add(key, record));
        digest
    }

    /// The number of entries.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Takes an entry into the set. It must not be in it.
    pub fn add(&mut self, key: &RefKey, record: &RefRecord) {
        self.plus(hash(key, record));
        self.count = self.count.wrapping_add(1);
    }

    /// Replaces the entry of a key. `before` is none if the set has none.
    pub fn replace(&mut self, key: &RefKey, before: Option<&RefRecord>, now: &RefRecord, bugs: InjectedBugs) {
        if bugs.has(InjectedBug::DigestMissesDeletion) && now.value.is_absent() {
            return;
        }
        if let Some(before) = before {
            // The complement plus one is the negative of a number modulo 2^256.
            self.plus(hash(key, before).map(|word| !word));
            self.plus([1, 0, 0, 0]);
            self.count = self.count.wrapping_sub(1);
        }
        self.add(key, now);
    }

    fn plus(&mut self, other: [u64; 4]) {
        let mut carry = false;
        for (word, other) in self.sum.iter_mut().zip(other) {
            let (with_other, first) = word.overflowing_add(other);
            let (with_carry, second) = with_other.overflowing_add(u64::from(carry));
            *word = with_carry;
            carry = first || second;
        }
    }

    /// The digest as it is stored.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 40] {
        let mut bytes = [0; 40];
        for (at, word) in bytes.chunks_exact_mut(8).zip(self.sum.iter().rev().chain([&self.count])) {
            at.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// Reads the output of [`SetDigest::to_bytes`].
    ///
    /// # Errors
    /// The bytes are no digest: the store is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormError> {
        let bad = || FormError { what: "digest of a project", why: format!("it has {} bytes", bytes.len()) };
        let bytes: &[u8; 40] = bytes.try_into().map_err(|_| bad())?;
        let words = bytes.as_chunks::<8>().0;
        let mut words = words.iter().map(|word| u64::from_be_bytes(*word));
        let mut next = || words.next().unwrap_or_default();
        let mut sum = [next(), next(), next(), next()];
        sum.reverse();
        Ok(Self { sum, count: next() })
    }
}

/// The sum in hexadecimal digits, as peers send it.
impl std::fmt::Display for SetDigest {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.sum.iter().rev().try_for_each(|word| write!(out, "{word:016x}"))
    }
}

fn hash(key: &RefKey, record: &RefRecord) -> [u64; 4] {
    let key = key.to_string();
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut hasher = Sha256::new();
    hasher.update(DOMAIN);
    hasher.update(length.to_be_bytes());
    hasher.update(key.as_bytes());
    hasher.update(encoding::record(record));
    let bytes: [u8; 32] = hasher.finalize().into();
    let words = bytes.as_chunks::<8>().0;
    std::array::from_fn(|at| words.get(3 - at).map_or(0, |word| u64::from_be_bytes(*word)))
}

/// The digest of a project, with entries of the same moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestAt {
    /// The digest of all entries of the project. None while the store is still building it.
    pub digest: Option<SetDigest>,
    /// The entries of the keys that were asked for, in their order.
    pub entries: Vec<Option<RefRecord>>,
}

/// Builds the digests of a store that an earlier release has written, step by step.
///
/// # Errors
/// The store failed. Nothing is lost: a later call goes on from where this one was.
pub async fn build_all(store: &dyn super::NodeStore, step: usize) -> Result<(), StoreError> {
    while !store.build_digests(step).await? {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lockstep_proto::{RefValue, Version};
    use proptest::prelude::*;

    use super::*;

    const NONE: fn() -> InjectedBugs = InjectedBugs::default;

    fn key(text: &str) -> RefKey {
        text.parse().unwrap()
    }

    fn record(version: u64, digit: Option<char>) -> RefRecord {
        let value: Option<lockstep_proto::Oid> = digit.map(|digit| digit.to_string().repeat(40).parse().unwrap());
        let txn = format!("n.1.0.{version}.00000000000000aa").parse().unwrap();
        RefRecord { version: Version(version), value: RefValue::from(value), txn }
    }

    /// Neighbouring releases compare these. The sum was computed by another program.
    #[test]
    fn the_form_of_a_digest_does_not_change() {
        let entries = [
            (key("@HEAD"), record(1, None)),
            (key("refs/heads/main"), record(7, Some('a'))),
            (key("refs/tags/é"), record(u64::MAX, Some('f'))),
        ];
        let digest = SetDigest::of(entries.iter().map(|(key, record)| (key, record)));
        assert_eq!(digest.to_string(), "075fb46e61533728d9458fc7bf65e59747c627c75c84a36cb5fb8563bc3c85be");
        assert_eq!(digest.count(), 3);
        assert_eq!(SetDigest::from_bytes(&digest.to_bytes()), Ok(digest));
        assert_eq!(hex::encode(digest.to_bytes()), format!("{digest}0000000000000003"));
        assert!(SetDigest::from_bytes(&[0; 39]).is_err());
        assert_eq!(SetDigest::default().to_string(), "0".repeat(64));
    }

    fn any_entries() -> impl Strategy<Value = Vec<(RefKey, RefRecord)>> {
        let value = prop_oneof![Just(None), (0..16_u32).prop_map(|digit| char::from_digit(digit, 16))];
        let value = value.prop_filter("an id", |digit| *digit != Some('0'));
        let entry = ("refs/heads/[a-e]", any::<u64>(), value)
            .prop_map(|(name, version, value)| (key(&name), record(version, value)));
        prop::collection::vec(entry, 1..20)
    }

    proptest! {
        #[test]
        fn steps_in_any_order_end_in_the_digest_of_the_last_entries(entries in any_entries()) {
            let (mut map, mut digest) = (std::collections::BTreeMap::new(), SetDigest::default());
            for (key, now) in entries {
                let before = map.insert(key.clone(), now.clone());
                digest.replace(&key, before.as_ref(), &now, NONE());
            }
            prop_assert_eq!(digest, SetDigest::of(map.iter()));
            prop_assert_eq!(digest, SetDigest::of(map.iter().rev()));
        }

        #[test]
        fn a_changed_a_lost_and_an_added_entry_are_found(entries in any_entries(), at in any::<prop::sample::Index>()) {
            let map: std::collections::BTreeMap<_, _> = entries.into_iter().collect();
            let digest = SetDigest::of(&map);
            let (name, found) = map.iter().nth(at.index(map.len())).unwrap();
            let others = [
                RefRecord { version: Version(found.version.0 ^ 1), ..found.clone() },
                RefRecord { txn: "n.2.0.1.00000000000000aa".parse().unwrap(), ..found.clone() },
                RefRecord { value: "refs/heads/other".parse().map(RefValue::Symref).unwrap(), ..found.clone() },
            ];
            for other in others {
                let mut changed = map.clone();
                changed.insert(name.clone(), other);
                prop_assert_ne!(digest, SetDigest::of(&changed));
            }
            let mut less = map.clone();
            less.remove(name);
            prop_assert_ne!(digest, SetDigest::of(&less));
            let mut more = map.clone();
            more.insert(key("refs/heads/more"), found.clone());
            prop_assert_ne!(digest, SetDigest::of(&more));
        }
    }
}
