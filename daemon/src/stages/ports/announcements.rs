//! How the consume stage hands over announcements of stream events.

use bytes::Bytes;
use lockstep_proto::{Announcement, AnnouncementId, SiteId};

/// The consume stage needs somebody to take the announcements that it reads. What was taken before the reader is told that
/// the record is done is durable before the checkpoint passes it.
pub trait Announcements: Send + Sync {
    /// Takes an announcement with its bytes; one that was taken before, or is this node's own, is passed by.
    fn take(&self, announcement: &Announcement, bytes: &Bytes);

    /// Keeps an announcement that only a newer release can read.
    fn keep(&self, id: &AnnouncementId, bytes: &Bytes);

    /// Records of a site's stream are gone before they were read.
    fn missed(&self, site: &SiteId);
}
