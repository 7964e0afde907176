//! Invariant 3: no ref ever points to a missing object.

use lockstep_proto::{Oid, ProjectName, RefName};

use super::Verdict;
use crate::sim::backend::Volume;

/// Judges one ref of a volume.
///
/// # Errors
/// The object, or something that it needs, is missing.
pub fn complete(volume: &dyn Volume, project: &ProjectName, name: &RefName, oid: &Oid) -> Verdict {
    if volume.closure_is_complete(project, oid) {
        return Ok(());
    }
    Err(format!("{project} {name} points to {oid}, of which objects are missing"))
}
