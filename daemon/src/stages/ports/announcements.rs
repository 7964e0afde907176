//! Port: the consume stage hands over the announcements of stream events that it reads.

use bytes::Bytes;
use lockstep_proto::{Announcement, AnnouncementId, SiteId};

/// Takes the announcements that the consume stage reads. An announcement that was taken before its record is reported
/// as done is durable before the checkpoint passes that record.
pub trait Announcements: Send + Sync {
    /// Takes an announcement with its encoded bytes. Ignores one that was taken before, and one of this node's own.
    fn take(&self, announcement: &Announcement, bytes: &Bytes);

    /// Keeps an announcement that only a newer release can read.
    fn keep(&self, id: &AnnouncementId, bytes: &Bytes);

    /// Notes that records of a site's stream were gone before this node read them.
    fn missed(&self, site: &SiteId);
}
