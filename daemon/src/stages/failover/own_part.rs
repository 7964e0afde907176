//! The part of a target's own node in the steps `verify` and `probe`. The driver of another node cannot do it: it is
//! about this node's disk, and about its users.

use lockstep_proto::NodeId;
use lockstep_proto::failover::{Failover, FailoverStep, ProbedAt};
use tokio::time::Instant;

use super::tools::Tools;
use crate::stages::ports::ComparisonError;

/// The work of this node in the current step, between two looks of its driver.
#[derive(Default)]
pub(super) struct OwnPart {
    /// The failover for which a verification was begun, and its number.
    verification: Option<(u64, u64)>,
    /// When the last round of probes ended.
    probed: Option<Instant>,
    /// Why the refs could not be compared at the last look.
    why: Option<String>,
}

impl OwnPart {
    /// Whether the refs cannot be compared for another reason than at the last look.
    pub(super) fn is_news(&mut self, why: &str) -> bool {
        let is_news = self.why.as_deref() != Some(why);
        self.why = Some(why.to_owned());
        is_news
    }

    /// Does the part of `node` in the current step of `failover`, and notes its result there. A node that takes no
    /// writes is not probed: users do not reach it. Answers whether there is something to write.
    ///
    /// # Errors
    /// The refs cannot be compared now. The next look tries again.
    pub(super) async fn take(
        &mut self,
        tools: &Tools,
        (node, takes_writes): (&NodeId, bool),
        failover: &mut Failover,
        now_ms: u64,
    ) -> Result<bool, ComparisonError> {
        let begun = failover.current().filter(|step| step.began_ms.is_some() && !failover.aborting);
        match begun.map(|step| step.step) {
            Some(FailoverStep::Verify) if !failover.verified.contains_key(node) => {
                self.verify(tools, node, failover).await
            }
            Some(FailoverStep::Probe) if takes_writes => Ok(self.probe(tools, node, failover, now_ms).await),
            _ => Ok(false),
        }
    }

    /// Begins a verification, or looks whether it has ended.
    async fn verify(&mut self, tools: &Tools, node: &NodeId, failover: &mut Failover) -> Result<bool, ComparisonError> {
        let begun = self.verification.filter(|(of, _)| *of == failover.number);
        let Some((_, number)) = begun else {
            self.verification = Some((failover.number, tools.comparison.begin_all().await?));
            return Ok(false);
        };
        match tools.comparison.result(number) {
            Ok(None) => Ok(false),
            // The result stays with the verifier until the record has it.
            Ok(Some(found)) => {
                failover.verified.insert(node.clone(), found);
                Ok(true)
            }
            Err(why) => {
                self.verification = None;
                Err(why)
            }
        }
    }

    /// Runs a round of probes, unless all were green or the last round is too young. A round that changes nothing is
    /// not written.
    async fn probe(&mut self, tools: &Tools, node: &NodeId, failover: &mut Failover, now_ms: u64) -> bool {
        let before = failover.probed.get(node);
        let is_green = before.is_some_and(|probed| probed.green_ms.is_some());
        if is_green || self.probed.is_some_and(|at| at.elapsed() < tools.probes.interval()) {
            return false;
        }
        let began = Instant::now();
        let probes = tools.probes.round().await;
        self.probed = Some(Instant::now());
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let green = probes.iter().all(|one| one.red.is_none()).then_some(now_ms + took_ms);
        let after = ProbedAt { green_ms: green, probes };
        let is_news = before != Some(&after);
        failover.probed.insert(node.clone(), after);
        is_news
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::time::Duration;

    use async_trait::async_trait;
    use lockstep_proto::failover::{FailoverKind, ProbeResult, VerifiedAt};
    use lockstep_proto::{IncarnationId, SiteId};
    use parking_lot::Mutex;

    use super::*;
    use crate::seams::refdb::RefDbError;
    use crate::stages::failover::decide::tests::failover;
    use crate::stages::ports::{Comparison, Fencing, Probes};

    const ROUND: Duration = Duration::from_millis(200);

    /// Answers rounds of one probe, and comparisons, from lists.
    #[derive(Default)]
    struct Fake {
        rounds: Mutex<VecDeque<Option<&'static str>>>,
        compared: Mutex<VecDeque<Result<Option<VerifiedAt>, ComparisonError>>>,
        begun: Mutex<u64>,
    }

    #[async_trait]
    impl Probes for Fake {
        async fn round(&self) -> Vec<ProbeResult> {
            let red = self.rounds.lock().pop_front().flatten().map(str::to_owned);
            vec![ProbeResult { probe: "push".to_owned(), red }]
        }

        fn interval(&self) -> Duration {
            ROUND
        }
    }

    #[async_trait]
    impl Comparison for Fake {
        async fn begin_all(&self) -> Result<u64, ComparisonError> {
            *self.begun.lock() += 1;
            Ok(*self.begun.lock())
        }

        fn result(&self, _: u64) -> Result<Option<VerifiedAt>, ComparisonError> {
            self.compared.lock().pop_front().unwrap_or(Ok(None))
        }
    }

    #[async_trait]
    impl Fencing for Fake {
        async fn fence(&self, _: &SiteId, _: &IncarnationId) -> Result<(), RefDbError> {
            Ok(())
        }
    }

    fn tools(fake: Fake) -> (Arc<Fake>, Tools) {
        let fake = Arc::new(fake);
        let tools = Tools {
            fencing: Arc::clone(&fake) as _,
            comparison: Arc::clone(&fake) as _,
            probes: Arc::clone(&fake) as _,
            hurry: Vec::new(),
        };
        (fake, tools)
    }

    fn equal() -> VerifiedAt {
        VerifiedAt { projects: 1, refs: 1, mismatches: 0, failures: 0, examples: Vec::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn probes_run_until_they_are_green_and_only_news_are_written() {
        let rounds = [Some("denied"), Some("denied"), None].into();
        let (_, tools) = tools(Fake { rounds: Mutex::new(rounds), ..Fake::default() });
        let mut probe = failover(FailoverKind::Forced, FailoverStep::Probe);
        let (mut own, node) = (OwnPart::default(), "b-0".parse().unwrap());
        assert!(!own.take(&tools, (&node, false), &mut probe, 7).await.unwrap(), "it takes no writes yet");
        assert!(probe.probed.is_empty(), "so it is not red");
        let mut written = Vec::new();
        for _ in 0..5 {
            written.push(own.take(&tools, (&node, true), &mut probe, 7).await.unwrap());
            tokio::time::advance(ROUND).await;
        }
        assert_eq!(written, [true, false, true, false, false]);
        assert_eq!(probe.probed[&node].green_ms, Some(7));
    }

    #[tokio::test]
    async fn a_node_verifies_once_and_begins_again_when_its_result_is_gone() {
        let compared = [Ok(None), Err(ComparisonError::NotLast(1)), Ok(Some(equal()))].into();
        let (fake, tools) = tools(Fake { compared: Mutex::new(compared), ..Fake::default() });
        let mut verify = failover(FailoverKind::Planned, FailoverStep::Verify);
        let (mut own, node) = (OwnPart::default(), "b-0".parse().unwrap());
        let mut outcomes = Vec::new();
        for _ in 0..6 {
            outcomes.push(own.take(&tools, (&node, true), &mut verify, 7).await.is_ok_and(|written| written));
        }
        assert_eq!(outcomes, [false, false, false, false, true, false]);
        assert_eq!((*fake.begun.lock(), verify.verified[&node].clone()), (2, equal()));
    }
}
