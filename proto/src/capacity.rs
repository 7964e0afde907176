//! The capacity of streams: the document of the refdb by which the autoscaler of a site goes on after a restart, and
//! its part of a node's status.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::{NodeId, SiteId};

/// The most steps of a stream's history. Older ones are dropped.
pub const MOST_SCALINGS: usize = 20;
/// The most characters of a reason or an outcome in the document.
pub const MOST_WHY: usize = 300;

/// The document of the refdb: the capacity of the stream of each site that has an autoscaler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacities {
    /// By the site of the stream.
    #[serde(default)]
    pub sites: BTreeMap<SiteId, StreamCapacity>,
}

/// The capacity of the stream of one site, as its autoscaler saw it last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamCapacity {
    /// The node that looks at the load for the site. None before the first look.
    #[schema(value_type = Option<String>)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<NodeId>,
    /// The number of looks. While it stands still, the holder is gone, and another node takes its place.
    #[serde(default)]
    pub turn: u64,
    /// When the load was looked at last, by the holder's clock, in milliseconds since 1970.
    #[serde(default)]
    pub looked_ms: u64,
    /// The number of open shards.
    #[serde(default)]
    pub shards: u32,
    /// The last known load, in thousandths of the writes that one shard takes.
    #[serde(default)]
    pub load: u64,
    /// Since when the load has been so low that fewer shards are enough. None while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_since_ms: Option<u64>,
    /// The highest load since then, in the unit of `load`.
    #[serde(default)]
    pub quiet_peak: u64,
    /// When the number of shards was changed in the last 24 hours, in milliseconds since 1970. Kinesis allows ten
    /// changes.
    #[serde(default)]
    pub calls_ms: Vec<u64>,
    /// Whether the stream needs more shards, and the autoscaler may not add any.
    #[serde(default)]
    pub stuck: bool,
    /// The result of the last look, for people.
    #[serde(default)]
    pub told: String,
    /// The last steps, oldest first, at most [`MOST_SCALINGS`].
    #[serde(default)]
    pub history: Vec<Scaling>,
}

/// A step of the autoscaler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Scaling {
    /// When it was decided, in milliseconds since 1970.
    pub at_ms: u64,
    /// The node that decided it.
    #[schema(value_type = String)]
    pub by: NodeId,
    /// The number of open shards before.
    pub from: u32,
    /// The number of open shards that it asks for.
    pub to: u32,
    /// The reason of the step, for people.
    pub why: String,
    /// Whether it was decided in a dry run, and not taken.
    #[serde(default)]
    pub dry_run: bool,
    /// The answer of the event log. None if it is not known: the node ended meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

impl StreamCapacity {
    /// Adds a step to the history. Its texts are cut to [`MOST_WHY`] characters.
    pub fn note(&mut self, scaling: Scaling) {
        self.history.push(Scaling { why: cut(&scaling.why), ..scaling });
        let surplus = self.history.len().saturating_sub(MOST_SCALINGS);
        self.history.drain(..surplus);
    }

    /// Notes the outcome of the last step.
    pub fn ended(&mut self, outcome: &str) {
        if let Some(last) = self.history.last_mut() {
            last.outcome = Some(cut(outcome));
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MOST_WHY).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_bounded_and_the_document_survives_its_own_form() {
        let mut capacity = StreamCapacity { calls_ms: vec![7], ..StreamCapacity::default() };
        for at_ms in 0..30 {
            let by = "a-0".parse().unwrap();
            let why = "x".repeat(1_000);
            capacity.note(Scaling { at_ms, by, from: 1, to: 2, why, dry_run: false, outcome: None });
        }
        capacity.ended("done");
        assert_eq!((capacity.history.len(), capacity.history[0].at_ms), (MOST_SCALINGS, 10));
        assert_eq!(capacity.history[0].why.len(), MOST_WHY);
        assert_eq!(capacity.history.last().unwrap().outcome.as_deref(), Some("done"));
        let document = Capacities { sites: [("a".parse().unwrap(), capacity)].into() };
        let text = serde_json::to_string(&document).unwrap();
        assert!(text.len() < 10 * 1024, "{} bytes are written once per look", text.len());
        assert_eq!(serde_json::from_str::<Capacities>(&text).unwrap(), document);
        assert_eq!(serde_json::from_str::<Capacities>("{}").unwrap(), Capacities::default());
    }
}
