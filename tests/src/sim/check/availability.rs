//! Invariant 19: everything that a fault does not cut off goes on. A node that no fault touches sends heartbeats and
//! commits, without regard to the state of streams, of other nodes and of other sites. The incarnations of a site that
//! is down are adopted elsewhere.

use std::collections::BTreeMap;

use lockstep::seams::refdb::{IncarnationRecord, NodeRecord};
use lockstep_proto::{NodeId, ProjectName};

use super::Verdict;

/// A node must have been out of every fault's reach for this long before it is judged.
const SETTLED_MS: u64 = 15_000;
/// The longest time without a heartbeat of a node that no fault touches. The sender beats once per second.
const SILENT_MS: u64 = 8_000;
/// A node that is down for this long must have been adopted, at the latest by another site.
const ADOPTED_MS: u64 = 28_000;

/// The time within which one of the attempts to commit must end in a commit, if others fail. It is the longest deadline
/// of a client, and longer than a dead owner keeps a lock, or an incarnation waits for its adoption.
const FAILING_MS: u64 = 20_000;
/// The number of failed attempts below which nothing is judged: one that is unlucky proves nothing.
const FAILED: u64 = 4;

/// The state of a node at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Whether its process is up.
    pub is_up: bool,
    /// Whether it is up, not paused, and has its link to the refdb.
    pub is_untouched: bool,
}

#[derive(Debug, Default)]
struct Seen {
    untouched_since: Option<u64>,
    down_since: Option<u64>,
    beat: u64,
    /// Heartbeats of this life. A node that registers or reconciles has sent few, and is not judged yet.
    beats: u64,
}

/// An attempt of a client to commit, which has ended.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The node that was asked.
    pub node: &'a NodeId,
    /// The project of the refs.
    pub project: &'a ProjectName,
    /// When it was asked, in virtual milliseconds.
    pub asked_ms: u64,
    /// How it ended.
    pub ended: Ended,
}

/// The end of an attempt to commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Something is committed.
    Committed,
    /// It was refused for a reason of its own. That says nothing about the node.
    Refused,
    /// The node could not commit, waited for somebody, or does not know the outcome.
    Failed,
}

/// The attempts at one node, on one project, that failed since the last commit.
#[derive(Debug, Default)]
struct Failing {
    committed_ms: u64,
    since_ms: u64,
    count: u64,
}

/// The heartbeats, faults and ends of all nodes, as seen so far, and the attempts of clients to commit.
#[derive(Debug, Default)]
pub struct Availability {
    nodes: BTreeMap<NodeId, Seen>,
    failing: BTreeMap<(NodeId, ProjectName), Failing>,
    /// When a node was last unable to commit, and when the partition of a project last throttled.
    cut_off_ms: BTreeMap<NodeId, u64>,
    throttled_ms: BTreeMap<ProjectName, u64>,
    judged: Judged,
}

/// How often there was something to judge: no fault had been in the way for long enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// The number of attempts to commit that counted, by their commit or their failure.
    pub attempts: u64,
    /// The number of looks at a node that had to beat.
    pub beats: u64,
}

impl Availability {
    /// How often anything was judged so far.
    #[must_use]
    pub fn judged(&self) -> Judged {
        self.judged
    }

    /// A heartbeat has arrived. A node that reconciles sends none until it is done, and is not judged before.
    pub fn beat(&mut self, record: &NodeRecord, now_ms: u64) {
        let seen = self.nodes.entry(record.node.clone()).or_default();
        (seen.beat, seen.beats) = (now_ms, if record.reconciles() { 0 } else { seen.beats + 1 });
    }

    /// The site of a node joins or leaves: earlier heartbeats of the node count no more.
    pub fn forget(&mut self, node: &NodeId) {
        self.nodes.remove(node);
    }

    /// A node cannot commit at this moment: it is down, paused, cut off, or its site takes no writes.
    pub fn cut_off(&mut self, node: &NodeId, now_ms: u64) {
        self.cut_off_ms.insert(node.clone(), now_ms);
    }

    /// The partition of a project throttles at this moment.
    pub fn throttled(&mut self, project: &ProjectName, now_ms: u64) {
        self.throttled_ms.insert(project.clone(), now_ms);
    }

