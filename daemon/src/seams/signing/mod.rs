//! Signatures of records: the key of a site, and the check of a signature (Ed25519).
//!
//! The message of a signature is bound to one refdb and to one form of record, so a signature of another installation,
//! or of something else, verifies nothing here. The bytes that follow are those of the slot, which have the id of the
//! transaction with its slot and its attempt, every version with its predecessor, and the objects or their hash.
//!
//! | file | content |
//! |---|---|
//! | `key_file` | reads the key of a site from its file, and makes a new one |

mod key_file;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use lockstep_proto::{KeyId, Signature};
use sha2::{Digest, Sha256};

pub use key_file::{KeyFileError, generate};

/// The beginning of every message that is signed.
const DOMAIN: &[u8] = b"lockstep transaction 1\0";

/// The private key of a site.
pub struct SiteSigner {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl std::fmt::Debug for SiteSigner {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SiteSigner").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl SiteSigner {
    /// The key that follows from 32 secret bytes. None if they make no key.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Option<Self> {
        Ed25519KeyPair::from_seed_unchecked(seed).ok().and_then(Self::of)
    }

    /// A new key that is in no file and ends with this value. None if the machine gives no randomness.
    #[must_use]
    pub fn throwaway() -> Option<Self> {
        Ed25519KeyPair::generate().ok().and_then(Self::of)
    }

    fn of(pair: Ed25519KeyPair) -> Option<Self> {
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(Self { pair, public })
    }

    /// The public key, 32 bytes of Ed25519.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// The name of the key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        key_id(&self.public)
    }

    /// Signs the bytes of a slot, for the refdb with this id.
    #[must_use]
    pub fn sign(&self, refdb: &str, body: &[u8]) -> Option<Signature> {
        let signature = self.pair.try_sign(&message(refdb, body)).ok()?;
        Some(Signature { key: self.id(), refdb: refdb.to_owned(), bytes: signature.as_ref().try_into().ok()? })
    }
}

/// Whether a signature was made with the private key that belongs to `public`, over these bytes, for the refdb that it
/// names.
#[must_use]
pub fn verifies(public: &[u8; 32], body: &[u8], signature: &Signature) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(&message(&signature.refdb, body), &signature.bytes).is_ok()
}

/// The name of a public key: the first bytes of its SHA-256.
#[must_use]
pub fn key_id(public: &[u8; 32]) -> KeyId {
    let mut id = [0; 8];
    id.copy_from_slice(&Sha256::digest(public)[..8]);
    KeyId(id)
}

/// The message: the domain, the id of the refdb with its length, and the SHA-256 of the bytes.
fn message(refdb: &str, body: &[u8]) -> Vec<u8> {
    let length = (refdb.len() as u64).to_be_bytes();
    let hash = Sha256::digest(body);
    [DOMAIN, &length, refdb.as_bytes(), hash.as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_these_bytes_in_this_refdb_by_this_key() {
        let (one, other) = (SiteSigner::from_seed(&[1; 32]).unwrap(), SiteSigner::from_seed(&[2; 32]).unwrap());
        let signature = one.sign("r1", b"body").unwrap();
        assert!(verifies(&one.public(), b"body", &signature));
        assert!(!verifies(&one.public(), b"bodY", &signature), "other bytes");
        let moved = Signature { refdb: "r2".to_owned(), ..signature.clone() };
        assert!(!verifies(&one.public(), b"body", &moved), "another refdb");
        assert!(!verifies(&other.public(), b"body", &signature), "another key");
        let mut damaged = signature.clone();
        damaged.bytes[7] ^= 1;
        assert!(!verifies(&one.public(), b"body", &damaged));
        assert_eq!(one.sign("r1", b"body"), Some(signature), "copies of a commit have the same bytes");
    }

    /// Every later release must verify what this one has signed.
    #[test]
    fn the_signature_of_this_release_stays_valid() {
        let signer = SiteSigner::from_seed(&[7; 32]).unwrap();
        assert_eq!(signer.id().to_string(), "fe812c12f3ab4ce6");
        let signature = signer.sign("0a", b"a record").unwrap();
        let expected = [
            "3d694c6338a84d3e95a751bb9438cc620e89f721c6fe4bb30dd469a0909cb37c",
            "eaee0575882c88a6778b504b708a229570cc4d52cc6f3c5743b50a997392c803",
        ];
        assert_eq!(hex::encode(signature.bytes), expected.concat());
    }
}
