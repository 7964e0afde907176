//! The opening of an incarnation.
//!
//! A fencer raises the epoch of the site, and then lists its incarnations. A mover closes the refdb, and then lists
//! them. An opener does it the other way round: it writes the record of the incarnation, and then reads the record of
//! the site and the identity once more. Whichever comes second sees the write of the other. So either the fencer or
//! mover freezes the incarnation, or the opener ends it, or both.

use super::SingleItem;
use crate::seams::refdb::{IncarnationRecord, OpenAnswer, RefDbError, rules};

/// Opens an incarnation, if the site's role and epoch allow it, the refdb is not closed, and the node's highest number
/// is below this one.
pub(in crate::seams::refdb) async fn open(
    items: &dyn SingleItem,
    record: &IncarnationRecord,
) -> Result<OpenAnswer, RefDbError> {
    rules::opened_well(record)?;
    if let Some(answer) = against(items, record).await? {
        return answer;
    }
    // The number is used up from here on, even if nothing else happens.
    if !items.raise_highest(record).await? || !items.put_incarnation(record).await? {
        return Ok(OpenAnswer::Exists);
    }
    let Some(answer) = against(items, record).await? else { return Ok(OpenAnswer::Opened) };
    items.withdraw(record).await?;
    answer
}

/// The answer, if the site or the identity stands against the opening.
async fn against(
    items: &dyn SingleItem,
    record: &IncarnationRecord,
) -> Result<Option<Result<OpenAnswer, RefDbError>>, RefDbError> {
    let site = items.site(&record.site).await?.ok_or_else(|| rules::no_site(&record.site))?;
    if !rules::may_open(&site, record) {
        return Ok(Some(Ok(OpenAnswer::NotAllowed(site))));
    }
    Ok(items.is_closed().await?.then(|| Err(rules::closed())))
}