    /// Judges an attempt to commit, unless a fault was in its way.
    ///
    /// # Errors
    /// For long attempts at this node, on this project, have failed, and none was committed.
    pub fn attempted(&mut self, attempt: Attempt<'_>, now_ms: u64) -> Verdict {
        let Attempt { node, project, asked_ms, ended } = attempt;
        let touched = self.cut_off_ms.get(node).max(self.throttled_ms.get(project));
        let is_judged = touched.is_none_or(|last| asked_ms >= last + SETTLED_MS);
        self.judged.attempts += u64::from(is_judged && ended != Ended::Refused);
        let failing = self.failing.entry((node.clone(), project.clone())).or_default();
        match ended {
            Ended::Failed if is_judged => {}
            Ended::Refused if is_judged => return Ok(()),
            Ended::Committed | Ended::Refused | Ended::Failed => {
                *failing = Failing { committed_ms: now_ms, ..Failing::default() };
                return Ok(());
            }
        }
        // Of attempts that overlap, an earlier one may end later.
        let asked_ms = asked_ms.max(failing.committed_ms);
        failing.since_ms = if failing.count == 0 { asked_ms } else { failing.since_ms.min(asked_ms) };
        failing.count += 1;
        let lasts = now_ms.saturating_sub(failing.since_ms);
        if failing.count >= FAILED && lasts > FAILING_MS {
            let count = failing.count;
            return Err(format!("no fault touches {node}, and {count} commits to {project} failed within {lasts} ms"));
        }
        Ok(())
    }

    /// Judges the heartbeats of a node.
    ///
    /// # Errors
    /// No fault touches the node, and it is silent.
    pub fn look(&mut self, node: &NodeId, now: Now, now_ms: u64) -> Verdict {
        let seen = self.nodes.entry(node.clone()).or_default();
        let since = |known: Option<u64>, is_so: bool| is_so.then(|| known.unwrap_or(now_ms));
        seen.untouched_since = since(seen.untouched_since, now.is_untouched);
        seen.down_since = since(seen.down_since, !now.is_up);
        seen.beats = if now.is_up { seen.beats } else { 0 };
        let is_judged = seen.beats > 3 && seen.untouched_since.is_some_and(|since| now_ms >= since + SETTLED_MS);
        self.judged.beats += u64::from(is_judged);
        let silent = now_ms.saturating_sub(seen.beat);
        if is_judged && silent > SILENT_MS {
            return Err(format!("no fault touches {node}, and it has sent no heartbeat for {silent} ms"));
        }
        Ok(())
    }

    /// Judges the incarnations of nodes that are down.
    ///
    /// # Errors
    /// Something may still be committed in an incarnation whose node is down for long, although a node that no fault
    /// touches could have adopted it.
    pub fn adopted<'a>(&self, records: impl Iterator<Item = &'a IncarnationRecord>, now_ms: u64) -> Verdict {
        let for_long = |since: Option<u64>| since.is_some_and(|since| now_ms >= since + ADOPTED_MS);
        if !self.nodes.values().any(|seen| for_long(seen.untouched_since)) {
            return Ok(());
        }
        for record in records.filter(|record| record.may_commit()) {
            if self.nodes.get(&record.id.node).is_some_and(|seen| for_long(seen.down_since)) {
                return Err(format!(
                    "{} is down for {ADOPTED_MS} ms, and {} is not adopted",
                    record.id.node, record.id
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_out_of_reach_of_faults_may_fail_for_a_while_and_not_for_long() {
        let (node, project): (NodeId, ProjectName) = ("a-0".parse().unwrap(), "p".parse().unwrap());
        let mut seen = Availability::default();
        let mut ends = |asked_ms, ended, now_ms| {
            seen.attempted(Attempt { node: &node, project: &project, asked_ms, ended }, now_ms)
        };
        assert_eq!(ends(0, Ended::Committed, 1_000), Ok(()));
        for asked in [500, 1_500, 2_500, 3_500] {
            assert_eq!(ends(asked, Ended::Failed, asked + 15_000), Ok(()), "the last commit was a moment ago");
        }
        assert_eq!(ends(5_000, Ended::Committed, 20_000), Ok(()));
        assert_eq!(ends(6_000, Ended::Failed, 39_000), Ok(()), "one attempt alone proves nothing");
        assert_eq!([ends(21_000, Ended::Failed, 40_000), ends(22_000, Ended::Failed, 40_100)], [Ok(()), Ok(())]);
        assert_eq!(ends(30_000, Ended::Refused, 40_150), Ok(()), "it proves nothing either");
        assert!(ends(23_000, Ended::Failed, 40_200).is_err());
    }

    #[test]
    fn an_attempt_that_a_fault_met_is_not_judged() {
        let (node, project): (NodeId, ProjectName) = ("a-0".parse().unwrap(), "p".parse().unwrap());
        let mut seen = Availability::default();
        let attempt = |asked_ms| Attempt { node: &node, project: &project, asked_ms, ended: Ended::Failed };
        for asked in 0..10 {
            seen.cut_off(&node, 1_000 * asked);
            seen.throttled(&project, 20_000 + 1_000 * asked);
            assert_eq!(seen.attempted(attempt(1_000 * asked), 30_000), Ok(()));
        }
        assert_eq!(seen.judged(), Judged::default());
        let since = 29_000 + SETTLED_MS;
        let mut last = Ok(());
        for asked in 0..FAILED {
            last = seen.attempted(attempt(since + asked), since + FAILING_MS + 1);
        }
        assert!(last.is_err());
        assert_eq!(seen.judged(), Judged { attempts: FAILED, beats: 0 });
    }
}
