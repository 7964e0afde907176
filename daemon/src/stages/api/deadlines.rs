//! How long a caller of the bridge API waits for its answer.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::ProjectName;
use lockstep_proto::bridge::{ApiError, LONGEST_DEADLINE_MS, RefTransactionRequest, RefTransactionResponse};
use tokio_util::task::TaskTracker;

use super::context::{answer_within, of_the_stage};
use super::transactions::unknown_batch;
use crate::seams::git::Judged;
use crate::stages::ports::Transactions;

/// The default deadline of a request that names none.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// The longest deadline that a request may name.
pub const LONGEST_DEADLINE: Duration = Duration::from_millis(LONGEST_DEADLINE_MS);

/// Commits a batch, and answers at its deadline at the latest: "unknown" if the commit stage has no answer then. The
/// stage gets the deadline less the time for its own answer, which says more. Its work goes on to its end in `tasks`,
/// and `held` is dropped there.
///
/// # Errors
/// See [`Transactions::submit_judged`]: the batch was not tried.
pub async fn submit_within(
    deadline: Duration,
    tasks: &TaskTracker,
    transactions: Arc<dyn Transactions>,
    (project, mut request, judged): (ProjectName, RefTransactionRequest, Judged),
    held: impl Send + 'static,
) -> Result<RefTransactionResponse, ApiError> {
    request.deadline_ms = Some(u64::try_from(of_the_stage(deadline).as_millis()).unwrap_or(u64::MAX));
    let unknown = unknown_batch(&request);
    let work = async move {
        let answer = transactions.submit_judged(&project, request, judged).await;
        drop(held);
        answer
    };
    answer_within(tasks, deadline, work).await.unwrap_or(Ok(unknown))
}
