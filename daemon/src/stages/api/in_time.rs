//! A batch is answered inside of the time that its caller waits.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::bridge::{ApiError, Outcome, RefResult, RefTransactionRequest, RefTransactionResponse};
use lockstep_proto::{ProjectName, RefName};
use tokio_util::task::TaskTracker;

use super::context::{answer_within, no_answer, of_the_stage};
use crate::seams::git::Judged;
use crate::stages::ports::Transactions;

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

/// The answer of a batch without one in time.
pub(super) fn unknown_batch(request: &RefTransactionRequest) -> RefTransactionResponse {
    let result =
        |name: &RefName| RefResult { name: name.clone(), outcome: Outcome::Unknown, refusal: Some(no_answer()) };
    let results = request.commands.iter().map(|command| result(&command.name)).collect();
    RefTransactionResponse { outcome: Outcome::Unknown, txn: None, results }
}
