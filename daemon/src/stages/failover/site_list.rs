//! The list of sites: adds and removes sites, as operators ask, and the older nodes that stand in the way.

use lockstep_proto::SiteId;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::history::RoleChange;
use lockstep_proto::overview::NodeDigest;
use lockstep_proto::site_list::{AddSiteRequest, ListChange, RemoveSiteRequest, StreamPlace, is_region};

use super::desk::OperatorDesk;
use super::digests;
use super::refusals::{given, invalid, refused, unanswered};
use super::view::View;
use crate::base::faults::injected_bug::InjectedBug;
use crate::seams::refdb::{NodeRecord, Role, SiteRecord};

/// The most nodes that a refusal names.
const NAMED: usize = 5;
/// The longest endpoint of a stream, in bytes. Every node reads it twice per second.
const LONGEST_ENDPOINT: usize = 255;

/// Something that a release can do since a while.
pub(super) struct Ability {
    /// Whether the node of a digest can do it.
    pub(super) has: fn(&NodeDigest) -> bool,
    /// The words for a release that cannot.
    pub(super) lacking: &'static str,
}

const FOLLOWS_LIST: Ability =
    Ability { has: |digest| digest.follows_list, lacking: "does not follow the list of sites" };

impl OperatorDesk {
    /// Adds a site to the list, as a standby.
    pub(super) async fn add(&self, actor: &str, site: &SiteId, request: AddSiteRequest) -> Result<(), ApiError> {
        given("reason", &request.reason)?;
        check_place(&request.stream)?;
        let (failover, view) = self.without_failover().await?;
        let before = view.record(site);
        if before.is_some_and(|one| !one.removed) || before.is_none() && self.roles.is_first(site) {
            return Err(refused(&format!("{site} is in the list of sites already")));
        }
        self.all_run(&view, &FOLLOWS_LIST, |_| true).await?;
        let (epoch, left) = before.map_or((1, 0), |one| (one.epoch + 1, one.left));
        let signed = view.sites.iter().any(|one| one.signed);
        let added = SiteRecord::new(site.clone(), Role::Standby, epoch);
        let to = SiteRecord { stream: request.stream, left, signed, ..added };
        tracing::warn!(%site, actor, reason = request.reason, "an operator adds a site to the list of sites");
        let change = self.site_change(actor, &request.reason, before, &to);
        let entry = RoleChange { list: Some(ListChange::Added), ..change };
        self.noted(entry, before, &to, failover).await
    }

    /// Removes a site from the list, if it is neither active nor able to commit anything any more.
    pub(super) async fn remove(&self, actor: &str, site: &SiteId, request: RemoveSiteRequest) -> Result<(), ApiError> {
        given("reason", &request.reason)?;
        let (failover, view) = self.without_failover().await?;
        let before = view.record(site);
        if before.is_some_and(|one| one.removed) {
            return Err(refused(&format!("{site} was removed from the list of sites already")));
        }
        if before.is_none() && !self.roles.is_first(site) {
            return Err(invalid(&format!("site {site} is not in the list; `lockstep sites` shows it")));
        }
        let epoch = before.map_or(0, |one| one.epoch);
        at_epoch(site, epoch, request.expect_epoch)?;
        let keeps_role = self.bugs.has(InjectedBug::RemovedWhileActive);
        if !keeps_role {
            may_leave(&view, site, before)?;
        }
        self.all_run(&view, &FOLLOWS_LIST, |node| node.site != *site).await?;
        let (role, epoch) = match before {
            Some(before) if keeps_role => (before.role, epoch + 1),
            _ => (Role::Fenced, epoch + 1),
        };
        let (stream, left) = before.map(|one| (one.stream.clone(), one.left)).unwrap_or_default();
        let signed = before.is_some_and(|one| one.signed);
        let to = SiteRecord { removed: true, stream, left, signed, ..SiteRecord::new(site.clone(), role, epoch) };
        tracing::warn!(%site, actor, reason = request.reason, "an operator removes a site from the list of sites");
        let change = self.site_change(actor, &request.reason, before, &to);
        let entry = RoleChange { list: Some(ListChange::Removed), ..change };
        self.noted(entry, before, &to, failover).await
    }

