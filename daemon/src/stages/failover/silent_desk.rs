//! The operators' requests about silent drills of this node.

use lockstep_proto::SiteId;
use lockstep_proto::bridge::ApiError;
use lockstep_proto::failover::Role;
use lockstep_proto::silent::{SilentBegun, SilentDrills, SilentFigures, SilentReport, SilentRequest};

use super::desk::OperatorDesk;
use super::drill_desk::reds;
use super::refusals::{given, refused, unanswered};
use super::silent::Asked;
use super::view::View;

impl OperatorDesk {
    /// The trend of silent drills, and the one of this node.
    pub(super) async fn silent_drills_now(&self) -> Result<SilentDrills, ApiError> {
        self.silent.all().await.map_err(unanswered)
    }

    /// Begins a silent drill of this node, unless something stands in its way.
    ///
    /// # Errors
    /// The request is malformed, the preflight is red, the site is no standby, another drill of this node is in
    /// progress, no copy can be made, or the refdb does not answer.
    pub(super) async fn begin_silent(&self, actor: &str, request: SilentRequest) -> Result<SilentBegun, ApiError> {
        given("reason", &request.reason)?;
        let claim = self.silent.claim().map_err(|running| {
            refused(&format!(
                "silent drill {} of this node is in progress ({}); wait for its end",
                running.id, running.doing
            ))
        })?;
        let from = self.may_begin().await?;
        let begun = claim.begun.clone();
        self.silent.begin(Asked { claim, actor: actor.to_owned(), reason: request.reason, from });
        Ok(begun)
    }

    /// Whether a silent drill may begin. Returns the active site over which the standby is promoted.
    async fn may_begin(&self) -> Result<SiteId, ApiError> {
        let (site, view) = (&self.silent.site, self.view().await?);
        let from = way(&view, site).map_err(|why| refused(&why))?;
        let preflight = self.look_before(site).await?;
        let red = reds(&preflight);
        if !red.is_empty() {
            return Err(refused(&format!("the preflight is red: {red}; see `lockstep preflight --to {site}`")));
        }
        let Some(copies) = &self.silent.copies else {
            return Err(refused("this node has no volume that could be copied"));
        };
        match copies.obstacle().await {
            Some(why) => Err(refused(&why)),
            None => Ok(from),
        }
    }

    /// Notes a silent drill that was due and was not begun.
    pub(super) async fn note_silent_refused(&self, why: &str) {
        let report = SilentReport {
            id: self.silent.new_id(),
            site: self.silent.site.clone(),
            node: self.silent.node.clone(),
            at_ms: self.silent.clock.now_ms(),
            actor: format!("schedule of {}", self.silent.node),
            reason: "scheduled".to_owned(),
            red: vec![format!("not begun: {why}")],
            notes: Vec::new(),
            figures: SilentFigures::default(),
        };
        self.silent.note(report).await;
    }
}

/// The active site over which a standby of `site` is promoted.
///
/// # Errors
/// The site is no standby, or there is no active one. The text names the remedy.
fn way(view: &View, site: &SiteId) -> Result<SiteId, String> {
    match view.role(site) {
        Some(Role::Standby) => {}
        role => {
            let role = role.map_or("not in the refdb", Role::name);
            return Err(format!("site {site} is {role}: a silent drill is of a node of a standby site; ask one there"));
        }
    }
    let active = view.sites.iter().find(|other| other.role == Role::Active);
    active
        .map(|other| other.site.clone())
        .ok_or_else(|| "no site is active, so there is nothing to take over".to_owned())
}
