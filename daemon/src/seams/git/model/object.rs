//! Objects and packs of the model.
//!
//! ```text
//! object  nonce(8) then for each object that it points to: length(1) id
//! pack    "MODEL" then for each object: length(4) object; then the SHA-1 of everything before
//! ```
//!
//! An object's id is the SHA-1 of its bytes. So no object can change, and a damaged one has another id.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use lockstep_proto::Oid;
use sha1::{Digest, Sha1};

const MAGIC: &[u8] = b"MODEL";

/// How an object is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As everybody likes it.
    Plain,
    /// Git can walk it, but a strict reader dislikes it.
    Odd,
    /// Git cannot walk it.
    Broken,
}

/// An object: the ids to which it points, and a number that distinguishes it from other objects with the same links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Any number; it separates objects that point to the same ones.
    pub nonce: u64,
    /// The ids of the objects that must be present for this object to be complete.
    pub links: Vec<Oid>,
}

impl Object {
    /// Returns how the object is made: by its nonce, one in 64 random objects is odd, and one is broken.
    pub fn form(&self) -> Form {
        match self.nonce >> 58 {
            63 => Form::Broken,
            62 => Form::Odd,
            _ => Form::Plain,
        }
    }

    /// Returns the object's id.
    pub fn oid(&self) -> Oid {
        Oid::Sha1(Sha1::digest(self.encode()).into())
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.nonce.to_be_bytes().to_vec();
        for link in &self.links {
            bytes.push(if matches!(link, Oid::Sha1(_)) { 20 } else { 32 });
            bytes.extend_from_slice(link.as_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (nonce, mut rest) = bytes.split_first_chunk::<8>().ok_or("an object ends in its nonce")?;
        let mut links = Vec::new();
        while let Some((length, after)) = rest.split_first() {
            let (link, after) = after.split_at_checked(usize::from(*length)).ok_or("an object ends in a link")?;
            links.push(Oid::from_bytes(link).map_err(|error| error.to_string())?);
            rest = after;
        }
        Ok(Self { nonce: u64::from_be_bytes(*nonce), links })
    }
}

/// Packs objects in the given order.
pub fn write_pack<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Bytes {
    let mut pack = BytesMut::from(MAGIC);
    for object in objects {
        let bytes = object.encode();
        pack.put_u32(u32::try_from(bytes.len()).expect("an object of the model has a few links"));
        pack.put_slice(&bytes);
    }
    let hash = Sha1::digest(&pack);
    pack.put_slice(&hash);
    pack.freeze()
}

/// Reads the output of [`write_pack`]. The error describes the defect in the content.
pub fn read_pack(pack: &[u8]) -> Result<BTreeMap<Oid, Object>, String> {
    let (content, hash) = pack.split_last_chunk::<20>().ok_or("the pack is too short for its hash")?;
    if Sha1::digest(content)[..] != hash[..] {
        return Err("the pack's hash differs".into());
    }
    let mut rest = content.strip_prefix(MAGIC).ok_or("the pack has no header")?;
    let mut objects = BTreeMap::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or("the pack ends in a length")?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|error| error.to_string())?;
        let (object, after) = after.split_at_checked(length).ok_or("the pack ends in an object")?;
        let object = Object::decode(object)?;
        objects.insert(object.oid(), object);
        rest = after;
    }
    Ok(objects)
}
