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

/// Whether a record that names a slot may be a late copy of a transaction that was collected. A record without a good
/// signature names any slot: one of an incarnation that never was, or of a lane that its incarnation does not have, was
/// never committed. Read the slot first, as for [`may_be_gone`].
///
/// # Errors
/// The refdb did not answer. Then nothing is proven.
pub async fn may_be_late(refdb: &RefDb, slot: &Slot) -> Result<bool, RefDbError> {
    let incarnation = &slot.lane.incarnation;
    let records = refdb.incarnations().await?;
    if let Some(known) = records.iter().find(|record| record.id == *incarnation) {
        return Ok(is_published(known, slot) == Some(true));
    }
    for site in refdb.sites.sites().await? {
        let last = refdb.incarnations.last_incarnation(&site.site, &incarnation.node).await?;
        if (1..=last).contains(&incarnation.number.0) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a slot is below the published mark of its lane. None if the record has no such lane.
fn is_published(record: &IncarnationRecord, slot: &Slot) -> Option<bool> {
    record.published.get(slot.lane.lane.index()).map(|published| slot.seq < *published)
}

/// Slots are collected below the published mark only, and an incarnation is forgotten after its last slot.
fn is_collectable(record: Option<&IncarnationRecord>, slot: &Slot) -> bool {
    record.is_none_or(|record| is_published(record, slot) != Some(false))
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
