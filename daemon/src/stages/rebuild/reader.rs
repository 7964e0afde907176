//! Reads the version map of one node, page by page. One page is in memory. A read to the end, and one more
//! look, prove that the map did not change meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;

use lockstep_proto::rebuild::{LEAP, VersionsCursor, VersionsEntry, VersionsHead, VersionsPage, VersionsRequest};

use super::error::RebuildError;
use super::pages::VersionPages;
use crate::seams::peers::{PeerError, Peers};

/// The way to a node.
#[derive(Clone)]
pub(super) enum Way {
    /// This node, without a call over the network.
    Own(Arc<VersionPages>),
    /// A peer, by its name in `[peers]`.
    Peer(Arc<dyn Peers>, String),
}

impl Way {
    async fn page(&self, after: Option<VersionsCursor>) -> Result<VersionsPage, RebuildError> {
        let request = VersionsRequest { after, only: None };
        match self {
            Self::Own(pages) => Ok(pages.page(&request)?),
            Self::Peer(peers, name) => peers.versions(name, &request).await.map_err(RebuildError::Peer),
        }
    }
}

/// The version map of one node, in the order of its entries.
pub(super) struct Reader {
    way: Way,
    /// The node when the first page was read.
    pub(super) head: VersionsHead,
    entries: VecDeque<VersionsEntry>,
    next: Option<VersionsCursor>,
    last: Option<VersionsCursor>,
}

impl Reader {
    /// Reads the first page.
    pub(super) async fn open(way: Way) -> Result<Self, RebuildError> {
        let page = way.page(None).await?;
        in_order(&page, None)?;
        Ok(Self { way, head: page.head, entries: page.entries.into(), next: page.next, last: None })
    }

    /// The next entry, which stays. None at the end.
    pub(super) async fn peek(&mut self) -> Result<Option<&VersionsEntry>, RebuildError> {
        while self.entries.is_empty() {
            let Some(after) = self.next.take() else { return Ok(None) };
            let page = self.page(Some(after.clone())).await?;
            in_order(&page, Some(&after))?;
            (self.entries, self.next) = (page.entries.into(), page.next);
        }
        Ok(self.entries.front())
    }

    /// Takes the next entry.
    pub(super) fn take(&mut self) -> Option<VersionsEntry> {
        let entry = self.entries.pop_front()?;
        self.last = Some(cursor(&entry));
        Some(entry)
    }

    /// Looks at the node once more, after its last entry: its version map must be the one of the first page.
    pub(super) async fn look_again(&self) -> Result<(), RebuildError> {
        self.page(self.last.clone()).await.map(|_| ())
    }

    async fn page(&self, after: Option<VersionsCursor>) -> Result<VersionsPage, RebuildError> {
        let page = self.way.page(after).await?;
        let life = |head: &VersionsHead| (head.node.clone(), head.start, head.moves);
        if page.head.commits {
            return Err(RebuildError::TakesCommits(page.head.node));
        }
        if life(&page.head) != life(&self.head) {
            return Err(RebuildError::Changed(self.head.node.clone()));
        }
        Ok(page)
    }
}

/// The position of an entry.
pub(super) fn cursor(entry: &VersionsEntry) -> VersionsCursor {
    VersionsCursor { project: entry.project.name.clone(), key: entry.key.clone() }
}

/// Refuses a page whose entries are not in order, or not behind the page before, or have versions that cannot be
/// raised. A peer is not trusted.
fn in_order(page: &VersionsPage, after: Option<&VersionsCursor>) -> Result<(), RebuildError> {
    let mut last = after.cloned();
    for entry in &page.entries {
        let here = Some(cursor(entry));
        if here <= last || entry.version.0 > u64::MAX - LEAP {
            return Err(disorder(page));
        }
        last = here;
    }
    // A page without entries must be the last one.
    let goes_on = page.next.is_some();
    if goes_on && (page.entries.is_empty() || page.next != last) { Err(disorder(page)) } else { Ok(()) }
}

fn disorder(page: &VersionsPage) -> RebuildError {
    let why = format!("node {} sends a version map that is not in order, or has impossible versions", page.head.node);
    RebuildError::Peer(PeerError::NotNow(why))
}
