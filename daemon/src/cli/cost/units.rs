//! The units of DynamoDB, Kinesis and S3 that one act takes: pure functions of sizes and counts.
//!
//! `docs/cost.md` has the same formulas in words. `tests/tests/round_trips.rs` holds those of a commit against the
//! units that a table tells.

use lockstep_proto::limits::INLINE_PACK_BYTES;

/// The bytes that a write unit of DynamoDB holds.
pub const WRITE_UNIT: u32 = 1_024;
/// The bytes that a read unit holds, with strong consistency.
pub const READ_UNIT: u32 = 4_096;
/// The bytes of a PUT payload unit of Kinesis.
pub const PUT_UNIT: u32 = 25 * 1_024;
/// A write of a transaction takes twice the units of another one.
pub const TRANSACTIONAL: f64 = 2.0;
/// The bytes of a slot beside its commands and its pack.
pub const SLOT_BYTES: u32 = 300;
/// The bytes of a command in a slot.
pub const COMMAND_BYTES: u32 = 150;
/// The bytes of a part of a large blob: each part is a request.
const PART_BYTES: f64 = 8.0 * 1_024.0 * 1_024.0;

/// The number of units of this size that hold these bytes. At least one: nothing is free.
fn units(bytes: f64, unit: u32) -> f64 {
    (bytes / f64::from(unit)).ceil().max(1.0)
}

/// The write units of an item of this size.
#[must_use]
pub fn write_units(bytes: f64) -> f64 {
    units(bytes, WRITE_UNIT)
}

/// The read units of an item, or of a page of items, of this size: every read of Lockstep is strongly consistent.
#[must_use]
pub fn read_units(bytes: f64) -> f64 {
    units(bytes, READ_UNIT)
}

/// The PUT payload units of a record of this size.
#[must_use]
pub fn put_units(bytes: f64) -> f64 {
    units(bytes, PUT_UNIT)
}

/// The bytes of a slot, and of its record in the stream. A large pack is in the blob store.
#[must_use]
pub fn slot_bytes(refs: f64, pack: f64) -> f64 {
    let inline = if is_blob(pack) { 0.0 } else { pack };
    f64::from(SLOT_BYTES) + f64::from(COMMAND_BYTES) * refs + inline
}

/// Whether a pack of this size is in the blob store.
#[must_use]
pub fn is_blob(pack: f64) -> bool {
    pack > INLINE_PACK_BYTES as f64
}

/// The requests that store a blob of this size: one, or one per part and two to begin and to end the upload.
#[must_use]
pub fn blob_requests(bytes: f64) -> f64 {
    if bytes <= PART_BYTES { 1.0 } else { (bytes / PART_BYTES).ceil() + 2.0 }
}

/// The write units of a commit of `refs` refs whose slot takes `slot` units. One transaction takes twice the units of
/// its items. Without transactions each ref is written twice, by its lock and by its move, and the slot once. A marked
/// folder counts as a ref.
#[must_use]
pub fn commit_units(has_transactions: bool, refs: f64, slot: f64) -> f64 {
    if has_transactions { TRANSACTIONAL * (refs + slot) } else { 2.0 * refs + slot }
}

/// The write units of the collection of a slot, which deletes it: those of its size.
#[must_use]
pub fn collect_units(slot: f64) -> f64 {
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up_and_nothing_is_free() {
        assert_eq!([0.0, 1.0, 1_024.0, 1_025.0].map(write_units), [1.0, 1.0, 1.0, 2.0]);
        assert_eq!([0.0, 4_096.0, 4_097.0].map(read_units), [1.0, 1.0, 2.0]);
        assert_eq!([1.0, 25_600.0, 25_601.0].map(put_units), [1.0, 1.0, 2.0]);
    }

    #[test]
    fn a_transaction_doubles_every_item_and_single_writes_double_refs_alone() {
        assert_eq!(commit_units(true, 1.0, 1.0), 4.0);
        assert_eq!(commit_units(false, 1.0, 1.0), 3.0);
        assert_eq!(commit_units(true, 50.0, 8.0), 116.0);
        assert_eq!(commit_units(false, 50.0, 8.0), 108.0);
    }

    #[test]
    fn a_large_pack_is_in_the_blob_store_and_takes_a_request_per_part() {
        assert_eq!(slot_bytes(1.0, 1_000.0), 1_450.0);
        assert_eq!(slot_bytes(1.0, 1e6), 450.0);
        assert_eq!([1e6, 8.0 * 1_048_576.0, 9e6].map(blob_requests), [1.0, 1.0, 4.0]);
    }
}
