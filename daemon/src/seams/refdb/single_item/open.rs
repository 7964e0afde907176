//! The opening of an incarnation.
//!
//! A fencer raises the epoch of the site, and then lists its incarnations. An opener does it the other way round: it
//! writes the record of the incarnation, and then reads the record of the site once more. Whichever comes second sees
//! the write of the other. So either the fencer freezes the incarnation, or the opener ends it, or both.

use super::SingleItem;
use crate::seams::refdb::{IncarnationRecord, OpenAnswer, RefDbError, rules};

/// Opens an incarnation, if the site's role and epoch allow it and the node's highest number is below this one.
pub(in crate::seams::refdb) async fn open(
    items: &dyn SingleItem,
    record: &IncarnationRecord,
) -> Result<OpenAnswer, RefDbError> {
    rules::opened_well(record)?;
    let no_site = || rules::no_site(&record.site);
    let site = items.site(&record.site).await?.ok_or_else(no_site)?;
    if !rules::may_open(&site, record) {
        return Ok(OpenAnswer::NotAllowed(site));
    }
    // The number is used up from here on, even if nothing else happens.
    if !items.raise_highest(record).await? || !items.put_incarnation(record).await? {
        return Ok(OpenAnswer::Exists);
    }
    let site = items.site(&record.site).await?.ok_or_else(no_site)?;
    if rules::may_open(&site, record) {
        return Ok(OpenAnswer::Opened);
    }
    items.withdraw(record).await?;
    Ok(OpenAnswer::NotAllowed(site))
}
