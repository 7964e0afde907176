//! The mode of a site: switches Lockstep off and on, as operators ask.
//!
//! A site that is off is marked in the refdb. Its Gerrits write to their repositories, and the refdb does not know what
//! they write. The mark outlives the time: a node takes writes again only when its volume has come back from it.

use lockstep_proto::SiteId;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::failover::ModeRequest;
use lockstep_proto::history::RoleChange;
use lockstep_proto::site_list::SiteMode;

use super::desk::OperatorDesk;
use super::refusals::{given, invalid, refused};
use super::site_list::{Ability, at_epoch};
use crate::seams::refdb::{Role, SiteRecord};

const OBEYS_MODE: Ability =
    Ability { has: |digest| digest.obeys_mode, lacking: "does not know sites that are switched off" };

impl OperatorDesk {
    /// Changes the mode of a site, in one write of its record.
    pub(super) async fn switch(&self, actor: &str, site: &SiteId, request: ModeRequest) -> Result<(), ApiError> {
        given("reason", &request.reason)?;
        let (failover, view) = self.without_failover().await?;
        let Some(before) = view.record(site).filter(|one| !one.removed) else {
            return Err(invalid(&format!("site {site} is not in the refdb; `lockstep sites` lists the sites")));
        };
        at_epoch(site, before.epoch, request.expect_epoch)?;
        let active = view.sites.iter().find(|one| one.role == Role::Active && one.site != *site);
        let to = next(before, &request, active.map(|one| &one.site))?;
        if to.off {
            self.all_run(&view, &OBEYS_MODE, |_| true).await?;
        }
        let mode = request.mode.name();
        tracing::warn!(%site, mode, actor, reason = request.reason, "an operator changes the mode of a site");
        let change = self.site_change(actor, &request.reason, Some(before), &to);
        let entry = RoleChange { mode: Some(request.mode), ..change };
        self.noted(entry, Some(before), &to, failover).await
    }
}

/// The record of the site after the change. `active` is another site that takes writes. Beside one, the role of a site
/// that comes back has no default: a second active site would be a surprise.
fn next(before: &SiteRecord, request: &ModeRequest, active: Option<&SiteId>) -> Result<SiteRecord, ApiError> {
    let (site, epoch) = (&before.site, before.epoch + 1);
    match (request.mode, before.off, request.role) {
        (SiteMode::Off, true, _) => Err(refused(&format!("Lockstep is off at {site} already"))),
        (SiteMode::Off, false, Some(_)) => Err(invalid("role is given, and a site that is off has none; leave it out")),
        (SiteMode::Off, false, None) if before.role == Role::Draining => {
            Err(refused(&format!("{site} is draining; ask again when it is a standby")))
        }
        (SiteMode::Off, false, None) => {
            Ok(SiteRecord { role: Role::Fenced, off: true, left: epoch, epoch, ..before.clone() })
        }
        (SiteMode::Active, false, _) => Err(refused(&format!(
            "Lockstep is on at {site} already; `lockstep status` there shows why its nodes still wait"
        ))),
        (SiteMode::Active, true, Some(Role::Fenced | Role::Draining)) => {
            Err(invalid("role is set by a failover alone; give active or standby"))
        }
        (SiteMode::Active, true, role) => match (role, active) {
            (None, Some(other)) => Err(invalid(&format!(
                "role is missing, and {other} is active; give standby, or active if both sites shall take writes"
            ))),
            _ => Ok(SiteRecord { role: role.unwrap_or(Role::Active), off: false, epoch, ..before.clone() }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stays_when_the_site_is_switched_on_again() {
        let ask = |before: &SiteRecord, mode, role| {
            let request = ModeRequest { mode, role, expect_epoch: before.epoch, reason: "test".to_owned() };
            next(before, &request, None).map_err(|error| error.message)
        };
        let on = SiteRecord::new("a".parse().unwrap(), Role::Standby, 6);
        let off = ask(&on, SiteMode::Off, None).unwrap();
        assert_eq!((off.role, off.off, off.left, off.epoch), (Role::Fenced, true, 7, 7));
        assert!(ask(&off, SiteMode::Off, None).unwrap_err().contains("off at a already"));
        let back = ask(&off, SiteMode::Active, None).unwrap();
        assert_eq!((back.role, back.off, back.left, back.epoch), (Role::Active, false, 7, 8));
        let standby = ask(&off, SiteMode::Active, Some(Role::Standby)).unwrap();
        assert_eq!((standby.role, standby.off, standby.left), (Role::Standby, false, 7));
        assert!(ask(&back, SiteMode::Active, None).unwrap_err().contains("on at a already"));
        assert!(ask(&off, SiteMode::Active, Some(Role::Fenced)).is_err());
        assert!(ask(&on, SiteMode::Off, Some(Role::Standby)).is_err());
        assert!(ask(&SiteRecord { role: Role::Draining, ..on }, SiteMode::Off, None).is_err());
    }

    #[test]
    fn a_site_that_comes_back_beside_an_active_one_needs_a_role() {
        let ask = |role| {
            let off = SiteRecord { off: true, ..SiteRecord::new("a".parse().unwrap(), Role::Fenced, 7) };
            let request = ModeRequest { mode: SiteMode::Active, role, expect_epoch: 7, reason: "test".to_owned() };
            next(&off, &request, Some(&"b".parse().unwrap())).map(|to| to.role).map_err(|error| error.message)
        };
        let refused = ask(None).unwrap_err();
        assert!(refused.contains("role is missing, and b is active"), "{refused}");
        assert_eq!(ask(Some(Role::Standby)), Ok(Role::Standby));
        assert_eq!(ask(Some(Role::Active)), Ok(Role::Active));
    }
}
