//! Changes of sites, and the writes of the failover document. No failover begins unseen beside a change of a site.
//!
//! The failover document orders them. A change is announced on it first, under the condition that the document has the
//! revision that the operator has seen. From there on the change is decided: a node that is about to write the document
//! writes the site's record before. The condition on the site's epoch lets only one of these writes take effect, and no
//! late one. A failover begins under the condition that nothing was announced since the epochs of the sites were read.

use super::{SingleItem, SiteChange, Turn};
use crate::seams::refdb::{Document, DocumentRecord, RefDbError, SiteAnswer, SiteRecord, rules};

/// How often a write is tried whose document others change at the same time.
const TRIES: u32 = 8;

/// Writes a site's record over `from`, if the failover document has this revision.
pub(in crate::seams::refdb) async fn change_site(
    items: &dyn SingleItem,
    from: Option<&SiteRecord>,
    to: &SiteRecord,
    failover: u64,
) -> Result<SiteAnswer, RefDbError> {
    for _ in 0..TRIES {
        let turn = settled(items).await?;
        match items.site(&to.site).await? {
            None if from.is_some() => return Err(rules::no_site(&to.site)),
            Some(stored) if from.is_none_or(|from| from.epoch != stored.epoch) => {
                return Ok(SiteAnswer::Differs(stored));
            }
            Some(_) | None => {}
        }
        if turn.revision() != failover {
            return Ok(SiteAnswer::FailoverMoved);
        }
        let change = SiteChange { from: from.map(Into::into), to: to.into() };
        if items.announce(&turn, &change).await? {
            return announced(items, from, to, turn.number + 1).await;
        }
    }
    Err(contended())
}

/// Writes the record of an announced change. From the announcement on, others may write it as well, so an error says
/// nothing about the outcome.
async fn announced(
    items: &dyn SingleItem,
    from: Option<&SiteRecord>,
    to: &SiteRecord,
    number: u64,
) -> Result<SiteAnswer, RefDbError> {
    let answer = items.put_site(from, to).await.map_err(|error| RefDbError::Unknown(error.to_string()))?;
    // If it stays, the next write of the document removes it.
    let _ = items.end_announcement(number).await;
    match answer {
        // Somebody else wrote it for us.
        SiteAnswer::Differs(stored) if stored == *to => Ok(SiteAnswer::Changed),
        SiteAnswer::Differs(stored) => Err(RefDbError::Unknown(format!(
            "site {} was changed by somebody else at the same time, and has epoch {} now",
            to.site, stored.epoch
        ))),
        answer => Ok(answer),
    }
}

/// Writes the failover document, if each of these sites has its epoch. None if one has another epoch.
pub(in crate::seams::refdb) async fn begin_failover(
    items: &dyn SingleItem,
    record: &DocumentRecord,
    sites: &[SiteRecord],
) -> Result<Option<DocumentRecord>, RefDbError> {
    for _ in 0..TRIES {
        let turn = settled(items).await?;
        for seen in sites {
            if items.site(&seen.site).await?.map(|stored| stored.epoch) != Some(seen.epoch) {
                return Ok(None);
            }
        }
        if let Some(stored) = replaced(items, &turn, record).await? {
            return Ok(Some(stored));
        }
    }
    Err(contended())
}

/// Writes the failover document, if its revision is the one after the stored revision. Returns the stored record.
pub(in crate::seams::refdb) async fn put_failover(
    items: &dyn SingleItem,
    record: &DocumentRecord,
) -> Result<DocumentRecord, RefDbError> {
    for _ in 0..TRIES {
        let turn = settled(items).await?;
        if let Some(stored) = replaced(items, &turn, record).await? {
            return Ok(stored);
        }
    }
    Err(contended())
}

/// The stored document after a try to replace it. None if it has changed since `turn` was read.
async fn replaced(
    items: &dyn SingleItem,
    turn: &Turn,
    record: &DocumentRecord,
) -> Result<Option<DocumentRecord>, RefDbError> {
    if record.revision != turn.revision() + 1 {
        let none = || rules::no_document(Document::Failover, record.revision);
        return turn.record.clone().ok_or_else(none).map(Some);
    }
    Ok(items.put_record(turn, record).await?.then(|| record.clone()))
}

/// The failover document, after an announced change of a site is written.
async fn settled(items: &dyn SingleItem) -> Result<Turn, RefDbError> {
    for _ in 0..TRIES {
        let turn = items.turn().await?;
        let Some(SiteChange { from, to }) = &turn.announced else { return Ok(turn) };
        // Either the record is written, or its epoch has moved on, and then the change can never be written.
        let _ = items.put_site(from.as_ref().map(SiteRecord::from).as_ref(), &to.into()).await?;
        items.end_announcement(turn.number).await?;
    }
    Err(contended())
}

fn contended() -> RefDbError {
    RefDbError::NotNow("the failover document is changed by others at this moment".to_owned())
}
