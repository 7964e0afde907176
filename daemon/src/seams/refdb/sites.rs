//! Sites: their records, with role, epoch, and place in the list of sites.

use async_trait::async_trait;
use lockstep_proto::SiteId;
pub use lockstep_proto::failover::Role;
use lockstep_proto::rebuild::KnownSite;
use lockstep_proto::site_list::StreamPlace;

use super::documents::DocumentRecord;
use super::error::RefDbError;

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
    /// Whether Lockstep is switched off at the site. Its role is fenced then. Earlier releases see a fenced site.
    pub off: bool,
    /// The epoch at which Lockstep was switched off at the site last. Zero if it never was. It stays when Lockstep is
    /// switched on again: a node whose volume has not come back from then compares its disk before it takes writes.
    pub left: u64,
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
        let stream = StreamPlace::default();
        Self { site, role, epoch, removed: false, off: false, left: 0, stream, signed: false }
    }
}

impl From<&KnownSite> for SiteRecord {
    fn from(known: &KnownSite) -> Self {
        let KnownSite { site, role, epoch, removed, off, left, stream, signed } = known.clone();
        Self { site, role, epoch, removed, off, left, stream, signed }
    }
}

impl From<&SiteRecord> for KnownSite {
    fn from(record: &SiteRecord) -> Self {
        let SiteRecord { site, role, epoch, removed, off, left, stream, signed } = record.clone();
        Self { site, role, epoch, removed, off, left, stream, signed }
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

/// Reads and changes the records of sites.
#[async_trait]
pub trait Sites: Send + Sync {
    /// Whether the refdb outlives the loss of a Region, because its tables are in several. It is known once the store
    /// is prepared.
    fn is_in_several_regions(&self) -> bool {
        false
    }

    /// Creates the site's record with epoch 1 if there is none, and returns the stored record.
    async fn enroll_site(&self, site: &SiteId, role: Role) -> Result<SiteRecord, RefDbError>;

    /// The records of all sites.
    async fn sites(&self) -> Result<Vec<SiteRecord>, RefDbError>;

    /// Changes a site's role and raises its epoch, if the epoch is still `from.epoch`. Returns the stored record.
    async fn change_role(&self, from: &SiteRecord, role: Role) -> Result<SiteRecord, RefDbError>;

    /// Writes a site's record as an operator asks: the whole of `to`, whose epoch is one above that of `from`. One
    /// write has all conditions: the stored record still has the epoch of `from` (none: there is no record), and the
    /// failover document still has the revision `failover` (0: there is none). So no failover begins unseen beside it.
    async fn change_site(
        &self,
        from: Option<&SiteRecord>,
        to: &SiteRecord,
        failover: u64,
    ) -> Result<SiteAnswer, RefDbError>;

    /// Writes the failover document as [`Documents::put_document`](super::Documents::put_document) does, if each of
    /// these sites still has its epoch, in one write. Returns the stored document. None if a site has another epoch:
    /// then nothing was changed.
    async fn begin_failover(
        &self,
        record: &DocumentRecord,
        sites: &[SiteRecord],
    ) -> Result<Option<DocumentRecord>, RefDbError>;

    /// Keeps every program that does not free names from opening an incarnation at the site, for ever. Role and epoch
    /// stay.
    async fn shut_out_earlier(&self, site: &SiteId) -> Result<(), RefDbError>;
}
