//! Reads at intervals how failovers and drills stand, for the gauges. The state is that of the refdb, so every node
//! shows the same, but for silent drills: those are of one node.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::bridge::ApiError;
use lockstep_proto::drill::Drills;
use lockstep_proto::failover::{Failover, FailoverKind, Role};
use lockstep_proto::overview::Overview;
use lockstep_proto::silent::SilentDrills;
use lockstep_proto::{NodeId, SiteId};
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use crate::node::config::Settings;
use crate::stages::ports::Operators;
use crate::telemetry::metrics::{DrillState, FailoverState};

/// The interval at which the state is read. A look costs some dozen read units of the refdb.
const LOOK: Duration = Duration::from_secs(15);
/// How long the refdb may take to answer a look.
const ANSWER: Duration = Duration::from_secs(8);

/// Reads the state of failovers and drills on behalf of one node.
pub(super) struct FailoverGauges {
    operators: Arc<dyn Operators>,
    own: Own,
    state: Arc<Mutex<FailoverState>>,
}

/// The node, and the drills that it begins by itself.
struct Own {
    site: SiteId,
    node: NodeId,
    drills: bool,
    silent: bool,
}

impl FailoverGauges {
    /// Reads for the node of these settings, and keeps the result in `state`.
    pub(super) fn new(settings: &Settings, operators: Arc<dyn Operators>, state: Arc<Mutex<FailoverState>>) -> Self {
        let (site, node) = (settings.site.clone(), settings.node.clone());
        let (drills, silent) = (settings.drill.every.is_some(), settings.drill.silent.every.is_some());
        Self { operators, own: Own { site, node, drills, silent }, state }
    }

    /// Reads until the task is aborted.
    pub(super) async fn run(self) {
        loop {
            let seen = timeout(ANSWER, self.read()).await;
            let why = match seen {
                Ok(Ok(state)) => {
                    *self.state.lock() = state;
                    None
                }
                Ok(Err(error)) => Some(error.message),
                Err(_) => Some(format!("no answer within {} s", ANSWER.as_secs())),
            };
            if let Some(why) = why {
                tracing::debug!(why, "whether a failover is safe is not known");
                not_known(&mut self.state.lock());
            }
            sleep(LOOK).await;
        }
    }

    async fn read(&self) -> Result<FailoverState, ApiError> {
        let overview = self.operators.overview().await?;
        let drills = self.operators.drills().await?;
        let silent = match stands_by(&overview, &self.own.site) {
            true => Some(self.operators.silent_drills().await?),
            false => None,
        };
        Ok(judge(&overview, &drills, silent.as_ref(), &self.own))
    }
}

/// While the refdb does not answer, a failover is not safe, and it is not known whether one is held. The drills stay as
/// they were.
fn not_known(state: &mut FailoverState) {
    state.safe.values_mut().for_each(|is_safe| *is_safe = false);
    state.held = None;
}

/// Whether a site is a standby. Silent drills are of nodes of such a site alone.
fn stands_by(overview: &Overview, site: &SiteId) -> bool {
    overview.sites.iter().any(|one| one.status.site == *site && one.status.role == Role::Standby)
}

/// The state that the gauges show. `silent`: the silent drills of all nodes, if those of this node count.
fn judge(overview: &Overview, drills: &Drills, silent: Option<&SilentDrills>, own: &Own) -> FailoverState {
    let safe = overview.sites.iter().filter_map(|site| Some((site.status.site.clone(), site.safe.as_ref()?.safe)));
    let mut state = FailoverState {
        safe: safe.collect(),
        held: Some(overview.failover.as_ref().is_some_and(is_held)),
        ..FailoverState::default()
    };
    for kind in [FailoverKind::Planned, FailoverKind::Forced] {
        let past = drills.past.iter().filter(|one| one.request.kind == kind);
        let past: Vec<(u64, bool)> = past.map(|one| (one.at_ms, one.is_green())).collect();
        // A schedule begins planned ones.
        let is_due = own.drills && kind == FailoverKind::Planned;
        state.drills.extend(drill_state(&past, is_due).map(|drill| (kind.name(), drill)));
    }
    if let Some(silent) = silent {
        let past = silent.past.iter().filter(|one| one.node == own.node);
        let past: Vec<(u64, bool)> = past.map(|one| (one.at_ms, one.is_green())).collect();
        state.drills.extend(drill_state(&past, own.silent).map(|drill| ("silent", drill)));
    }
    state
}

/// Whether a failover waits for an operator.
fn is_held(failover: &Failover) -> bool {
    failover.is_in_progress() && failover.paused && !failover.aborting
}

