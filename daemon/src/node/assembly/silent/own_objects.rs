//! Stands in for the peers of the standby on the copy.
//!
//! A volume that moves to a rebuilt refdb trusts none of its objects, because a power cut may have taken some, and asks
//! its peers for all of them. The copy has no peers, and no power was cut: the values of the version map were whole on
//! the disk that was copied. So nothing is sent, and the wanted values must be there.

use async_trait::async_trait;
use lockstep_proto::{Oid, ProjectName};

use crate::seams::blob::Payload;
use crate::seams::peers::{PeerError, Peers};

/// Sends nothing. The caller looks for the wanted objects afterwards, and fails if one is not there.
pub(super) struct OwnObjects;

#[async_trait]
impl Peers for OwnObjects {
    async fn objects(&self, _: &ProjectName, _: &[Oid], _: &[Oid]) -> Result<Vec<Payload>, PeerError> {
        Ok(Vec::new())
    }
}
