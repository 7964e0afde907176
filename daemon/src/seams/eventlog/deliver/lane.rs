//! The published mark of one lane.

use std::collections::BTreeSet;

use lockstep_proto::Seq;

/// How far a lane is published: the mark, and the slots above it that are in the event log already (or hold nothing to
/// publish). They are kept in memory only. After a crash these slots are appended again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneProgress {
    mark: Seq,
    above: BTreeSet<Seq>,
}

impl LaneProgress {
    /// A lane that is published below `mark`.
    #[must_use]
    pub fn from(mark: Seq) -> Self {
        Self { mark, above: BTreeSet::new() }
    }

    /// Records that a slot needs no append any more. Returns whether the mark has moved.
    pub fn done(&mut self, seq: Seq) -> bool {
        if seq < self.mark {
            return false;
        }
        self.above.insert(seq);
        let before = self.mark;
        while self.above.remove(&self.mark) {
            self.mark = self.mark.next();
        }
        self.mark > before
    }

    /// Every slot below this mark needs no append any more.
    #[must_use]
    pub fn mark(&self) -> Seq {
        self.mark
    }

    /// Whether a slot needs no append any more.
    #[must_use]
    pub fn is_done(&self, seq: Seq) -> bool {
        seq < self.mark || self.above.contains(&seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_follows_the_longest_prefix() {
        let mut lane = LaneProgress::from(Seq(3));
        assert!(!lane.done(Seq(5)) && !lane.done(Seq(4)) && !lane.done(Seq(1)));
        assert!(lane.is_done(Seq(4)) && lane.is_done(Seq(2)) && !lane.is_done(Seq(3)));
        assert!(lane.done(Seq(3)));
        assert_eq!(lane, LaneProgress::from(Seq(6)));
    }
}
