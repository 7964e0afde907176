//! Begins drills by itself. Every node with a schedule looks, and the living node with the lowest name drives.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::SiteId;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::drill::{DrillReport, DrillRequest, Drills};
use lockstep_proto::failover::{FailoverKind, Role};
use tokio::time::sleep;

use super::desk::OperatorDesk;
use super::view::View;
use crate::seams::refdb::RefDbError;

/// The longest pause between two looks at the trend.
const LOOK: Duration = Duration::from_secs(60);

/// The reason of a drill that has no sites to move between.
const NO_WAY: &str = "there is no active site, or no standby to move to";

/// Why a drill that may be due was neither begun nor noted.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("{}", .0.message)]
    Desk(ApiError),
    #[error("{}", NO_WAY)]
    NoWay,
    #[error(transparent)]
    RefDb(#[from] RefDbError),
}

/// Begins a drill whenever the last one is older than `every`.
pub struct DrillSchedule {
    /// The desk through which drills begin: it refuses them when the preflight is red.
    pub desk: Arc<OperatorDesk>,
    /// The age of the last drill from which the next one is due.
    pub every: Duration,
    /// The site to which the drills move. None: the first standby.
    pub to: Option<SiteId>,
}

impl DrillSchedule {
    /// Runs until the task is aborted.
    pub async fn run(self) {
        loop {
            sleep(self.every.min(LOOK)).await;
            if let Err(error) = self.look().await {
                tracing::warn!(why = error.to_string(), "a scheduled drill was not begun");
            }
        }
    }

    async fn look(&self) -> Result<(), LookError> {
        let (view, drills) = self.desk.drill_state().await.map_err(LookError::Desk)?;
        let now_ms = self.desk.now_ms();
        if !self.desk.drives(&view) || !is_due(&drills, now_ms, self.every) {
            return Ok(());
        }
        let actor = format!("schedule of {}", self.desk.node());
        let Some(request) = request(&view, self.to.as_ref()) else {
            let none = self.of_nowhere(&view).ok_or(LookError::NoWay)?;
            self.desk.note_refused(not_run(&self.desk, actor, none, NO_WAY)).await?;
            return Ok(());
        };
        let why = match unlisted(&view, self.to.as_ref()) {
            Some(why) => why,
            None => match self.desk.begin_drill(&actor, request.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => error.message,
            },
        };
        // Another node, or an operator, may have begun one at the same time.
        let (_, drills) = self.desk.drill_state().await.map_err(LookError::Desk)?;
        if is_due(&drills, self.desk.now_ms(), self.every) {
            self.desk.note_refused(not_run(&self.desk, actor, request, &why)).await?;
        }
        Ok(())
    }

    /// The request of a drill that has no way, for the trend: the first site stands for the one that is not there.
    fn of_nowhere(&self, view: &View) -> Option<DrillRequest> {
        let any = view.sites.iter().map(|site| &site.site);
        let from = view.sites.iter().find(|site| site.role == Role::Active).map(|site| &site.site);
        let from = from.or_else(|| any.clone().next())?;
        let to = self.to.as_ref().or_else(|| any.clone().find(|site| *site != from)).unwrap_or(from);
        Some(scheduled(from, to))
    }
}

/// Whether the next drill is due.
fn is_due(drills: &Drills, now_ms: u64, every: Duration) -> bool {
    let every_ms = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
    let last_ms = drills.past.first().map_or(0, |last| last.at_ms);
    drills.running.is_none() && now_ms.saturating_sub(last_ms) >= every_ms
}

/// The reason why the setting names no site. None if it names one, or none is set.
fn unlisted(view: &View, to: Option<&SiteId>) -> Option<String> {
    let to = to.filter(|to| view.site(to).is_none())?;
    Some(format!("drill.to names {to}, which is not in `lockstep sites`; correct the setting, or add the site"))
}

/// The drill of a schedule: planned, from the first active site to the one that is set. While that one is active
/// itself, after a failover to it, the drill goes to the first standby.
fn request(view: &View, to: Option<&SiteId>) -> Option<DrillRequest> {
    let of = |role: Role| view.sites.iter().filter(move |site| site.role == role).map(|site| &site.site);
    let to = to.filter(|to| view.role(to) != Some(Role::Active) || of(Role::Active).any(|from| from != *to));
    let to = to.or_else(|| of(Role::Standby).next())?;
    let from = of(Role::Active).find(|site| *site != to)?;
    Some(scheduled(from, to))
}

fn scheduled(from: &SiteId, to: &SiteId) -> DrillRequest {
    let (from, to, reason) = (from.clone(), to.clone(), "scheduled".to_owned());
    DrillRequest { kind: FailoverKind::Planned, from, to, fail_in: None, reason }
}

/// The red entry of a drill that was due and was refused.
fn not_run(desk: &OperatorDesk, actor: String, request: DrillRequest, why: &str) -> DrillReport {
    DrillReport {
        number: 0,
        at_ms: desk.now_ms(),
        by: desk.node().clone(),
        actor,
        request,
        red: vec![format!("not begun: {why}")],
        took_writes_ms: None,
        green_ms: None,
        lost: 0,
        commits: 0,
        steps: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::drill::DrillBegun;

    use super::*;
    use crate::seams::refdb::SiteRecord;

    fn drills(at_ms: u64) -> Drills {
        let text = format!(
            r#"{{"past": [{{"number": 1, "at_ms": {at_ms}, "by": "b-0", "actor": "uid 0", "request":
                {{"kind": "planned", "from": "a", "to": "b", "reason": "r"}}}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_drill_is_due_when_the_last_one_is_old_and_none_is_in_progress() {
        let day = Duration::from_secs(86_400);
        assert!(is_due(&Drills::default(), 86_400_000, day), "there was none yet");
        assert!(!is_due(&drills(1_000), 86_400_999, day));
        assert!(is_due(&drills(1_000), 86_401_000, day));
        let running = DrillBegun { number: 2, by: "b-0".parse().unwrap(), at_ms: 0 };
        assert!(!is_due(&Drills { running: Some(running), ..drills(1_000) }, 86_401_000, day));
    }

    #[test]
    fn a_scheduled_drill_moves_from_the_active_site_to_the_first_standby_or_the_one_that_is_set() {
        let site = |name: &str, role| SiteRecord::new(name.parse().unwrap(), role, 1);
        let sites = vec![site("a", Role::Standby), site("b", Role::Active), site("c", Role::Standby)];
        let view = View { sites, ..View::default() };
        let way = |to: Option<&str>| {
            let to: Option<SiteId> = to.map(|to| to.parse().unwrap());
            request(&view, to.as_ref()).map(|one| (one.from.to_string(), one.to.to_string()))
        };
        assert_eq!(way(None), Some(("b".to_owned(), "a".to_owned())));
        assert_eq!(way(Some("c")), Some(("b".to_owned(), "c".to_owned())));
        assert_eq!(way(Some("b")), Some(("b".to_owned(), "a".to_owned())), "b is active since a failover");
        let alone = View { sites: vec![site("b", Role::Active)], ..View::default() };
        assert_eq!(request(&alone, None), None, "there is no standby");
    }
}
