//! The record of a site: its role, its epoch, and its place in the list of sites.

use lockstep_proto::SiteId;
pub use lockstep_proto::failover::Role;
use lockstep_proto::rebuild::KnownSite;
use lockstep_proto::site_list::StreamPlace;

/// The record of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRecord {
    /// The name of the site.
    pub site: SiteId,
    /// The role of the site.
    pub role: Role,
    /// The epoch of the site. Every change of role raises it, and so does every change of the list.
    pub epoch: u64,
    /// Whether the site was removed from the list. Its role is fenced then. Earlier releases see a fenced site.
    pub removed: bool,
    /// The place of the site's stream, for nodes whose configuration does not name the site.
    pub stream: StreamPlace,
    /// Whether records must be signed: the incarnations of this epoch, and of those after it, sign every transaction.
    /// Programs of earlier releases, which cannot sign, open no incarnation at such a site, for ever.
    pub signed: bool,
}

impl SiteRecord {
    /// The record of a site in the list, whose stream is in the usual place.
    #[must_use]
    pub fn new(site: SiteId, role: Role, epoch: u64) -> Self {
        Self { site, role, epoch, removed: false, stream: StreamPlace::default(), signed: false }
    }
}

impl From<&KnownSite> for SiteRecord {
    fn from(known: &KnownSite) -> Self {
        let KnownSite { site, role, epoch, removed, stream, signed } = known.clone();
        Self { site, role, epoch, removed, stream, signed }
    }
}

impl From<&SiteRecord> for KnownSite {
    fn from(record: &SiteRecord) -> Self {
        let SiteRecord { site, role, epoch, removed, stream, signed } = record.clone();
        Self { site, role, epoch, removed, stream, signed }
    }
}

/// The answer to a change of a site's record that an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteAnswer {
    /// The record was written.
    Changed,
    /// The stored record has another epoch, or there is one although none was expected. Nothing was changed.
    Differs(SiteRecord),
    /// The failover document has another revision. Nothing was changed.
    FailoverMoved,
}
