//! Tells whether the content of a slot proves anything. A committed slot is collected some time after it was published,
//! and poison, or a late copy of another attempt, may come into it then. So content that is not a transaction's own
//! proves that the transaction was not committed only while its slot cannot have been collected. Otherwise the
//! transaction is gone: nobody knows.

use lockstep_proto::Slot;

use super::{IncarnationRecord, RefDb, RefDbError};

/// Whether a slot may have been collected before now. Read the slot first: then its content was there when nothing had
/// been collected yet.
///
/// # Errors
/// The refdb did not answer. Then nothing is proven.
pub async fn may_be_gone(refdb: &RefDb, slot: &Slot) -> Result<bool, RefDbError> {
    let records = refdb.incarnations().await?;
    Ok(is_collectable(records.iter().find(|record| record.id == slot.lane.incarnation), slot))
}

/// Slots are collected below the published mark only, and an incarnation is forgotten after its last slot.
fn is_collectable(record: Option<&IncarnationRecord>, slot: &Slot) -> bool {
    record
        .is_none_or(|record| record.published.get(slot.lane.lane.index()).is_none_or(|published| slot.seq < *published))
}

#[cfg(test)]
mod tests {
    use lockstep_proto::Seq;

    use super::super::IncarnationState;
    use super::*;

    #[test]
    fn a_slot_proves_something_above_the_published_mark_only() {
        let slot: Slot = "n.1.0.7".parse().unwrap();
        let record = |published| IncarnationRecord {
            id: slot.lane.incarnation.clone(),
            site: "s".parse().unwrap(),
            epoch: 1,
            state: IncarnationState::Open,
            window: 8,
            settled: vec![Seq(9)],
            published: vec![Seq(published)],
        };
        assert!(!is_collectable(Some(&record(7)), &slot));
        assert!(is_collectable(Some(&record(8)), &slot));
        assert!(is_collectable(None, &slot), "the incarnation is forgotten");
    }
}
