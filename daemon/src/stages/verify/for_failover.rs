//! The verification as the step of a failover: of all projects, with a summary as its result.

use async_trait::async_trait;
use lockstep_proto::failover::VerifiedAt;
use lockstep_proto::verify::{Verification, VerifyRequest};

use super::Verifier;
use crate::stages::ports::{Comparison, ComparisonError};

/// The most differences and failures that a summary names.
const EXAMPLES: usize = 3;
/// The most characters of each.
const MOST_TEXT: usize = 400;

#[async_trait]
impl Comparison for Verifier {
    /// One that is in progress does not count: its first projects may have been compared long ago, and an operator may
    /// have given it a small share.
    async fn begin_all(&self) -> Result<u64, ComparisonError> {
        let before = self.last().map_or(0, |last| last.number);
        let request = VerifyRequest::of_refdb(None, self.share);
        let begun = self.begin(request.clone()).await?;
        if begun.number > before && begun.request == request {
            return Ok(begun.number);
        }
        let (number, share) = (begun.number, self.share_of(&begun.request));
        let of = begun.request.project.map_or_else(|| "all projects".to_owned(), |project| project.to_string());
        let against = begun.request.against.map(|against| format!(" against {against}")).unwrap_or_default();
        Err(ComparisonError::InProgress(number, format!("{of}{against}"), share))
    }

    fn result(&self, number: u64) -> Result<Option<VerifiedAt>, ComparisonError> {
        let last = self.last().filter(|last| last.number == number);
        let last = last.ok_or(ComparisonError::NotLast(number))?;
        Ok(last.ended_ms.map(|_| summary(&last)))
    }
}

fn summary(ended: &Verification) -> VerifiedAt {
    let found = ended.found.iter().map(|one| format!("{} {}: {}", one.project, one.name, one.why));
    let failed = ended.failed.iter().map(|one| format!("{}: {}", one.project, one.why));
    VerifiedAt {
        projects: ended.projects,
        refs: ended.refs,
        mismatches: ended.mismatches,
        failures: ended.failures,
        examples: found.chain(failed).take(EXAMPLES).map(|text| text.chars().take(MOST_TEXT).collect()).collect(),
    }
}
