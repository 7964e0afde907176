//! The refusal of a write at a site whose role forbids it. It names the site that takes writes, or that is about to.
//!
//! It is made anew for each write, from the roles and the failover that this node has read last.

use lockstep_proto::SiteId;
use lockstep_proto::bridge::{ApiError, RefusalCode};

use crate::seams::refdb::Role;
use crate::state::site_roles::SiteRoles;

/// A refusal of every write with this reason. `retry` is whether the same node may take the write soon.
pub(super) fn refused(retry: bool, why: &str) -> ApiError {
    let message = format!("this sidecar takes no commits now: {why}; nothing was changed");
    ApiError::new(RefusalCode::NotServing, retry, message)
}

/// The refusal at a site whose role forbids writes. A repeat at the same site helps only if the site has become active.
pub(super) fn refusal(roles: &SiteRoles, site: &SiteId) -> ApiError {
    if roles.of(site).is_some_and(|own| own.role == Role::Active) {
        return refused(true, &format!("site {site} is active, and this node takes writes in a moment; push again"));
    }
    let role = role(roles, site);
    let next = match (instead(roles), roles.takes_over()) {
        (Some(instead), _) => format!("; {instead}"),
        (None, Some(to)) => format!(", and site {to} takes over; push again in a moment"),
        (None, None) => ", and no site is active at the moment; push again later".to_owned(),
    };
    refused(false, &format!("the role of site {site} is {role}{next}"))
}

/// The role of a site, in the words of a refusal.
pub(super) fn role(roles: &SiteRoles, site: &SiteId) -> &'static str {
    roles.of(site).map_or("not known", |own| if own.off { "off" } else { own.role.name() })
}

/// The advice to write to the active sites. None if no site is active.
pub(super) fn instead(roles: &SiteRoles) -> Option<String> {
    let active: Vec<String> = roles.active().iter().map(ToString::to_string).collect();
    (!active.is_empty()).then(|| format!("write to {}, which is active", active.join(" or ")))
}

/// Whether the roles are about to change: the site is draining, and nobody is active yet.
pub(super) fn is_between(roles: &SiteRoles, site: &SiteId) -> bool {
    roles.of(site).is_some_and(|own| own.role == Role::Draining) && roles.active().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::refdb::SiteRecord;

    fn name(text: &str) -> SiteId {
        text.parse().unwrap()
    }

    fn told(roles: &SiteRoles, site: &str) -> (bool, String) {
        let error = refusal(roles, &name(site));
        assert_eq!(error.code, RefusalCode::NotServing);
        assert!(error.message.ends_with("; nothing was changed"), "{}", error.message);
        (error.retry, error.message)
    }

    #[test]
    fn a_refusal_names_the_site_that_takes_writes_or_takes_over_and_no_program_repeats_it() {
        let roles = SiteRoles::default();
        roles.note(vec![SiteRecord::new(name("a"), Role::Active, 1), SiteRecord::new(name("b"), Role::Standby, 1)]);
        let (retry, standby) = told(&roles, "b");
        assert!(!retry && standby.contains("the role of site b is standby; write to a, which is active"), "{standby}");
        roles.note(vec![SiteRecord::new(name("a"), Role::Draining, 2)]);
        assert!(is_between(&roles, &name("a")) && !is_between(&roles, &name("b")));
        let (retry, alone) = told(&roles, "a");
        assert!(!retry && alone.contains("no site is active at the moment; push again later"), "{alone}");
        roles.note_takeover(Some(name("b")));
        let (retry, draining) = told(&roles, "a");
        assert!(!retry && draining.contains("the role of site a is draining, and site b takes over; push again"));
        roles.note(vec![SiteRecord::new(name("b"), Role::Active, 2)]);
        assert!(!is_between(&roles, &name("a")));
        let (retry, after) = told(&roles, "a");
        assert!(!retry && after.contains("the role of site a is draining; write to b, which is active"), "{after}");
        let (retry, opening) = told(&roles, "b");
        assert!(retry && opening.contains("site b is active, and this node takes writes in a moment"), "{opening}");
    }

    #[test]
    fn a_site_that_is_switched_off_says_so() {
        let roles = SiteRoles::default();
        let off = SiteRecord { off: true, ..SiteRecord::new(name("a"), Role::Fenced, 2) };
        roles.note(vec![off, SiteRecord::new(name("b"), Role::Active, 1), SiteRecord::new(name("c"), Role::Active, 1)]);
        let (retry, off) = told(&roles, "a");
        assert!(!retry && off.contains("the role of site a is off; write to b or c, which is active"), "{off}");
    }
}
