//! A long run that operators begin at a node, such as a resync or a replay: one at a time, with a report.
//!
//! A request that asks for the same as the run in progress joins it. Any other one is refused until that run has ended.
//! Nothing of a run is durable: the report is that of the last run since the start of the node.

use std::sync::Arc;

use lockstep_proto::bridge::{ApiError, RefusalCode};
use parking_lot::Mutex;

/// The report of a run, which others read meanwhile.
pub trait RunReport: Clone {
    /// The request that begins a run.
    type Request;
    /// The kind of the run, as refusals name it.
    const KIND: &'static str;

    /// The number of the run since the start of the node.
    fn number(&self) -> u64;

    /// The authenticated identity of the operator who began it.
    fn by(&self) -> &str;

    /// Whether it has ended.
    fn has_ended(&self) -> bool;

    /// Whether a request asks for the same as this run does.
    fn is_asked_for(&self, request: &Self::Request) -> bool;
}

/// The answer to a request for a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun<R> {
    /// This run has just begun. The caller starts it.
    New(R),
    /// The same run is in progress.
    Joined(R),
}

/// The run of one kind that is in progress at a node, or was the last one. Clones share it.
#[derive(Clone, Debug)]
pub struct OperatorRun<R>(Arc<Mutex<Option<R>>>);

impl<R> Default for OperatorRun<R> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<R: RunReport> OperatorRun<R> {
    /// The run in progress, if it is the one that is asked for.
    ///
    /// # Errors
    /// Another one is in progress. A retry helps after its end.
    pub fn joined(&self, request: &R::Request) -> Result<Option<R>, ApiError> {
        joined(self.0.lock().as_ref(), request)
    }

    /// Begins a run, unless the same one is in progress. `report` makes its first report from its number.
    ///
    /// # Errors
    /// As [`OperatorRun::joined`].
    pub fn begin(&self, request: &R::Request, report: impl FnOnce(u64) -> R) -> Result<Begun<R>, ApiError> {
        let mut last = self.0.lock();
        if let Some(running) = joined(last.as_ref(), request)? {
            return Ok(Begun::Joined(running));
        }
        let begun = report(last.as_ref().map_or(0, R::number) + 1);
        *last = Some(begun.clone());
        Ok(Begun::New(begun))
    }

    /// The run that is in progress, or was the last one. None if there was none since the start of the node.
    #[must_use]
    pub fn last(&self) -> Option<R> {
        self.0.lock().clone()
    }

    /// Changes the report of the run in progress.
    pub fn report(&self, change: impl FnOnce(&mut R)) {
        if let Some(report) = self.0.lock().as_mut() {
            change(report);
        }
    }
}

fn joined<R: RunReport>(last: Option<&R>, request: &R::Request) -> Result<Option<R>, ApiError> {
    match last.filter(|last| !last.has_ended()) {
        Some(running) if !running.is_asked_for(request) => {
            let message = format!(
                "{} {} of {} is in progress at this node; wait for its end, then ask again",
                R::KIND,
                running.number(),
                running.by()
            );
            Err(ApiError::new(RefusalCode::Stale, true, message))
        }
        running => Ok(running.cloned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Report {
        number: u64,
        of: &'static str,
        ended: bool,
    }

    impl RunReport for Report {
        type Request = &'static str;
        const KIND: &'static str = "walk";

        fn number(&self) -> u64 {
            self.number
        }

        fn by(&self) -> &str {
            "uid 0"
        }

        fn has_ended(&self) -> bool {
            self.ended
        }

        fn is_asked_for(&self, request: &&'static str) -> bool {
            self.of == *request
        }
    }

    #[test]
    fn the_same_request_joins_another_one_waits_and_each_run_has_a_number_of_its_own() {
        let (run, of) = (OperatorRun::<Report>::default(), |of| move |number| Report { number, of, ended: false });
        let first = Report { number: 1, of: "a", ended: false };
        assert_eq!((run.joined(&"a"), run.last()), (Ok(None), None));
        assert_eq!(run.begin(&"a", of("a")), Ok(Begun::New(first.clone())));
        assert_eq!(run.begin(&"a", of("a")), Ok(Begun::Joined(first.clone())));
        assert_eq!(run.clone().joined(&"a"), Ok(Some(first)));
        let refused = run.begin(&"b", of("b")).unwrap_err();
        assert!(refused.retry && refused.message.contains("walk 1 of uid 0 is in progress"), "{}", refused.message);
        run.report(|report| report.ended = true);
        assert_eq!(run.joined(&"b"), Ok(None));
        assert_eq!(run.begin(&"b", of("b")), Ok(Begun::New(Report { number: 2, of: "b", ended: false })));
    }
}