/// How the drills of one kind stand, from the past ones, newest first: when each was requested, and whether it was
/// green. None if there was none, and none is due.
fn drill_state(past: &[(u64, bool)], is_due: bool) -> Option<DrillState> {
    let green = past.first().map(|(_, is_green)| *is_green);
    let green_at = past.iter().find(|(_, is_green)| *is_green).map_or(0, |(at_ms, _)| at_ms / 1_000);
    (is_due || green.is_some()).then_some(DrillState { green, green_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Site `a` is active, `b` stands by, and a failover from `a` to `b` has these fields.
    fn overview(failover: &str) -> Overview {
        let text = format!(
            r#"{{"by": "b-0", "at_ms": 1, "exposure": "", "sites": [
                {{"status": {{"site": "a", "role": "active", "epoch": 1, "nodes": [], "unpublished": 0}},
                  "nodes": [], "lacks": [], "problems": []}},
                {{"status": {{"site": "b", "role": "standby", "epoch": 1, "nodes": [], "unpublished": 0}},
                  "nodes": [], "lacks": [], "problems": [], "safe": {{"safe": true, "blockers": []}}}}],
               "failover": {{"number": 1, "kind": "planned", "from": "a", "to": "b", "from_epoch": 1, "to_epoch": 1,
                  "actor": "uid 0", "reason": "r", "requested_ms": 1, "steps": [], {failover}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    /// Past drills, newest first: the kind, the second of the request, and whether it was green.
    fn drills(past: &[(&str, u64, bool)]) -> Drills {
        let one = |(kind, at, is_green): &(&str, u64, bool)| {
            serde_json::json!({
                "number": at, "at_ms": at * 1_000, "by": "b-0", "actor": "uid 0",
                "request": {"kind": kind, "from": "a", "to": "b", "reason": "r"},
                "red": if *is_green { vec![] } else { vec!["injected"] },
            })
        };
        let past: Vec<serde_json::Value> = past.iter().map(one).collect();
        serde_json::from_value(serde_json::json!({ "past": past })).unwrap()
    }

    fn silent(node: &str, is_green: bool) -> SilentDrills {
        let red = if is_green { vec![] } else { vec!["killed"] };
        let one = serde_json::json!({
            "id": "x", "site": "b", "node": node, "at_ms": 9_000, "actor": "uid 0", "reason": "r", "red": red,
        });
        serde_json::from_value(serde_json::json!({ "past": [one] })).unwrap()
    }

    fn own(drills: bool, silent: bool) -> Own {
        Own { site: "b".parse().unwrap(), node: "b-0".parse().unwrap(), drills, silent }
    }

    #[test]
    fn a_failover_is_held_while_it_is_paused_and_a_target_is_unsafe_while_the_refdb_is_silent() {
        let state = |failover: &str| judge(&overview(failover), &Drills::default(), None, &own(false, false));
        let end = r#""end": {"outcome": "done", "at_ms": 9, "lost": 0}"#;
        for (failover, is_held) in [
            (r#""paused": true"#, true),
            (r#""paused": false"#, false),
            (r#""paused": true, "aborting": true"#, false),
            (format!(r#""paused": true, {end}"#).as_str(), false),
        ] {
            assert_eq!(state(failover).held, Some(is_held), "{failover}");
        }
        let mut state = state(end);
        let to = |state: &FailoverState| state.safe.clone().into_iter().collect::<Vec<_>>();
        assert_eq!(to(&state), [("b".parse().unwrap(), true)], "nothing can be moved to the only active site");
        not_known(&mut state);
        assert_eq!((to(&state), state.held), (vec![("b".parse().unwrap(), false)], None));
    }

    #[test]
    fn the_last_drill_of_each_kind_counts_and_the_time_is_that_of_the_last_green_one() {
        let ended = overview(r#""end": {"outcome": "done", "at_ms": 9, "lost": 0}"#);
        let past = drills(&[("planned", 30, false), ("forced", 20, true), ("planned", 10, true)]);
        let state = |green: Option<bool>, green_at: u64| DrillState { green, green_at };
        let of = |drills: &Drills, silent: Option<&SilentDrills>, own: &Own| {
            judge(&ended, drills, silent, own).drills.into_iter().collect::<Vec<_>>()
        };
        let both = [("forced", state(Some(true), 20)), ("planned", state(Some(false), 10))];
        assert_eq!(of(&past, None, &own(true, true)), both);
        assert_eq!(of(&Drills::default(), None, &own(false, false)), [], "none has run, and none is scheduled");
        let due = [("planned", state(None, 0)), ("silent", state(None, 0))];
        assert_eq!(of(&Drills::default(), Some(&SilentDrills::default()), &own(true, true)), due);
        let of_node = |node: &str| of(&Drills::default(), Some(&silent(node, false)), &own(false, false));
        assert_eq!(of_node("b-0"), [("silent", state(Some(false), 0))]);
        assert_eq!(of_node("b-1"), [], "that is another node");
        let green = of(&Drills::default(), Some(&silent("b-0", true)), &own(false, false));
        assert_eq!(green, [("silent", state(Some(true), 9))]);
    }

    #[test]
    fn silent_drills_count_at_a_standby_alone() {
        let overview = overview(r#""end": {"outcome": "done", "at_ms": 9, "lost": 0}"#);
        assert!(stands_by(&overview, &"b".parse().unwrap()));
        assert!(!stands_by(&overview, &"a".parse().unwrap()));
    }
}