    /// Refuses a change while a node would not follow it.
    pub(super) async fn all_run(
        &self,
        view: &View,
        ability: &Ability,
        counts: impl Fn(&NodeRecord) -> bool,
    ) -> Result<(), ApiError> {
        let digests = digests::of(&self.refdb).await.map_err(unanswered)?;
        let follows =
            |node: &NodeRecord| digests.iter().any(|digest| digest.node == node.node && (ability.has)(digest));
        let older = view.nodes.iter().filter(|node| !node.expelled && view.lists(&node.site) && counts(node));
        let older: Vec<&str> = older.filter(|node| !follows(node)).map(|node| node.node.as_str()).collect();
        match older.is_empty() {
            true => Ok(()),
            false => Err(refused(&format!(
                "{} nodes run a release that {}, or have told nothing about themselves yet: {}{}; upgrade them, wait \
                 until `lockstep status --all` shows them, and ask again",
                older.len(),
                ability.lacking,
                older[..older.len().min(NAMED)].join(", "),
                if older.len() > NAMED { ", ..." } else { "" }
            ))),
        }
    }
}

/// Refuses a change of a site that has another epoch than its operator expects.
pub(super) fn at_epoch(site: &SiteId, epoch: u64, expected: u64) -> Result<(), ApiError> {
    match epoch == expected {
        true => Ok(()),
        false => Err(refused(&format!(
            "expect_epoch {expected} is not the epoch of {site}, which is {epoch}; look at it and ask again"
        ))),
    }
}

/// Refuses a place that is no Region or no endpoint. Every node will open it. An endpoint without TLS is on the node's
/// own machine: an emulator.
fn check_place(place: &StreamPlace) -> Result<(), ApiError> {
    if let Some(region) = place.region.as_deref().filter(|region| !is_region(region)) {
        return Err(invalid(&format!("stream.region {region:?} is no name of a Region: `eu-central-1` is one")));
    }
    let fits = |endpoint: &str| {
        let uri = endpoint.parse::<http::Uri>().ok().filter(|_| endpoint.len() <= LONGEST_ENDPOINT);
        uri.is_some_and(|uri| match (uri.scheme_str(), uri.host()) {
            (Some("https"), Some(_)) => true,
            (Some("http"), Some(host)) => ["127.0.0.1", "[::1]", "localhost"].contains(&host),
            _ => false,
        })
    };
    match place.endpoint.as_deref().filter(|endpoint| !fits(endpoint)) {
        Some(endpoint) => Err(invalid(&format!(
            "stream.endpoint {endpoint:?} cannot be used: write https://host:port, or http:// with a loopback address"
        ))),
        None => Ok(()),
    }
}

/// Refuses the removal of a site that commits, or in which something may still land.
fn may_leave(view: &View, site: &SiteId, before: Option<&SiteRecord>) -> Result<(), ApiError> {
    match before.map(|one| one.role) {
        Some(Role::Active) => {
            return Err(refused(&format!(
                "{site} is active; move its writes with `lockstep failover`, or make it a standby with `lockstep site \
                 role`, and ask again"
            )));
        }
        Some(Role::Draining) => return Err(refused(&format!("{site} is draining; ask again when it is a standby"))),
        Some(Role::Standby | Role::Fenced) | None => {}
    }
    let open: Vec<String> =
        view.of_site(site).filter(|one| one.may_commit()).map(|one| one.id.node.to_string()).collect();
    match open.is_empty() {
        true => Ok(()),
        false => Err(refused(&format!("{site} still ends the commits of {}; ask again in a moment", open.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_in_a_region_or_behind_tls() {
        let check = |region: Option<&str>, endpoint: Option<&str>| {
            let place = StreamPlace { region: region.map(str::to_owned), endpoint: endpoint.map(str::to_owned) };
            check_place(&place).map_err(|error| error.message)
        };
        for endpoint in [None, Some("https://k.example.org:4567"), Some("http://127.0.0.1:1"), Some("http://[::1]:1")] {
            assert_eq!(check(Some("eu-west-1"), endpoint), Ok(()));
        }
        for region in ["", "eu west", "eu-west-1.attacker.example", &"x".repeat(64)] {
            assert!(check(Some(region), None).unwrap_err().contains("stream.region"), "{region}");
        }
        for endpoint in ["", "k", "http://attacker.example", "http://127.0.0.1.attacker.example", "ftp://127.0.0.1"] {
            assert!(check(None, Some(endpoint)).unwrap_err().contains("stream.endpoint"), "{endpoint}");
        }
        assert!(check(None, Some(&format!("https://{}", "x".repeat(255)))).is_err());
    }
}
